"""Unix stream sockets: servers, clients, abstract names, and the files they leave."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import pytest

from .marks import with_unix_sockets
from .support import Recorder, connect_unix, shut

pytestmark = with_unix_sockets


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ask(path, data=b"hello"):
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "socket")


async def test_a_server_and_a_client_at_a_path(loop, path):
    server = await asyncio.start_unix_server(echo, path)
    assert await ask(path) == b"hello"
    assert await ask(path, b"x" * 1_000_000) == b"x" * 1_000_000
    server.close()
    await server.wait_closed()


async def test_path_like_objects(loop, tmp_path):
    server = await asyncio.start_unix_server(echo, tmp_path / "socket")
    assert await ask(str(tmp_path / "socket")) == b"hello"
    server.close()
    await server.wait_closed()


async def test_a_stale_file_is_replaced(loop, path):
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    server = await asyncio.start_unix_server(echo, path)
    assert await ask(path) == b"hello"
    server.close()
    await server.wait_closed()


async def test_a_path_that_is_served_is_taken_over_as_asyncio_does(loop, path):
    first = await asyncio.start_unix_server(echo, path)
    second = await asyncio.start_unix_server(echo, path)
    assert await ask(path) == b"hello"
    for server in (first, second):
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("wanted", [True, False, None])
async def test_the_file_goes_with_its_server(loop, kind, path, wanted):
    if kind == "std" and wanted is not None and sys.version_info < (3, 13):
        pytest.skip("cleanup_socket= is new in 3.13 there")
    options = {} if wanted is None else {"cleanup_socket": wanted}
    goes = sys.version_info >= (3, 13) if wanted is None else wanted
    server = await loop.create_unix_server(Recorder, path, **options)
    assert os.path.exists(path)
    server.close()
    await server.wait_closed()
    assert os.path.exists(path) != goes


@pytest.mark.ours  # asyncio has it from 3.13 on
async def test_the_file_of_another_server_stays(loop, path):
    first = await loop.create_unix_server(Recorder, path, cleanup_socket=True)
    second = await loop.create_unix_server(Recorder, path, cleanup_socket=True)
    first.close()
    await first.wait_closed()
    assert os.path.exists(path)
    os.unlink(path)
    second.close()
    await second.wait_closed()


@pytest.mark.parametrize("as_bytes", [False, True])
async def test_abstract_names(loop, as_bytes):
    name = f"\0zerio-test-{os.getpid()}"
    server = await asyncio.start_unix_server(echo, name.encode() if as_bytes else name)
    assert await ask(name.encode() if as_bytes else name) == b"hello"
    server.close()
    await server.wait_closed()


async def test_sockets_of_the_users(loop, path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    server = await asyncio.start_unix_server(echo, sock=sock)
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    reader, writer = await asyncio.open_unix_connection(sock=client)
    writer.write(b"own")
    assert await reader.read(10) == b"own"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_a_connected_pair(loop):
    transport, recorder, peer = await connect_unix(Recorder)
    await peer.send(b"pair")
    assert await recorder.got(4) == b"pair"
    await shut(transport, recorder, peer)


async def test_names(loop, path):
    server = await asyncio.start_unix_server(echo, path)
    _, writer = await asyncio.open_unix_connection(path)
    assert writer.get_extra_info("peername") == path
    assert writer.get_extra_info("sockname") == ""
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_nobody_listens(loop, path):
    with pytest.raises(FileNotFoundError):
        await asyncio.open_unix_connection(path)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_unix_connection(path)


@pytest.mark.parametrize(
    "options",
    [{}, {"path": "x", "sock": True}, {"path": "x", "server_hostname": "name"}],
    ids=["nothing", "both", "hostname without ssl"],
)
async def test_impossible_clients(loop, options):
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ValueError, match=" "):
        if options.get("sock"):
            options = {**options, "sock": sock}
        await loop.create_unix_connection(Recorder, **options)


async def test_a_tcp_socket_is_no_unix_socket(loop):
    with socket.socket() as sock:
        with pytest.raises(ValueError, match="UNIX"):
            await loop.create_unix_connection(Recorder, sock=sock)
        with pytest.raises(ValueError, match="UNIX"):
            await loop.create_unix_server(Recorder, sock=sock)


async def test_a_path_that_is_too_long(loop, tmp_path):
    with pytest.raises(OSError, match="too long"):
        await loop.create_unix_server(Recorder, str(tmp_path / ("x" * 200)))


async def test_a_path_that_is_a_plain_file(loop, path):
    with open(path, "w") as file:
        file.write("precious")
    with pytest.raises(OSError, match="in use"):
        await loop.create_unix_server(Recorder, path)
    with open(path) as file:
        assert file.read() == "precious"
