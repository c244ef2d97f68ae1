"""get_extra_info and the socket options of new connections."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from .marks import beyond_proactor, with_unix_sockets
from .support import Recorder, connect, connect_unix, shut


async def test_the_keys_that_asyncio_has(loop):
    transport, recorder, peer = await connect(Recorder)
    sock = transport.get_extra_info("socket")
    assert transport.get_extra_info("sockname") == peer.sock.getpeername() == sock.getsockname()
    assert transport.get_extra_info("peername") == peer.sock.getsockname() == sock.getpeername()
    assert sock.family == socket.AF_INET
    assert sock.type == socket.SOCK_STREAM
    assert sock.fileno() >= 0
    assert sock.gettimeout() == 0
    assert transport.get_extra_info("sslcontext") is None
    assert transport.get_extra_info("nothing of that name") is None
    assert transport.get_extra_info("nothing of that name", 7) == 7
    assert transport.get_extra_info("socket", 7) is not 7  # noqa: F632
    await shut(transport, recorder, peer)


async def test_names_stay_known_after_the_end(loop):
    transport, recorder, peer = await connect(Recorder)
    name = transport.get_extra_info("peername")
    await shut(transport, recorder, peer)
    assert transport.get_extra_info("peername") == name
    assert transport.get_extra_info("sockname") is not None


async def test_the_socket_can_be_asked_and_set_but_not_used(loop):
    transport, recorder, peer = await connect(Recorder)
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 100_000
    if sys.version_info >= (3, 11):  # before, they were there and warned
        for forbidden in ("recv", "send", "close", "makefile"):
            assert not hasattr(sock, forbidden)
    await shut(transport, recorder, peer)


@with_unix_sockets
async def test_unix_connections_have_names_too(loop):
    transport, recorder, peer = await connect_unix(Recorder)
    assert transport.get_extra_info("sockname") == ""
    assert transport.get_extra_info("peername") == ""
    assert transport.get_extra_info("socket").family == socket.AF_UNIX
    await shut(transport, recorder, peer)


def no_delay(sock) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_tcp_connections_do_not_delay(loop):
    transport, recorder, peer = await connect(Recorder)
    assert no_delay(transport.get_extra_info("socket")) == 1
    await shut(transport, recorder, peer)


async def accept_one(loop, **options):
    made = loop.create_future()

    class Telling(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            made.set_result(self)

    server = await loop.create_server(Telling, "127.0.0.1", 0, **options)
    with socket.create_connection(server.sockets[0].getsockname()):
        recorder = await made
        sock = recorder.transport.get_extra_info("socket")
        delay = no_delay(sock)
        alive = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        recorder.transport.abort()
        await recorder.lost()
    server.close()
    await server.wait_closed()
    return delay, alive


@beyond_proactor
async def test_accepted_connections_do_not_delay_nor_keep_alive_by_themselves(loop):
    assert await accept_one(loop) == (1, 0)


@pytest.mark.skipif(sys.version_info < (3, 13, 5), reason="keep_alive= came with 3.13.5 and 3.14")
async def test_keep_alive_is_set_where_asked(loop):
    assert await accept_one(loop, keep_alive=True) == (1, 1)


async def test_the_transport_is_an_asyncio_transport(loop):
    transport, recorder, peer = await connect(Recorder)
    assert isinstance(transport, asyncio.Transport)
    assert not transport.is_closing()
    await shut(transport, recorder, peer)
