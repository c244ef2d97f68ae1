"""OpenSSL's and GnuTLS's programs as peers, in both roles."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from .support import MIB, SECONDS, digest, free_port, payload
from .tls_programs import PROGRAMS, VERSIONS, OpenSSL, resuming, running, until_connected

pytestmark = [
    pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name),
]

programs = pytest.mark.parametrize("peer", PROGRAMS, ids=lambda peer: peer.name)


class Service:
    """An echo that remembers what TLS told of each connection, and what came on it."""

    def __init__(self):
        self.told = []
        self.received = []
        self.ended = asyncio.Event()

    async def handle(self, reader, writer):
        tls = writer.get_extra_info("ssl_object")
        certificate = writer.get_extra_info("peercert")
        self.told.append(
            {
                "version": tls.version(),
                "protocol": tls.selected_alpn_protocol(),
                "reused": tls.session_reused,
                "name": certificate and dict(part[0] for part in certificate["subject"]),
            }
        )
        received = bytearray()
        self.received.append(received)
        try:
            while data := await reader.read(65536):
                received += data
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self.ended.set()


@contextlib.asynccontextmanager
async def serving(context):
    service = Service()
    server = await asyncio.start_server(service.handle, "127.0.0.1", 0, ssl=context)
    try:
        yield service, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


SHOWN = {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}


# ------------------------------------------------------------------------------- they are clients


@programs
async def test_large_transfers_with_a_client(loop, identities, peer, version):
    data = payload(2 * MIB)
    async with serving(identities.server_context(version)) as (service, port):
        async with running(peer.client(port, identities)) as client:
            client.feed(data)
            back = await asyncio.to_thread(client.take, len(data))
            assert digest(back) == digest(data), client.complaints()
            await asyncio.to_thread(client.say_no_more)
            await asyncio.wait_for(service.ended.wait(), SECONDS)
            assert await asyncio.to_thread(client.ended) == 0
    assert service.told[0]["version"] == SHOWN[version]
    assert [digest(bytes(part)) for part in service.received] == [digest(data)]


@programs
async def test_a_clients_certificate(loop, identities, peer, version):
    async with serving(identities.server_context(version, demanding=True)) as (service, port):
        async with running(peer.client(port, identities, certified=True)) as client:
            client.feed(b"it is me\n")
            assert await asyncio.to_thread(client.take, 9) == b"it is me\n", client.complaints()
    assert service.told[0]["name"] == {"commonName": "alice"}


@programs
async def test_a_client_without_a_certificate(loop, identities, peer, version, caught):
    async with serving(identities.server_context(version, demanding=True)) as (service, port):
        async with running(peer.client(port, identities)) as client:
            client.feed(b"it is me\n")
            assert await asyncio.to_thread(client.take, 9) == b""
            await asyncio.to_thread(client.say_no_more)
            assert await asyncio.to_thread(client.ended) != 0
    assert service.told == []
    assert all(isinstance(told["exception"], ssl.SSLError) for told in caught.take())


@programs
async def test_a_client_that_does_not_trust_the_server(loop, identities, peer, version, caught):
    class Others:
        trusted = identities.client  # no authority at all

    async with serving(identities.server_context(version)) as (service, port):
        async with running(peer.client(port, Others)) as client:
            client.feed(b"who is it?\n")
            assert await asyncio.to_thread(client.take, 9) == b""
            assert await asyncio.to_thread(client.ended) != 0
    # In TLS 1.3 a server may be done before the client says so.
    assert all(received == b"" for received in service.received)
    caught.take()


@programs
async def test_a_protocol_is_agreed_on_with_a_client(loop, identities, peer, version):
    context = identities.server_context(version)
    context.set_alpn_protocols(["h2", "acme/1"])
    async with serving(context) as (service, port):
        async with running(peer.client(port, identities, alpn="acme/1")) as client:
            client.feed(b"hello\n")
            assert await asyncio.to_thread(client.take, 6) == b"hello\n", client.complaints()
    assert service.told[0]["protocol"] == "acme/1"


async def test_openssl_resumes(loop, identities, tmp_path, version):
    session = tmp_path / "session"
    async with serving(identities.server_context(version)) as (service, port):
        for option in ("-sess_out", "-sess_in"):
            command = [*OpenSSL().client(port, identities), option, session]
            async with running(command) as client:
                client.feed(b"hello\n")
                assert await asyncio.to_thread(client.take, 6) == b"hello\n", client.complaints()
                await asyncio.to_thread(client.say_no_more)
                await asyncio.to_thread(client.ended)
    assert [told["reused"] for told in service.told] == [False, True]


async def test_gnutls_resumes(loop, identities, version):
    async with serving(identities.server_context(version)) as (service, port):
        command = [*PROGRAMS[1].client(port, identities), "--resume"]
        async with running(command) as client:
            client.feed(b"hello\n")
            assert await asyncio.to_thread(client.take, 6) == b"hello\n", client.complaints()
    assert [told["reused"] for told in service.told] == [False, True]


@programs
async def test_a_client_that_has_said_all(loop, identities, peer, version):
    """Its close_notify is the end of the stream, after every byte of it, and it gets ours."""
    data = payload(300_001)
    async with serving(identities.server_context(version)) as (service, port):
        async with running(peer.client(port, identities)) as client:
            client.feed(data)
            back = await asyncio.to_thread(client.take, len(data))
            await asyncio.to_thread(client.say_no_more)
            assert await asyncio.to_thread(client.ended) == 0, client.complaints()
            await asyncio.wait_for(service.ended.wait(), SECONDS)
    assert digest(back) == digest(data)
    assert [digest(bytes(part)) for part in service.received] == [digest(data)]


@programs
async def test_a_server_that_has_said_all(loop, identities, peer, version):
    """Our close_notify ends the client by itself, and it has got all of it."""
    data = payload(MIB)

    async def tell(reader, writer):
        writer.write(data)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    context = identities.server_context(version)
    server = await asyncio.start_server(tell, "127.0.0.1", 0, ssl=context)
    async with running(peer.client(server.sockets[0].getsockname()[1], identities)) as client:
        told = await asyncio.to_thread(client.take, len(data) + 1)
        assert digest(told) == digest(data), client.complaints()
        assert await asyncio.to_thread(client.ended) == 0, client.complaints()
    server.close()
    await server.wait_closed()


async def test_new_keys_on_the_way(loop, identities, version):
    """TLS 1.3 renews keys, and asks the other side to; 1.2 has nothing of the kind."""
    words = [b"one\n", b"^rekey^\n", b"two\n", b"^rekey^\n", b"three\n"]
    if version is ssl.TLSVersion.TLSv1_2:
        words = words[::2]
    command = PROGRAMS[1].client
    async with serving(identities.server_context(version)) as (service, port):
        async with running([*command(port, identities), "--inline-commands"]) as client:
            for word in words:
                client.feed(word)
                if not word.startswith(b"^"):
                    back = await asyncio.to_thread(client.take, len(word))
                    assert back == word, client.complaints()
    assert service.received == [b"one\ntwo\nthree\n"]


# ------------------------------------------------------------------------------- they are servers


@programs
async def test_transfers_with_a_server(loop, identities, peer, version):
    data, port = payload(MIB), free_port()
    async with running(peer.server(port, identities, version)) as server:
        reader, writer = await until_connected(port, identities.client_context())
        assert writer.get_extra_info("ssl_object").version() == SHOWN[version]
        assert digest(await peer.echo(server, data, reader, writer)) == digest(data)
        writer.close()
        await writer.wait_closed()


@programs
async def test_our_certificate(loop, identities, peer, version):
    port = free_port()
    async with running(peer.server(port, identities, version, demanding=True)) as server:
        context = identities.client_context(certified=True)
        reader, writer = await until_connected(port, context)
        assert await peer.echo(server, b"me" * 500, reader, writer) == b"me" * 500
        writer.close()
        await writer.wait_closed()
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            reader, writer = await until_connected(port, identities.client_context())
            try:
                await reader.readexactly(1)  # with TLS 1.3 the refusal comes afterwards
            finally:
                writer.transport.abort()


@programs
async def test_a_protocol_is_agreed_on_with_a_server(loop, identities, peer, version):
    port = free_port()
    context = identities.client_context()
    context.set_alpn_protocols(["h2", "acme/1"])
    async with running(peer.server(port, identities, version, alpn="acme/1")) as server:
        reader, writer = await until_connected(port, context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "acme/1"
        assert await peer.echo(server, b"words", reader, writer) == b"words"
        writer.close()
        await writer.wait_closed()


@programs
async def test_we_resume(loop, identities, peer, version):
    port = free_port()
    context = identities.client_context(version)
    reused = []
    async with running(peer.server(port, identities, version)) as server:
        for _ in range(2):
            reader, writer = await until_connected(port, context)
            assert await peer.echo(server, b"words", reader, writer) == b"words"
            tls = writer.get_extra_info("ssl_object")
            reused.append(tls.session_reused)
            context.sslobject_class = resuming(tls.session)
            writer.close()
            await writer.wait_closed()
    assert reused == [False, True]


@programs
async def test_a_server_of_another_name(loop, identities, peer, version):
    port = free_port()
    async with running(peer.server(port, identities, version)):
        _, writer = await until_connected(port, identities.client_context())
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ssl.SSLCertVerificationError, match="example"):
            await asyncio.open_connection(
                "127.0.0.1",
                port,
                ssl=identities.client_context(),
                server_hostname="example.org",
            )
