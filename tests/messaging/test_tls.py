"""The same over TLS, where bytes come through ordinary memory."""

from __future__ import annotations

import logging
import ssl

import pytest

from zerio_asyncio.messaging import (
    DisconnectCause,
    HandshakeError,
    ZerioServerConfiguration,
    connect,
    serve,
)

from ..loop.support import Limits
from ..loop.tls import client_context, forgetful, server_context
from .support import Client, address_of, connected, dial, serving

pytestmark = [forgetful, pytest.mark.tls]


async def test_messages_over_tls(loop, authority):
    options = {"ssl": server_context(authority.issue())}
    config = ZerioServerConfiguration(max_message_size=1 << 20)
    async with serving(config, **options) as server:
        async with connected(server, ssl=client_context(authority)) as client:
            messages = [b"", b"x", bytes(range(256)) * 200, b"last"]
            for message in messages:
                client.send(message)
                server.send("peer", message)
            server.send("peer", bytes(1_000_000)[:60_000])
            assert await server.messages_of("peer", 4) == messages
            assert (await client.messages_of(5))[:4] == messages
            client.send(bytearray(b"mutable"))
            assert (await server.messages_of("peer", 5))[4] == b"mutable"
        assert (await server.reason_of("peer")).cause is DisconnectCause.PEER


async def test_threads_send_over_tls(loop, authority):
    async with serving(ssl=server_context(authority.issue())) as server:
        async with connected(server, ssl=client_context(authority)) as client:
            await loop.run_in_executor(
                None, lambda: [server.send_threadsafe("peer", b"%d" % n) for n in range(100)]
            )
            assert await client.messages_of(100) == [b"%d" % n for n in range(100)]


async def test_a_handler_that_raises_over_tls(loop, authority, caught):
    async with serving(ssl=server_context(authority.issue())) as server:
        async with connected(server, ssl=client_context(authority)) as client:
            server._sessions["peer"].establish(
                "peer", lambda peer_id, message: 1 / 0, "peer", False
            )
            client.send(b"divide")
            reason = await server.reason_of("peer")
            assert reason.cause is DisconnectCause.HANDLER
            caught.take_one(ZeroDivisionError)
            await client.reason_of_end()


async def test_a_client_that_does_not_trust_the_server(loop, authority):
    async with serving(ssl=server_context(authority.issue())) as server:
        client = Client(address_of(server), ssl=ssl.create_default_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            await client.start()
        assert server.peers == ()


async def test_a_client_without_tls_is_turned_away(loop, authority):
    async with serving(ssl=server_context(authority.issue())) as server:
        client = Client(address_of(server))
        with pytest.raises(HandshakeError, match="or want TLS"):
            await client.start()
        async with connected(server, "proper", ssl=client_context(authority)) as proper:
            proper.send(b"none the worse")
            assert await server.messages_of("proper", 1) == [b"none the worse"]


async def test_a_server_without_tls_is_told_from_one_that_is_gone(loop, authority, caplog):
    async with serving() as server:
        client = Client(address_of(server), ssl=client_context(authority))
        with (
            caplog.at_level(logging.WARNING, "zerio_asyncio"),
            pytest.raises(HandshakeError, match="is TLS there") as error,
        ):
            await client.start()
        assert isinstance(error.value.__cause__, ConnectionError)
        await server.reason_of(None)
        assert "this looks like TLS" in caplog.text
        async with connected(server) as proper:
            assert proper.is_connected


async def test_what_is_no_context(loop):
    for ssl_ in (True, "context", 5):
        with pytest.raises(TypeError, match="ssl must be an ssl.SSLContext"):
            serve(0, ssl=ssl_)
        with pytest.raises(TypeError, match="ssl must be an ssl.SSLContext"):
            connect(("127.0.0.1", 7070), "me", ssl=ssl_)


async def test_the_name_in_the_certificate(loop, authority):
    context = server_context(authority.issue("example.org"))
    async with serving(ssl=context) as server:
        options = {"ssl": client_context(authority), "server_hostname": "example.org"}
        async with connected(server, **options) as client:
            assert client.is_connected


async def test_a_handshake_of_tls_that_never_comes_does_not_hold_up_stop(loop, authority):
    limit = 61.0  # it runs out when this test says so
    config = ZerioServerConfiguration(handshake_timeout=limit)
    limits = Limits(loop, limit)
    async with serving(config, ssl=server_context(authority.issue())) as server:
        silent = await dial(server)
        async with connected(server, ssl=client_context(authority)) as client:
            await server.stop(patience=0.05)
            await client.reason_of_end()
        limits.run_out()
        assert await silent.receive_all() == b"", "its handshake has a limit, too"
        silent.close()
