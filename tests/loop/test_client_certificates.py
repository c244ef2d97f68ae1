"""TLS where clients must, or may, show who they are."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from .issuing import Authority
from .marks import beyond_proactor
from .support import Recorder, spin
from .tls import (
    VERSIONS,
    client_context,
    close,
    connect_to_blocking,
    forgetful,
    only,
    server_context,
    serving,
)

pytestmark = [forgetful, pytest.mark.tls]


@pytest.fixture
def demanding(authority, certificate):
    """A server's context that asks for a certificate of our authority."""
    return server_context(certificate, trusted=authority)


async def greet(reader, writer):
    """Tells clients by name, as the certificate has it."""
    certificate = writer.get_extra_info("peercert")
    name = dict(part[0] for part in certificate["subject"])["commonName"] if certificate else "-"
    writer.write(name.encode() + b"\n")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_certificate_that_is_right(loop, authority, demanding, version):
    only(demanding, version)
    client = client_context(authority, authority.issue("alice"))
    async with serving(greet, demanding) as address:
        reader, writer = await asyncio.open_connection(*address, ssl=client)
        assert await reader.readline() == b"alice\n"
        assert writer.get_extra_info("peercert")["subject"] == ((("commonName", "localhost"),),)
        await close(writer)


def only_refusals(caught):
    """In debug mode the server tells of each handshake that failed, else of none."""
    assert all(isinstance(told["exception"], ssl.SSLError) for told in caught.take())


async def fails_at_client(address, client):
    """In TLS 1.3 a client is done before the server looks: it hears of it when it reads."""
    with pytest.raises((ssl.SSLError, ConnectionError)) as failure:
        reader, writer = await asyncio.open_connection(*address, ssl=client)
        try:
            if not await reader.read():
                raise ConnectionResetError("ended without a word")
        finally:
            writer.close()
    return failure.value


@beyond_proactor
@pytest.mark.parametrize("version", VERSIONS)
async def test_no_certificate(loop, authority, demanding, caplog, caught, version):
    """The server says why, in debug mode; the client is refused."""
    loop.set_debug(True)
    caplog.set_level("DEBUG", "asyncio")
    only(demanding, version)
    async with serving(greet, demanding) as address:
        await fails_at_client(address, client_context(authority))
        await spin(5)
    assert "peer did not return a certificate" in caplog.text
    assert {type(told["exception"]) for told in caught.take()} == {ssl.SSLError}


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_certificate_of_somebody_unknown(
    loop, authority, demanding, caught, tmp_path, version
):
    only(demanding, version)
    stranger = Authority(tmp_path, "stranger").issue("mallory")
    async with serving(greet, demanding) as address:
        await fails_at_client(address, client_context(authority, stranger))
        await spin(5)
    only_refusals(caught)


async def test_a_certificate_that_has_expired(loop, authority, demanding, caught):
    client = client_context(authority, authority.issue("alice", days=-1))
    async with serving(greet, demanding) as address:
        await fails_at_client(address, client)
        await spin(5)
    only_refusals(caught)


@pytest.mark.parametrize("given", [True, False])
async def test_certificates_that_are_optional(loop, authority, demanding, given):
    demanding.verify_mode = ssl.CERT_OPTIONAL
    client = client_context(authority, authority.issue("bob") if given else None)
    async with serving(greet, demanding) as address:
        reader, writer = await asyncio.open_connection(*address, ssl=client)
        assert await reader.readline() == (b"bob\n" if given else b"-\n")
        await close(writer)


async def test_we_are_the_client_that_is_asked(loop, authority, demanding):
    """A plain blocking server on the other side reads our certificate."""
    client = client_context(authority, authority.issue("carol"))
    transport, recorder, peer = await connect_to_blocking(Recorder, (demanding, client))
    assert peer.sock.getpeercert()["subject"] == ((("commonName", "carol"),),)
    transport.abort()
    await recorder.lost()
    peer.close()


async def test_good_clients_are_served_beside_refused_ones(loop, authority, demanding, caught):
    good, bad = client_context(authority, authority.issue("alice")), client_context(authority)
    async with serving(greet, demanding) as address:

        async def client(number):
            if number % 2:
                await fails_at_client(address, bad)
                return
            reader, writer = await asyncio.open_connection(*address, ssl=good)
            assert await reader.readline() == b"alice\n"
            await close(writer)

        await asyncio.gather(*(client(number) for number in range(12)))
        await spin(5)
    only_refusals(caught)
