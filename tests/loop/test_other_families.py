"""Stream sockets of families that no provider carries: the standard library's transports serve.

AF_VSOCK is one. Few machines have a way to connect such sockets to themselves, so the tests that
need a peer take Unix sockets under AF_VSOCK's number: Python and a loop go by what they are told.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from .marks import with_unix_sockets
from .support import SECONDS, Peer, Recorder, receive_exactly, shut

pytestmark = with_unix_sockets

AF_VSOCK = getattr(socket, "AF_VSOCK", 40)


def foreign(sock: socket.socket) -> socket.socket:
    """The same socket, said to be of another family."""
    made = socket.socket(AF_VSOCK, sock.type, sock.proto, fileno=sock.detach())
    assert made.family == AF_VSOCK
    return made


def pair() -> tuple[socket.socket, Peer]:
    ours, theirs = socket.socketpair()
    return foreign(ours), Peer(theirs)


def listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    return foreign(sock)


def client_of(path: Path) -> Peer:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(str(path))
    except BaseException:
        sock.close()
        raise
    return Peer(sock)


async def talk(transport, recorder, peer):
    await peer.send(b"there")
    assert await recorder.got(5) == b"there"
    size = 3_000_000
    transport.write(b"b" * size)
    assert await peer.receive_exactly(size) == b"b" * size


@pytest.mark.parametrize("how", ["create_connection", "connect_accepted_socket"])
async def test_a_connection(loop, how):
    ours, peer = pair()
    if how == "create_connection":
        transport, recorder = await loop.create_connection(Recorder, sock=ours)
    else:
        transport, recorder = await loop.connect_accepted_socket(Recorder, ours)
    await talk(transport, recorder, peer)
    await shut(transport, recorder, peer)


async def test_a_real_one_that_is_not_connected(loop):
    """What the system says of a socket without a peer comes from the socket, not from us."""
    try:
        sock = socket.socket(AF_VSOCK, socket.SOCK_STREAM)
    except OSError as refusal:
        pytest.skip(f"no AF_VSOCK here: {refusal}")
    sock.setblocking(False)
    transport, recorder = await loop.create_connection(Recorder, sock=sock)
    transport.abort()
    await recorder.lost()


async def test_streams(loop):
    ours, peer = pair()
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(b"line\n")
    await writer.drain()
    assert await peer.receive_exactly(5) == b"line\n"
    await peer.send(b"answer\n")
    assert await reader.readline() == b"answer\n"
    writer.close()
    await writer.wait_closed()
    peer.close()


async def test_a_server(loop, tmp_path):
    made = []

    def factory():
        made.append(Recorder())
        return made[-1]

    server = await loop.create_server(factory, sock=listening(tmp_path / "here"))
    for _ in range(3):
        peer = client_of(tmp_path / "here")
        await peer.send(b"x")
        while not made or not made[-1].received:
            await asyncio.sleep(0.001)
        await talk_back(made[-1], peer)
        made.clear()
    server.close()
    await server.wait_closed()
    with pytest.raises(OSError, match="refused|No such file"):
        client_of(tmp_path / "here").close()


async def talk_back(recorder, peer):
    recorder.transport.write(b"y")
    assert await peer.receive() == b"y"
    peer.close()
    await recorder.lost()


@pytest.mark.ours
async def test_a_servers_factory_that_raises(loop, caught, tmp_path):
    """As on every listener: told, and the connection closed."""

    def factory():
        raise LookupError

    server = await loop.create_server(factory, sock=listening(tmp_path / "here"))
    for _ in range(2):
        peer = client_of(tmp_path / "here")
        assert await peer.receive_all() == b""
        peer.close()
        caught.take_one(LookupError)
    server.close()
    await server.wait_closed()


async def test_tls(loop, contexts, tmp_path):
    async def serve(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, sock=listening(tmp_path / "here"), ssl=contexts[0])
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(tmp_path / "here"))
    reader, writer = await asyncio.open_connection(
        sock=foreign(sock), ssl=contexts[1], server_hostname="localhost"
    )
    writer.write(b"secret\n")
    assert await asyncio.wait_for(reader.readline(), SECONDS) == b"secret\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_a_file(loop, tmp_path):
    ours, peer = pair()
    path = tmp_path / "file"
    path.write_bytes(b"f" * 2_000_000)
    transport, recorder = await loop.create_connection(Recorder, sock=ours)
    receiving = asyncio.create_task(asyncio.to_thread(receive_exactly, peer.sock, 2_000_002))
    transport.write(b"<")
    with path.open("rb") as file:
        assert await loop.sendfile(transport, file) == 2_000_000
    transport.write(b">")
    assert await receiving == b"<" + b"f" * 2_000_000 + b">"
    await shut(transport, recorder, peer)
