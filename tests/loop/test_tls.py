"""TLS on our transports: asyncio's SSL protocol above, our stream transport below."""

from __future__ import annotations

import asyncio
import ssl
import sys

import pytest

from .certificates import make
from .support import SECONDS, Recorder


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """A server's and a client's context over one fresh self-signed certificate."""
    path = make(tmp_path_factory.mktemp("tls"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cafile=str(path))
    return server, client


async def start_echo(context):
    tasks = set()

    async def echo(reader, writer):
        tasks.add(asyncio.current_task())
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
    return server, tasks


async def stop(server, tasks):
    server.close()
    if tasks:
        await asyncio.wait(tasks, timeout=SECONDS)
    await server.wait_closed()


async def test_echo_over_tls(loop, contexts):
    server, tasks = await start_echo(contexts[0])
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address, ssl=contexts[1])
    for size in (1, 1000, 100_000, 2_000_000):
        data = bytes(number % 251 for number in range(size))
        writer.write(data)
        assert await reader.readexactly(size) == data
    assert writer.get_extra_info("ssl_object").version().startswith("TLS")
    assert writer.get_extra_info("peercert")["subject"]
    assert writer.get_extra_info("cipher")
    writer.close()
    await writer.wait_closed()
    await stop(server, tasks)


async def test_many_tls_clients_at_once(loop, contexts):
    server, tasks = await start_echo(contexts[0])
    address = server.sockets[0].getsockname()

    async def client(number):
        reader, writer = await asyncio.open_connection(*address, ssl=contexts[1])
        for turn in range(5):
            writer.write(b"%d-%d\n" % (number, turn))
            assert await reader.readline() == b"%d-%d\n" % (number, turn)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client(number) for number in range(20)))
    await stop(server, tasks)


async def test_a_certificate_that_is_not_trusted(loop, contexts, caught):
    server, tasks = await start_echo(contexts[0])
    address = server.sockets[0].getsockname()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(*address, ssl=ssl.create_default_context())
    await asyncio.sleep(0.01)
    await stop(server, tasks)
    caught.take()  # the server tells of the failed handshake in some versions


async def test_a_peer_that_does_not_speak_tls(loop, contexts):
    async def babble(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=contexts[1])
    await stop(server, set())


async def test_a_handshake_that_never_comes_times_out(loop, contexts):
    done = asyncio.Event()

    async def silent(reader, writer):
        await done.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    with pytest.raises(ConnectionAbortedError):
        await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=contexts[1], ssl_handshake_timeout=0.05
        )
    done.set()
    await asyncio.sleep(0.005)
    await stop(server, set())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="StreamWriter.start_tls is new in 3.11")
async def test_start_tls_with_streams_on_both_sides(loop, contexts):
    ended = asyncio.Event()

    async def upgrade(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"READY\n")
        await writer.drain()
        await writer.start_tls(contexts[0])
        writer.write(b"secret " + await reader.readline())
        await writer.drain()
        writer.close()
        ended.set()

    server = await asyncio.start_server(upgrade, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"READY\n"
    await writer.start_tls(contexts[1], server_hostname="localhost")
    writer.write(b"hello\n")
    assert await reader.readline() == b"secret hello\n"
    await ended.wait()
    writer.close()
    await writer.wait_closed()
    await stop(server, set())


# SSLProtocol of 3.10 forgets that its transport was closed.
@pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning")
async def test_start_tls_of_the_loop(loop, contexts):
    """The lower interface: the transport changes its protocol under way."""
    server_side = loop.create_future()

    class Accepting(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            server_side.set_result(self)

    server = await loop.create_server(Accepting, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    plain, client = await loop.create_connection(Recorder, *address)
    accepted = await server_side
    ours, theirs = await asyncio.gather(
        loop.start_tls(plain, client, contexts[1], server_hostname="localhost"),
        loop.start_tls(accepted.transport, accepted, contexts[0], server_side=True),
    )
    ours.write(b"to the server")
    assert await accepted.got(13) == b"to the server"
    theirs.write(b"to the client")
    assert await client.got(13) == b"to the client"
    ours.close()
    await client.lost()
    await accepted.lost()
    await stop(server, set())


@pytest.mark.ours
async def test_a_registered_protocol_over_tls(loop, contexts):
    import zerio_asyncio

    class Viewing(zerio_asyncio.RegisteredProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def view_received(self, view):
            self.transport.write(view)

    server = await loop.create_server(Viewing, "127.0.0.1", 0, ssl=contexts[0])
    host, port = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(host, port, ssl=contexts[1])
    for size in (1, 5000, 300_000):
        writer.write(bytes(size))
        assert await reader.readexactly(size) == bytes(size)
    writer.close()
    await writer.wait_closed()
    await stop(server, set())
