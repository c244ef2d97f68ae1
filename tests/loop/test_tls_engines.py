"""Which TLS engine a loop takes, and what it does where ``direct`` cannot be proved to work."""

from __future__ import annotations

import asyncio
import ssl

import pytest

import zerio_asyncio
from zerio_asyncio.core import openssl, tls_direct
from zerio_asyncio.loop import tls_engines
from zerio_asyncio.loop.tls_engines import choose_engine

from .support import Recorder
from .tls import close, connect_to_blocking, echo, serving

pytestmark = pytest.mark.ours


@pytest.fixture(autouse=True)
def no_choice_of_the_environment(monkeypatch):
    monkeypatch.delenv("ZERIO_TLS", raising=False)


@pytest.fixture
def refused(monkeypatch):
    monkeypatch.setattr(tls_engines, "direct_refusal", lambda: "of a test")


def test_the_option_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("ZERIO_TLS", "standard")
    assert choose_engine("portable").name == "portable"
    assert choose_engine(None).name == "standard"
    assert "ZERIO_TLS" in choose_engine(None).reason


def test_names(monkeypatch):
    with pytest.raises(ValueError, match="tls must be one of direct, portable, standard"):
        zerio_asyncio.LoopOptions(tls="openssl")
    monkeypatch.setenv("ZERIO_TLS", "openssl")
    with pytest.raises(ValueError, match="ZERIO_TLS must be one of"):
        choose_engine(None)


def test_where_direct_does_not_work(refused):
    choice = choose_engine(None)
    assert (choice.name, choice.reason) == ("portable", "direct does not work here: of a test")
    with pytest.raises(RuntimeError, match="direct does not work here: of a test"):
        choose_engine("direct")


def test_another_library(monkeypatch):
    monkeypatch.setattr(ssl, "OPENSSL_VERSION", "LibreSSL 4.0.0")
    with pytest.raises(openssl.NotFoundError, match="LibreSSL"):
        openssl.addresses()
    monkeypatch.setattr(ssl, "OPENSSL_VERSION", "OpenSSL 9.9.9 of another file")
    with pytest.raises(openssl.NotFoundError, match="ssl uses OpenSSL 9.9.9"):
        openssl.addresses()


def test_a_function_that_is_missing(monkeypatch):
    monkeypatch.setattr(openssl, "SSL_FUNCTIONS", ("SSL_of_no_version",))
    with pytest.raises(openssl.NotFoundError, match="SSL_of_no_version"):
        openssl.addresses()


@pytest.mark.parametrize("engine", tls_engines.ENGINES)
def test_a_loop_tells_its_engine(new_loop, contexts, engine):
    if engine == "direct" and tls_engines.direct_refusal():
        pytest.skip(f"direct does not work here: {tls_engines.direct_refusal()}")
    loop = new_loop(tls=engine)
    assert loop.tls_engine == engine

    async def talk():
        async with serving(echo, contexts[0]) as address:
            reader, writer = await asyncio.open_connection(*address, ssl=contexts[1])
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            await close(writer)

    loop.run_until_complete(talk())


class Counting(ssl.SSLObject):
    """What a program puts in the place of ``ssl``'s own."""

    reads = 0

    def read(self, *args):
        Counting.reads += 1
        return super().read(*args)


async def test_objects_of_the_program_are_asked(loop, contexts):
    contexts[1].sslobject_class = Counting
    Counting.reads = 0
    transport, recorder, peer = await connect_to_blocking(Recorder, contexts)
    assert isinstance(transport.get_extra_info("ssl_object"), Counting)
    await peer.send(b"hello")
    assert await recorder.got(5) == b"hello"
    assert Counting.reads
    transport.abort()
    await recorder.lost()
    peer.close()


def test_the_proof_may_be_asked_for_again():
    assert tls_direct.prove() == tls_direct.prove()
