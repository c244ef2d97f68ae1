"""Wrong arguments get the exception that asyncio's users expect, and nothing is left behind."""

from __future__ import annotations

import asyncio
import socket

import pytest

from .support import Recorder, connect, shut


class NoSocket:
    """Looks a little like a socket, and is none."""

    def __init__(self, number=-1):
        self.number = number
        self.family = socket.AF_INET
        self.type = socket.SOCK_STREAM

    def fileno(self):
        return self.number


async def test_a_closed_socket_for_a_connection(loop):
    sock = socket.socket()
    sock.close()
    with pytest.raises((OSError, ValueError)):
        await loop.create_connection(Recorder, sock=sock)


async def test_a_closed_socket_for_a_server(loop):
    sock = socket.socket()
    sock.close()
    with pytest.raises((OSError, ValueError)):
        await loop.create_server(Recorder, sock=sock)


@pytest.mark.parametrize("wrong", ["socket", 5, object()])
async def test_things_that_are_no_sockets(loop, wrong):
    with pytest.raises((TypeError, AttributeError, ValueError)):
        await loop.create_connection(Recorder, sock=wrong)
    with pytest.raises((TypeError, AttributeError, ValueError)):
        await loop.create_server(Recorder, sock=wrong)


async def test_a_foreign_object_with_a_bad_number(loop):
    with pytest.raises((TypeError, AttributeError, ValueError, OSError)):
        await loop.create_connection(Recorder, sock=NoSocket())


@pytest.mark.parametrize("wrong", [1.5, [], {}])
async def test_hosts_of_a_wrong_type(loop, wrong):
    with pytest.raises((TypeError, AttributeError)):
        await loop.create_connection(Recorder, wrong, 80)


async def test_a_factory_that_is_not_callable(loop):
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        with pytest.raises(TypeError):
            await loop.create_connection(None, sock=ours)
        ours.close()


async def test_buffer_limits_of_a_wrong_type(loop):
    transport, recorder, peer = await connect(Recorder)
    with pytest.raises(TypeError):
        transport.set_write_buffer_limits(high="much")
    await shut(transport, recorder, peer)


@pytest.mark.ours
def test_core_classes_cannot_be_misused_into_a_crash(loop):
    """Cython classes made without their loop must refuse, not fault."""
    from zerio_asyncio.core import stream

    for make in (
        lambda: stream.StreamTransport(),
        lambda: stream.StreamTransport(None, None, None),
        lambda: stream.StreamTransport(loop, None, Recorder()),
        lambda: stream.StreamTransport(loop, NoSocket(), Recorder()),
    ):
        with pytest.raises((TypeError, AttributeError, ValueError, OSError)):
            make()


@pytest.mark.ours
def test_transports_that_never_began_are_quiet(loop):
    from zerio_asyncio.core import stream

    bare = stream.StreamTransport.__new__(stream.StreamTransport)
    for use in ("close", "abort", "is_closing", "pause_reading", "get_write_buffer_size"):
        try:
            getattr(bare, use)()
        except (RuntimeError, AttributeError, TypeError):
            pass  # refusing is fine, crashing is not
    repr(bare)
    del bare


async def test_call_soon_of_something_not_callable_fails_in_its_turn(loop, caught):
    try:
        loop.call_soon(5)
    except TypeError:
        return  # refused at once is as good
    await asyncio.sleep(0)
    caught.take_one(TypeError)


def test_run_until_complete_of_something_not_awaitable(loop):
    with pytest.raises(TypeError):
        loop.run_until_complete(5)


def test_create_task_of_something_not_a_coroutine(loop):
    with pytest.raises(TypeError):
        loop.create_task(5)
