"""What the other side of a TLS connection may ask for when it is up, by the command ``openssl``.

New keys (TLS 1.3), another handshake (TLS 1.2), and the client's certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from .commands import Openssl, with_openssl
from .support import Recorder
from .tls import client_context, echo, forgetful, only, server_context, serving

pytestmark = [forgetful, pytest.mark.tls, with_openssl]

ALLOW_CLIENT_RENEGOTIATION = 1 << 8
"""OpenSSL's option, from 3.0 on; older ones ignore it, and allow it anyway."""

KEY_UPDATE_WENT = b">>> TLS 1.3, Handshake [length 0005], KeyUpdate"
KEY_UPDATE_CAME = b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate"


@contextlib.asynccontextmanager
async def visited_by_command(authority, context, *options):
    """The loop's side is a server that echoes; the client is the command."""
    async with serving(echo, context) as (host, port):
        address = f"{host}:{port}"
        client = Openssl("s_client", "-connect", address, "-CAfile", authority.path, *options)
        with client:
            await asyncio.to_thread(client.until, b"Verify return code: 0 (ok)")
            yield client


@contextlib.asynccontextmanager
async def visiting_command(loop, authority, certificate, context, *options):
    """The loop's side is the client; the command, its transport, and its protocol."""
    server = Openssl("s_server", "-accept", "127.0.0.1:0", "-cert", certificate, *options)
    with server:
        await asyncio.to_thread(server.until, b"ACCEPT 127.0.0.1:")
        port = int(await asyncio.to_thread(server.until, b"\n"))
        transport, recorder = await loop.create_connection(
            Recorder, "127.0.0.1", port, ssl=context, server_hostname="localhost"
        )
        await asyncio.to_thread(server.until, b"CIPHER is")
        yield server, transport, recorder
        transport.abort()
        await recorder.lost()


# ------------------------------------------------------------------- new keys


@pytest.mark.parametrize("letters", ["K", "k", "KKkK"])
async def test_a_client_changes_keys(loop, authority, contexts, letters):
    """``K`` asks for new keys of ours, too, which go before the next that we write."""

    def talk():
        for letter in letters:
            client.say(letter.encode() + b"\n")
            client.until(b"KEYUPDATE")
            client.say(b"words after " + letter.encode() + b"\n")
            said = client.until(b"words after " + letter.encode())
            assert (KEY_UPDATE_CAME in said) == (letter == "K")

    async with visited_by_command(authority, contexts[0], "-msg") as client:
        await asyncio.to_thread(talk)


@pytest.mark.parametrize("letters", ["K", "k", "KKkK"])
async def test_a_server_changes_keys(loop, authority, certificate, contexts, letters):
    visiting = visiting_command(loop, authority, certificate, contexts[1], "-msg")
    async with visiting as (server, transport, recorder):
        for letter in letters:
            recorder.received.clear()
            server.say(letter.encode() + b"\n")
            await asyncio.to_thread(server.until, KEY_UPDATE_WENT)
            server.say(b"words after " + letter.encode() + b"\n")
            assert await recorder.got(14) == b"words after " + letter.encode() + b"\n"
            transport.write(b"yes\n")
            said = await asyncio.to_thread(server.until, b"yes\n")
            assert (KEY_UPDATE_CAME in said) == (letter == "K")


async def test_keys_are_changed_while_much_is_on_its_way(loop, authority, certificate, contexts):
    visiting = visiting_command(loop, authority, certificate, contexts[1])
    async with visiting as (server, transport, recorder):
        transport.write(b"x" * 3_000_000 + b"\nhalf")
        server.say(b"K\n")
        await asyncio.to_thread(server.until, b"xx\nhalf")
        server.say(b"words\n")
        assert await recorder.got(6) == b"words\n"
        transport.write(b" and the rest\n")
        await asyncio.to_thread(server.until, b" and the rest\n")


# ------------------------------------------------------------ another handshake


async def test_a_client_shakes_hands_again(loop, authority, certificate):
    context = server_context(certificate)
    only(context, ssl.TLSVersion.TLSv1_2)
    context.options |= ALLOW_CLIENT_RENEGOTIATION

    def talk():
        for words in (b"once", b"twice"):
            client.say(b"R\n")
            client.until(b"RENEGOTIATING")
            client.until(b"verify return:1")  # the certificate, again
            client.say(words + b"\n")
            client.until(words + b"\n")

    async with visited_by_command(authority, context) as client:
        await asyncio.to_thread(talk)


async def test_a_client_may_not_shake_hands_again(loop, authority, certificate, caught):
    context = server_context(certificate)
    only(context, ssl.TLSVersion.TLSv1_2)
    context.options |= ssl.OP_NO_RENEGOTIATION
    lost = loop.create_future()

    class Served(Recorder):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            lost.set_result(exc)

    server = await loop.create_server(Served, "127.0.0.1", 0, ssl=context)
    address = "{}:{}".format(*server.sockets[0].getsockname())
    with Openssl("s_client", "-connect", address, "-CAfile", authority.path, "-msg") as client:
        await asyncio.to_thread(client.until, b"Verify return code: 0 (ok)")
        client.say(b"R\n")
        await asyncio.to_thread(client.until, b"Alert [length 0002], warning no_renegotiation")
        error = await lost
    assert error is None or isinstance(error, (ssl.SSLError, ConnectionError))
    server.close()
    await server.wait_closed()
    caught.take()


@pytest.mark.parametrize("refused", [False, True])
async def test_a_server_shakes_hands_again(loop, authority, certificate, contexts, refused):
    """What is written meanwhile goes when the handshake is over."""
    only(contexts[1], ssl.TLSVersion.TLSv1_2)
    if refused:
        contexts[1].options |= ssl.OP_NO_RENEGOTIATION
    visiting = visiting_command(loop, authority, certificate, contexts[1], "-msg")
    async with visiting as (server, transport, recorder):
        server.say(b"r\n")
        await asyncio.to_thread(server.until, b"HelloRequest")
        if refused:
            await asyncio.to_thread(server.until, b"warning no_renegotiation")
            return
        hello = asyncio.ensure_future(asyncio.to_thread(server.until, b"ClientHello"))
        while not hello.done():
            transport.write(b"meanwhile ")
            await asyncio.sleep(0.001)
        transport.write(b"last\n")
        await asyncio.to_thread(server.until, b"last\n")
        server.say(b"words\n")
        assert await recorder.got(6) == b"words\n"


# ------------------------------------------------------ the client's certificate


async def test_a_server_asks_who_the_client_is(loop, authority, certificate):
    context = client_context(authority, authority.issue("the client"))
    context.post_handshake_auth = True
    visiting = visiting_command(
        loop, authority, certificate, context, "-msg", "-CAfile", authority.path
    )
    async with visiting as (server, transport, recorder):
        server.say(b"c\n")
        await asyncio.to_thread(server.until, b"CertificateRequest")
        await asyncio.to_thread(server.until, b"the client")
        transport.write(b"it is me\n")
        await asyncio.to_thread(server.until, b"it is me\n")
        server.say(b"welcome\n")
        assert await recorder.got(8) == b"welcome\n"
