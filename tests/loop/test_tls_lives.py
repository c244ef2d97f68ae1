"""What a TLS connection leaves behind, and what else its context can do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import tracemalloc
import weakref

import pytest

from .support import SECONDS, WINDOWS, Recorder, listener, receive_all, spin
from .tls import (
    VERSIONS,
    client_context,
    close,
    echo,
    forgetful,
    only,
    server_context,
    serving,
)

pytestmark = [forgetful, pytest.mark.tls]


@pytest.mark.ours  # asyncio's transports and protocols refer to each other
@pytest.mark.parametrize("how", ["close", "abort", "the peer"])
async def test_a_closed_connection_is_freed_at_once(loop, contexts, how):
    """No collector is needed for it."""

    class Client(asyncio.Protocol):
        def connection_lost(self, exc):
            gone.set()

    gone = asyncio.Event()
    async with serving(echo_or_reset if how != "the peer" else hang_up, contexts[0]) as address:
        transport, client = await loop.create_connection(Client, *address, ssl=contexts[1])
        seen = [weakref.ref(transport), weakref.ref(client)]
        seen.append(weakref.ref(transport.get_extra_info("ssl_object")))
        gc.collect()
        gc.disable()
        try:
            if how != "the peer":
                getattr(transport, how)()
            else:
                transport.write(b"!")
            del transport, client
            await gone.wait()
            for _ in range(3):
                await asyncio.sleep(0)
            assert [ref() for ref in seen] == [None, None, None]
        finally:
            gc.enable()


@pytest.mark.ours  # asyncio's layer has 256 KiB for each
async def test_connections_that_wait_hold_no_room(loop, contexts):
    """What a message needed is given back, or lent to the next connection."""

    class Sender(asyncio.Protocol):
        def __init__(self):
            self.left = 0
            self.answered = asyncio.Event()

        def data_received(self, data):
            self.left -= len(data)
            if not self.left:
                self.answered.set()

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    async def ask(transport, sender):
        sender.left = 3000
        sender.answered.clear()
        transport.write(bytes(3000))
        await sender.answered.wait()

    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=contexts[0])
    address = server.sockets[0].getsockname()
    pairs = [await loop.create_connection(Sender, *address, ssl=contexts[1]) for _ in range(20)]
    await ask(*pairs[0])  # what all share is there from now on
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for pair in pairs:
            await ask(*pair)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    for transport, _ in pairs:
        transport.abort()
    server.close()
    await server.wait_closed()
    assert (after - before) / len(pairs) < 2000


async def echo_or_reset(reader, writer):
    """For clients that abort: some systems reset what was connected."""
    with contextlib.suppress(ConnectionError):
        await echo(reader, writer)


async def hang_up(reader, writer):
    await reader.readexactly(1)


async def test_a_cancelled_handshake_leaves_nothing(loop, contexts):
    """Neither a protocol, nor a transport, nor a timer that holds them."""
    seen = []

    class Client(asyncio.Protocol):
        pass

    def factory():
        protocol = Client()
        seen.append(weakref.ref(protocol))
        return protocol

    with listener() as server:
        connecting = loop.create_task(
            loop.create_connection(factory, *server.getsockname(), ssl=contexts[1])
        )
        peer, _ = await asyncio.to_thread(server.accept)
        with peer:
            peer.settimeout(SECONDS)
            assert await asyncio.to_thread(peer.recv, 1)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            del connecting
            for _ in range(5):
                await asyncio.sleep(0)
            gc.collect()
            assert [ref() for ref in seen] == [None]


async def test_connecting_cancelled_after_any_turn_leaves_no_socket(loop, contexts):
    """Also between the connection and its first word of TLS."""
    with listener() as server:
        for turns in range(12):
            connecting = asyncio.ensure_future(
                loop.create_connection(asyncio.Protocol, *server.getsockname(), ssl=contexts[1])
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.mark.ours  # asyncio leaves the socket open
async def test_aborted_before_its_stream_begins(loop, contexts):
    """The peer learns it, though the handshake never was."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(SECONDS)
    with theirs:
        made = loop._make_ssl_transport(
            ours, asyncio.Protocol(), contexts[1], server_hostname="localhost"
        )
        made.abort()
        assert await asyncio.to_thread(theirs.recv, 1) == b""


async def test_an_ssl_object_that_outlives_its_connection(loop, contexts):
    async with serving(echo, contexts[0]) as address:
        _, writer = await asyncio.open_connection(*address, ssl=contexts[1])
        sslobj = writer.get_extra_info("ssl_object")
        version = sslobj.version()
        await close(writer)
        del writer
        gc.collect()
    assert sslobj.version() in {version, None}
    with pytest.raises(ssl.SSLError):
        sslobj.read(1)
        raise ssl.SSLError("nothing to read")
    with contextlib.suppress(ssl.SSLError):
        sslobj.write(b"to nobody")


# -------------------------------------------------- what else a context can do


async def test_authentication_after_the_handshake(loop, authority):
    """The server asks for the certificate of a client that it has been talking to."""
    ours = server_context(authority.issue(), authority)
    ours.verify_mode = ssl.CERT_OPTIONAL
    ours.post_handshake_auth = True
    theirs = client_context(authority, authority.issue("the client"))
    theirs.post_handshake_auth = True
    names = loop.create_future()

    async def ask(reader, writer):
        sslobj = writer.get_extra_info("ssl_object")
        assert await reader.readexactly(5) == b"hello"
        before = sslobj.getpeercert()
        sslobj.verify_client_post_handshake()
        writer.write(b"who are you?")
        assert await reader.readexactly(5) == b"it me"
        names.set_result((before, sslobj.getpeercert()["subject"]))

    async with serving(ask, ours) as address:
        reader, writer = await asyncio.open_connection(*address, ssl=theirs)
        writer.write(b"hello")
        assert await reader.readexactly(12) == b"who are you?"
        writer.write(b"it me")
        before, subject = await names
        assert not before
        assert subject
        await close(writer)


async def test_a_client_without_the_certificate_that_it_is_asked_for(loop, authority, caught):
    ours = server_context(authority.issue(), authority)
    ours.post_handshake_auth = True
    theirs = client_context(authority)
    theirs.post_handshake_auth = True
    lost = loop.create_future()

    async def ask(reader, writer):
        assert await reader.readexactly(5) == b"hello"
        sslobj = writer.get_extra_info("ssl_object")
        sslobj.verify_client_post_handshake()
        writer.write(b"who are you?")
        try:
            assert await reader.read() == b""
        except (ssl.SSLError, ConnectionError) as error:
            lost.set_result(error)

    async with serving(ask, ours) as address:
        reader, writer = await asyncio.open_connection(*address, ssl=theirs)
        writer.write(b"hello")
        assert await reader.readexactly(12) == b"who are you?"
        writer.write(b"nobody")
        assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in str(await lost)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await reader.read()
            raise ConnectionError
        writer.close()
    caught.take()


@pytest.mark.parametrize("server_side", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
async def test_keys_are_logged(loop, contexts, tmp_path, version, server_side):
    only(contexts[0], version)
    context = contexts[0 if server_side else 1]
    context.keylog_filename = str(tmp_path / "keys")
    await say_hello(contexts)
    context.keylog_filename = None  # closes it
    label = "TRAFFIC_SECRET" if version is ssl.TLSVersion.TLSv1_3 else "CLIENT_RANDOM"
    assert label in (tmp_path / "keys").read_text()


@pytest.mark.parametrize("server_side", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
async def test_messages_are_told(loop, contexts, version, server_side):
    told = []
    only(contexts[0], version)
    contexts[0 if server_side else 1]._msg_callback = lambda *args: told.append(args[1])
    await say_hello(contexts)
    assert {"read", "write"} <= set(told)


async def say_hello(contexts):
    async with serving(echo, contexts[0]) as address:
        reader, writer = await asyncio.open_connection(*address, ssl=contexts[1])
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        await close(writer)


@pytest.mark.parametrize("direction", ["read", "write"])
async def test_what_a_callback_of_messages_raises(loop, contexts, caught, direction):
    """It ends the connection, and is told, as if reading or writing had failed."""
    angry = False

    def tell(connection, where, *rest):
        if angry and where == direction:
            raise ZeroDivisionError

    contexts[1]._msg_callback = tell
    async with serving(echo_or_reset, contexts[0]) as address:
        transport, recorder = await loop.create_connection(Recorder, *address, ssl=contexts[1])
        transport.write(b"one")
        assert await recorder.got(3) == b"one"
        angry = True
        transport.write(b"two")
        assert isinstance(await recorder.lost(), ZeroDivisionError)
        assert recorder.received == b"one"
        caught.take_one(ZeroDivisionError)


async def test_a_session_is_resumed(loop, contexts):
    only(contexts[0], ssl.TLSVersion.TLSv1_2)
    session = None
    async with serving(echo, contexts[0]) as address:
        for resumed in (False, True):
            with await asyncio.to_thread(connect_with, address, contexts[1], session) as sock:
                session = sock.session
                assert sock.session_reused is resumed
                await asyncio.to_thread(sock.sendall, b"hello")
                assert await asyncio.to_thread(sock.recv, 5) == b"hello"


def connect_with(address, context, session):
    sock = socket.create_connection(address, SECONDS)
    return context.wrap_socket(sock, server_hostname="localhost", session=session)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"], ids=["nothing", "half-a-header"])
def test_a_loop_that_ends_within_a_handshake(new_loop, kind, contexts, caught, said):
    """As asyncio.run() ends: nobody has met the connection, so nobody but the loop ends it."""
    if kind == "std" and WINDOWS:
        pytest.skip("ProactorEventLoop leaves it open")
    loop = new_loop()
    made = []

    def factory():
        made.append(asyncio.Protocol())
        return made[0]

    async def meet():
        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=contexts[0])
        client = socket.create_connection(server.sockets[0].getsockname(), timeout=SECONDS)
        client.sendall(said)
        while not made:
            await asyncio.sleep(0.001)
        await spin()
        server.close()
        return client

    async def end():
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with loop.run_until_complete(meet()) as client:
        loop.run_until_complete(end())
        if loop.get_debug():  # a task waited for the handshake, and tells of its end
            caught.take_one(asyncio.CancelledError)
        loop.close()
        assert receive_all(client) == b""


@pytest.mark.ours  # the client of asyncio's server waits for the end of a handshake of TLS 1.2
@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_what_leaves_the_loop_where_the_protocol_is_told(new_loop, contexts, version):
    """The connection is unharmed: the last flight, and what came with it, are not lost."""
    loop = new_loop()
    only(contexts[0], version)

    class Leaving(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            raise SystemExit

        def data_received(self, data):
            self.transport.write(data)
            self.transport.close()

    def talk(address):
        with socket.create_connection(address, timeout=SECONDS) as sock:
            with contexts[1].wrap_socket(sock, server_hostname="localhost") as secure:
                secure.sendall(b"still there")
                return receive_all(secure)

    async def serve():
        server = await loop.create_server(Leaving, "127.0.0.1", 0, ssl=contexts[0])
        return server, loop.run_in_executor(None, talk, server.sockets[0].getsockname())

    server, talking = loop.run_until_complete(serve())
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert loop.run_until_complete(talking) == b"still there"
    server.close()
    loop.run_until_complete(server.wait_closed())
