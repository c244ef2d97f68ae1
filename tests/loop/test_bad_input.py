"""Wrong arguments get the exception that asyncio's users expect, and nothing is left behind."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest

from .support import Recorder, connect, make_loop, shut


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


REFUSED = [
    ("create_connection", {"nonsense": 1}),
    ("create_connection", {"host": "127.0.0.1", "port": 1, "reuse_port": True}),
    ("create_connection", {"server_hostname": "name"}),
    ("create_server", {"nonsense": 1}),
    ("create_server", {"host": "127.0.0.1", "port": 0, "local_addr": ("127.0.0.1", 0)}),
    ("create_server", {"host": "127.0.0.1", "port": 0, "ssl": True}),
    ("create_server", {"host": "127.0.0.1", "port": 0, "ssl_handshake_timeout": "soon"}),
    ("create_server", {"host": "127.0.0.1", "port": 0, "ssl_handshake_timeout": 0}),
    ("create_server", {"host": "127.0.0.1", "port": 0, "ssl_shutdown_timeout": 1}),
    ("create_unix_server", {}),
    ("create_unix_server", {"nonsense": 1}),
    ("create_unix_server", {"path": "here", "reuse_address": True}),
    ("create_unix_server", {"path": "here", "reuse_port": True}),
    ("create_unix_server", {"path": "here", "host": "127.0.0.1"}),
    ("create_unix_server", {"path": "here", "mode": 0o600}),
    ("create_unix_server", {"path": "here", "ssl": True}),
    ("create_unix_server", {"path": "here", "ssl_handshake_timeout": 1}),
    ("create_unix_server", {"path": "here", "ssl_shutdown_timeout": 1}),
    ("create_unix_connection", {}),
    ("create_unix_connection", {"path": "here", "local_addr": "there"}),
    ("create_datagram_endpoint", {}),
    ("create_datagram_endpoint", {"nonsense": 1}),
    ("create_datagram_endpoint", {"local_addr": ("127.0.0.1", 0), "reuse_address": True}),
    ("create_datagram_endpoint", {"local_addr": "127.0.0.1", "family": socket.AF_INET}),
    ("create_datagram_endpoint", {"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 1)}),
    ("create_datagram_endpoint", {"local_addr": ("127.0.0.1", 0), "backlog": 1}),
    ("connect_accepted_socket", {}),
    ("start_tls", {}),
]


@pytest.mark.ours
@pytest.mark.parametrize(("method", "options"), REFUSED, ids=str)
async def test_what_this_pythons_asyncio_refuses_is_refused_in_its_words(loop, method, options):
    """Newer arguments, and those of another method, as the loop of this very Python does."""
    standard = make_loop("std")
    try:
        theirs = await asyncio.to_thread(refusal_of, standard, method, options)
    finally:
        standard.close()
    with pytest.raises(type(theirs)) as ours:
        await getattr(loop, method)(Recorder, **options)
    assert named_alike(ours.value) == named_alike(theirs)


def refusal_of(loop, method, options):
    refusals = TypeError, ValueError, AssertionError, NotImplementedError
    with pytest.raises(refusals) as refusal:
        loop.run_until_complete(getattr(loop, method)(Recorder, **options))
    return refusal.value


def named_alike(refusal):
    """The words, without the class whose method it was."""
    return re.sub(r"\b\w+\.(\w+\(\))", r"\1", str(refusal))
