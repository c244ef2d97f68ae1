"""asyncio's private names on transports, for libraries that read them."""

from __future__ import annotations

import asyncio
import socket

import pytest

from .marks import beyond_proactor
from .support import WINDOWS

pytestmark = beyond_proactor


@pytest.fixture
def ends():
    two = socket.socketpair()
    for sock in two:
        sock.setblocking(False)
    yield two
    for sock in two:
        sock.close()


async def test_what_is_read_of_a_connection(loop, ends):
    transport, protocol = await loop.create_connection(asyncio.Protocol, sock=ends[0])
    assert transport._loop is loop
    assert transport._protocol is protocol
    assert transport._sock is ends[0]
    assert transport._sock_fd == ends[0].fileno()
    assert transport._conn_lost == 0
    assert transport._extra["socket"].fileno() == ends[0].fileno()
    assert not transport._closing
    assert not transport._buffer
    transport.abort()
    assert transport._closing
    assert transport._conn_lost > 0
    number = ends[0].fileno()
    await asyncio.sleep(0.001)
    assert transport._sock is None
    assert transport._protocol is None
    if number >= 0:
        assert transport._sock_fd == number


async def test_what_is_unsent_is_shown(loop, ends):
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ends[0])
    data = bytes(range(256)) * 40_000
    transport.write(data)
    transport.write(b"end")
    buffer = transport._buffer  # in pieces from 3.12 on
    unsent = bytes(buffer) if isinstance(buffer, (bytes, bytearray)) else b"".join(buffer)
    assert 0 < len(unsent) == transport.get_write_buffer_size()
    assert (data + b"end").endswith(unsent)
    transport.abort()
    await asyncio.sleep(0.001)


async def test_another_protocol_by_its_private_name(loop, ends):
    """As programs do that were written before set_protocol."""

    class Remembering(asyncio.Protocol):
        def __init__(self):
            self.got = loop.create_future()

        def data_received(self, data):
            self.got.set_result(data)

    transport, first = await loop.create_connection(Remembering, sock=ends[0])
    second = Remembering()
    transport._protocol = second
    assert transport.get_protocol() is second
    ends[1].send(b"for the second")
    assert await second.got == b"for the second"
    assert not first.got.done()
    transport.abort()
    await asyncio.sleep(0.001)


@pytest.mark.ours
async def test_what_cannot_be_set_says_so(loop, ends):
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ends[0])
    for name in ("_sock", "_sock_fd", "_conn_lost", "_buffer", "_loop", "_extra"):
        with pytest.raises(AttributeError):
            setattr(transport, name, None)
    transport.abort()
    await asyncio.sleep(0.001)


@pytest.mark.ours
@pytest.mark.skipif(WINDOWS, reason="the names are the selector transport's")
async def test_datagrams_name_the_public_way(loop):
    transport, protocol = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    assert transport._sock_fd == transport.get_extra_info("socket").fileno()
    assert transport._protocol is protocol
    assert transport._conn_lost == 0
    with pytest.raises(AttributeError, match="get_write_buffer_size"):
        transport._buffer  # noqa: B018
    transport.abort()
    await asyncio.sleep(0.001)
