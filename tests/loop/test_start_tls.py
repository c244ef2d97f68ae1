"""start_tls: a connection turns to TLS under way, on either side, and over TLS once more."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys

import pytest

from .marks import MAKERS
from .support import SECONDS, Recorder, connect, listener, receive_exactly, shut
from .tls import close, echo, end_properly, forgetful, serving

tls_over_tls = pytest.mark.skipif(sys.version_info < (3, 11), reason="TLS over TLS is new in 3.11")

pytestmark = [forgetful, pytest.mark.tls]


async def end(transport, recorder):
    transport.abort()
    await recorder.lost()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="StreamWriter.start_tls is new in 3.11")
async def test_streams_on_both_sides(loop, contexts):
    async def upgrade(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"READY\n")
        await writer.drain()
        await writer.start_tls(contexts[0])
        writer.write(b"secret " + await reader.readline())
        await writer.drain()

    async with serving(upgrade, None) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"READY\n"
        await writer.start_tls(contexts[1], server_hostname="localhost")
        writer.write(b"hello\n")
        assert await reader.readline() == b"secret hello\n"
        assert writer.get_extra_info("cipher")
        await close(writer)


@pytest.mark.ours  # CPython from 3.13.12 and 3.14.3 on
async def test_a_reader_that_holds_the_first_bytes_of_the_handshake(loop, contexts):
    """The client begins at once; the server's program comes to it later."""

    async def upgrade(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        while not reader._buffer:
            await asyncio.sleep(0.001)
        transport = await loop.start_tls(
            writer.transport, writer.transport.get_protocol(), contexts[0], server_side=True
        )
        reader._transport = transport
        transport.write(b"secret " + await reader.readline())

    def client(address):
        with socket.create_connection(address, SECONDS) as sock:
            sock.sendall(b"STARTTLS\n")
            with contexts[1].wrap_socket(sock, server_hostname="localhost") as secure:
                secure.sendall(b"hello\n")
                return secure.recv(100)

    async with serving(upgrade, None) as address:
        assert await asyncio.to_thread(client, address) == b"secret hello\n"


async def test_both_sides_on_one_loop(loop, contexts):
    """The lower interface: the transport changes its protocol under way."""
    server_side = loop.create_future()

    class Accepting(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            server_side.set_result(self)

    server = await loop.create_server(Accepting, "127.0.0.1", 0)
    plain, client = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
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
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("server_side", [True, False])
@pytest.mark.parametrize("make", MAKERS)
async def test_with_a_plain_peer(loop, contexts, server_side, make):
    """A blocking TLS socket in a thread is the other side, client or server."""
    transport, recorder, peer = await make(Recorder)

    def talk():
        options = {"server_hostname": "localhost"} if server_side else {"server_side": True}
        with contexts[server_side].wrap_socket(peer.sock, **options) as sock:
            sock.sendall(receive_exactly(sock, 200_000)[::-1])
            end_properly(sock)

    talking = asyncio.ensure_future(asyncio.to_thread(talk))
    options = {"server_side": True} if server_side else {"server_hostname": "localhost"}
    secure = await loop.start_tls(transport, recorder, contexts[not server_side], **options)
    data = bytes(range(200)) * 1000
    secure.write(data)
    assert await recorder.got(len(data)) == data[::-1]
    await talking
    await recorder.lost()
    assert recorder.calls[0] == "connection_made"
    assert recorder.calls.count("connection_made") == 1


async def test_what_is_in_flight_before_it_stays_in_the_clear(loop, contexts):
    """Written before start_tls, not yet sent: it goes first, unencrypted."""
    transport, recorder, peer = await connect(Recorder)

    def talk():
        head = receive_exactly(peer.sock, 100_000)
        with contexts[0].wrap_socket(peer.sock, server_side=True) as sock:
            return head, receive_exactly(sock, 5)

    transport.write(b"c" * 100_000)
    talking = asyncio.ensure_future(asyncio.to_thread(talk))
    secure = await loop.start_tls(transport, recorder, contexts[1], server_hostname="localhost")
    secure.write(b"after")
    assert await talking == (b"c" * 100_000, b"after")
    await end(secure, recorder)


async def test_a_transport_whose_reading_was_paused(loop, contexts):
    transport, recorder, peer = await connect(Recorder)
    transport.pause_reading()

    def talk():
        with contexts[0].wrap_socket(peer.sock, server_side=True) as sock:
            sock.sendall(b"hello")
            return receive_exactly(sock, 3)

    talking = asyncio.ensure_future(asyncio.to_thread(talk))
    secure = await loop.start_tls(transport, recorder, contexts[1], server_hostname="localhost")
    assert await recorder.got(5) == b"hello"
    secure.write(b"bye")
    assert await talking == b"bye"
    await end(secure, recorder)


async def test_a_peer_that_refuses(loop, contexts):
    transport, recorder, peer = await connect(Recorder)
    starting = asyncio.ensure_future(
        loop.start_tls(transport, recorder, contexts[1], server_hostname="localhost")
    )
    await peer.receive()
    await peer.send(b"454 TLS not available\r\n")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await starting
    assert transport.is_closing()
    peer.close()


async def test_a_certificate_of_another_name(loop, contexts):
    transport, recorder, peer = await connect(Recorder)

    def talk():
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with contexts[0].wrap_socket(peer.sock, server_side=True) as sock:
                if not sock.recv(1):
                    raise ConnectionError("ended")

    talking = asyncio.ensure_future(asyncio.to_thread(talk))
    with pytest.raises(ssl.SSLCertVerificationError):
        await loop.start_tls(transport, recorder, contexts[1], server_hostname="other.test")
    await talking


async def test_a_handshake_that_never_comes(loop, contexts):
    transport, recorder, peer = await connect(Recorder)
    with pytest.raises(ConnectionAbortedError):
        await loop.start_tls(
            transport, recorder, contexts[0], server_side=True, ssl_handshake_timeout=0.05
        )
    assert transport.is_closing()
    assert await peer.receive() == b""
    peer.close()


async def test_cancelled(loop, contexts):
    transport, recorder, peer = await connect(Recorder)
    starting = asyncio.ensure_future(
        loop.start_tls(transport, recorder, contexts[0], server_side=True)
    )
    await asyncio.sleep(0.005)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert transport.is_closing()
    assert await peer.receive() == b""
    peer.close()


@pytest.mark.ours  # asyncio's streams hang
@pytest.mark.parametrize("how", ["cancelled", "timed out", "no TLS", "gone"])
@pytest.mark.parametrize("server_side", [True, False])
async def test_streams_end_with_a_failed_handshake(loop, contexts, how, server_side):
    with listener() as server:
        reader, writer = await asyncio.open_connection(*server.getsockname())
        sock, _ = server.accept()
    with sock:
        options = {"ssl_handshake_timeout": 0.05} if how == "timed out" else {}
        if not server_side:
            options["server_hostname"] = "localhost"
        turning = loop.create_task(
            loop.start_tls(
                writer.transport,
                writer.transport.get_protocol(),
                contexts[0 if server_side else 1],
                server_side=server_side,
                **options,
            )
        )
        await asyncio.sleep(0.01)
        if how == "cancelled":
            turning.cancel()
        elif how == "no TLS":
            sock.sendall(b"I know no TLS\n" * 10)
        elif how == "gone":
            sock.close()
        with pytest.raises((asyncio.CancelledError, OSError)):
            await turning
        with contextlib.suppress(OSError):
            assert await asyncio.wait_for(reader.read(), SECONDS) == b""
        writer.close()
        with contextlib.suppress(OSError):
            await asyncio.wait_for(writer.wait_closed(), SECONDS)


@pytest.mark.ours  # asyncio takes NaN, and never looks at what a server is given
@pytest.mark.parametrize(
    ("value", "error"),
    [(float("nan"), ValueError), (0, ValueError), (-1, ValueError), ("soon", TypeError)],
)
@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
async def test_time_outs_that_are_none(loop, contexts, name, value, error):
    if name == "ssl_shutdown_timeout" and sys.version_info < (3, 11):
        pytest.skip("ssl_shutdown_timeout is new in 3.11")
    options = {name: value}
    words = f"{name} should be a positive number" if error is ValueError else "not supported"
    with listener() as server:
        with pytest.raises(error, match=words):
            await loop.create_connection(
                Recorder, *server.getsockname(), ssl=contexts[1], **options
            )
        with pytest.raises(error, match=words):
            await loop.create_server(Recorder, "127.0.0.1", 0, ssl=contexts[0], **options)
    transport, recorder, peer = await connect(Recorder)
    with pytest.raises(error, match=words):
        await loop.start_tls(transport, recorder, contexts[0], server_side=True, **options)
    await peer.send(b"in the clear")
    assert await recorder.got(12) == b"in the clear"
    await shut(transport, recorder, peer)


async def test_what_cannot_be_turned(loop, contexts):
    transport, recorder, peer = await connect(Recorder)
    with pytest.raises(TypeError):
        await loop.start_tls(transport, recorder, None)
    with pytest.raises(TypeError):
        await loop.start_tls(transport, recorder, "no context")
    with pytest.raises(TypeError):
        await loop.start_tls(asyncio.Transport(), recorder, contexts[1])
    transport.write(b"unharmed")
    assert await peer.receive_exactly(8) == b"unharmed"
    await shut(transport, recorder, peer)


@pytest.mark.ours
async def test_a_registered_protocol(loop, contexts):
    """It gets views before and after, of its slice and then of what was decrypted."""
    from .support import registered_recorder

    transport, recorder, peer = await connect(registered_recorder)
    await peer.send(b"clear")
    assert await recorder.got(5) == b"clear"

    def talk():
        with contexts[0].wrap_socket(peer.sock, server_side=True) as sock:
            sock.sendall(b" and secret")
            return receive_exactly(sock, 3)

    talking = asyncio.ensure_future(asyncio.to_thread(talk))
    secure = await loop.start_tls(transport, recorder, contexts[1], server_hostname="localhost")
    assert await recorder.got(16) == b"clear and secret"
    secure.write(b"bye")
    assert await talking == b"bye"
    await end(secure, recorder)


# ---------------------------------------------------------------- TLS over TLS


@tls_over_tls
async def test_tls_over_tls(loop, contexts):
    """Through a proxy that speaks TLS to a server that speaks TLS."""

    async def proxy(reader, writer):
        host, port = (await reader.readline()).decode().split()
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"OK\n")

        async def pump(source, sink):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async with serving(echo, contexts[0]) as far, serving(proxy, contexts[0]) as near:
        reader, writer = await asyncio.open_connection(*near, ssl=contexts[1])
        writer.write(f"{far[0]} {far[1]}\n".encode())
        assert await reader.readline() == b"OK\n"
        outer = writer.transport
        await writer.start_tls(contexts[1], server_hostname="localhost")
        assert writer.transport is not outer
        for size in (1, 1000, 500_000):
            writer.write(b"x" * size)
            assert await reader.readexactly(size) == b"x" * size
        writer.close()
        await asyncio.wait_for(writer.wait_closed(), SECONDS)


@tls_over_tls
async def test_tls_over_tls_as_the_server(loop, contexts):
    """The other side is a blocking socket with OpenSSL's memory buffers above it."""

    def talk(address):
        import socket

        with contexts[1].wrap_socket(
            socket.create_connection(address, SECONDS), server_hostname="localhost"
        ) as outer:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            inner = contexts[1].wrap_bio(incoming, outgoing, server_hostname="localhost")

            def do(step):
                while True:
                    try:
                        done = step()
                    except ssl.SSLWantReadError:
                        done = None
                    if outgoing.pending:
                        outer.sendall(outgoing.read())
                    if done is not None:
                        return done
                    incoming.write(outer.recv(65536))

            do(lambda: inner.do_handshake() or True)
            do(lambda: inner.write(b"question"))
            return do(lambda: inner.read(100))

    class Server(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            made.set_result(self)

    made = loop.create_future()
    server = await loop.create_server(Server, "127.0.0.1", 0, ssl=contexts[0])
    talking = asyncio.ensure_future(asyncio.to_thread(talk, server.sockets[0].getsockname()))
    accepted = await made
    inner = await loop.start_tls(accepted.transport, accepted, contexts[0], server_side=True)
    assert await accepted.got(8) == b"question"
    inner.write(b"answer")
    assert await talking == b"answer"
    await end(inner, accepted)
    server.close()
    await server.wait_closed()


async def test_a_server_of_tls_that_was_started_late(loop, contexts):
    """A listener in the clear; each connection turns before its first byte."""
    with listener() as plain:

        def talk():
            sock, _ = plain.accept()
            with contexts[0].wrap_socket(sock, server_side=True) as secure:
                secure.sendall(receive_exactly(secure, 4))

        talking = asyncio.ensure_future(asyncio.to_thread(talk))
        transport, recorder = await loop.create_connection(Recorder, *plain.getsockname())
        secure = await loop.start_tls(transport, recorder, contexts[1], server_hostname="localhost")
        secure.write(b"ping")
        assert await recorder.got(4) == b"ping"
        await talking
        await end(secure, recorder)
