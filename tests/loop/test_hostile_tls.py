"""TLS with peers that spoil what they send, say nothing, or say too much.

Whatever comes, a handshake ends: well, with an error that says so, or by its limit. Nobody is given
a byte that was not sent, nor one twice, and nothing is left of a connection that failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import sys
import time

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .hostile import (
    ALERTS,
    FATAL,
    FLIGHTS,
    MESSAGE,
    WAYS,
    HostilePeer,
    Spoil,
    is_strict,
    plain_alerts,
    says_why,
)
from .support import SECONDS, Recorder, listener, receive_all
from .tls import VERSIONS, client_context, forgetful, only, server_context

pytestmark = forgetful

# No shrinking: an example takes as long as a limit, and says all by itself.
BOUNDED = settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

SPOILS = st.builds(
    Spoil,
    flight=st.integers(0, FLIGHTS - 1),
    way=st.sampled_from(WAYS),
    where=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)

SHORT = 0.15
"""A handshake that cannot end otherwise ends after so long. One that should go well gets more."""

REFUSED = (ssl.SSLError, ConnectionError)
"""What asyncio says of a handshake that failed: OpenSSL's error, an end too early, the limit."""


class Echo(Recorder):
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


@pytest.fixture
def making_contexts(authority, certificate):
    """Makes those of both sides, for one version."""

    def make(version: ssl.TLSVersion) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        server, client = server_context(certificate), client_context(authority)
        only(server, version)
        return server, client

    return make


def limit_for(spoil: Spoil) -> float:
    return SECONDS if spoil.harmless else SHORT


Meeting = tuple[HostilePeer, list[Echo], "BaseException | None"]
"""The peer, who was connected, and what the program was told instead."""


async def serve_hostile(contexts, spoil: Spoil) -> Meeting:
    """The loop's side is the server; a program is not told of handshakes that fail."""
    loop = asyncio.get_running_loop()
    made: list[Echo] = []

    def factory() -> Echo:
        made.append(Echo())
        return made[-1]

    server = await loop.create_server(
        factory, "127.0.0.1", 0, ssl=contexts[0], ssl_handshake_timeout=limit_for(spoil)
    )
    address = server.sockets[0].getsockname()
    try:
        peer = HostilePeer(contexts[1], False, spoil, lambda: any(echo.calls for echo in made))
        sock = socket.create_connection(address, SECONDS)
        await asyncio.to_thread(peer.play, sock)
    finally:
        server.close()
        await server.wait_closed()
    return peer, [echo for echo in made if echo.calls], None


async def visit_hostile(contexts, spoil: Spoil) -> Meeting:
    """The loop's side is the client."""
    loop = asyncio.get_running_loop()
    echo = Echo()
    told = None
    peer = HostilePeer(contexts[0], True, spoil, lambda: bool(echo.calls))
    with listener() as server:
        server.settimeout(SECONDS)
        playing = asyncio.ensure_future(
            asyncio.to_thread(lambda: peer.play(server.accept()[0])),
        )
        try:
            await loop.create_connection(
                lambda: echo,
                *server.getsockname(),
                ssl=contexts[1],
                server_hostname="localhost",
                ssl_handshake_timeout=limit_for(spoil),
            )
        except REFUSED as error:
            told = error
            assert not spoil.harmless
            assert not echo.calls, "a protocol is connected, or its program is told why not"
        await playing
    return peer, [echo] if echo.calls else [], told


@contextlib.asynccontextmanager
async def leaving_nothing(loop, kind):
    before = asyncio.all_tasks()
    yield
    deadline = time.monotonic() + SECONDS
    while True:
        left = asyncio.all_tasks() - before
        stats = None if kind == "std" else loop.rio_stats()
        if not left and (stats is None or (stats.connections, stats.slices_in_use) == (0, 0)):
            return
        assert time.monotonic() < deadline, (left, stats)
        await asyncio.sleep(0.005)


async def meet(loop, kind, role, contexts, spoil, caught) -> None:
    async with leaving_nothing(loop, kind):
        peer, connected, refusal = await role(contexts, spoil)
        for echo in connected:
            lost_with = await echo.lost()
            assert lost_with is None or isinstance(lost_with, REFUSED)
            assert MESSAGE.startswith(echo.received), "bytes that were not sent, or were sent once"
        if spoil.harmless:
            assert peer.answered
            assert [bytes(echo.received) for echo in connected] == [MESSAGE]
            assert connected[0].lost_with is None
        assert all(number in ALERTS for _, number in plain_alerts(peer.raw))
        if kind != "std":  # asyncio drops alerts
            assert is_strict(peer.raw)
            assert says_why(peer.raw) or peer.was_reset or not is_ours_to_say(refusal)
        # In debug mode, and from some versions on, the loop tells of handshakes that failed.
        assert all(isinstance(told.get("exception"), REFUSED) for told in caught.take())


def is_ours_to_say(refusal: BaseException | None) -> bool:
    """Whether OpenSSL has refused what came, and not been refused, or left alone."""
    return (
        isinstance(refusal, ssl.SSLError)
        and not isinstance(refusal, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
        and "ALERT" not in (refusal.reason or "")
    )


def sides_alive() -> int:
    gc.collect()
    return sum(isinstance(each, ssl.SSLObject) for each in gc.get_objects())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("role", [serve_hostile, visit_hostile])
@pytest.mark.parametrize("version", VERSIONS)
def test_spoilt_flights(loop, kind, caught, making_contexts, version, role):
    before = sides_alive()

    @BOUNDED
    @given(spoil=SPOILS)
    def play(spoil: Spoil) -> None:
        contexts = making_contexts(version)
        meeting = meet(loop, kind, role, contexts, spoil, caught)
        loop.run_until_complete(asyncio.wait_for(meeting, 3 * SECONDS))

    play()
    del play
    if kind != "std":  # whose layer may live as long as the time that it gives its shutdown
        assert sides_alive() <= before


@pytest.mark.parametrize("role", [serve_hostile, visit_hostile])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("way", WAYS)
async def test_every_way_once(loop, kind, caught, making_contexts, version, role, way):
    """What the test above draws some of: in the middle of each flight."""
    for flight in range(FLIGHTS):
        spoil = Spoil(flight, way, 0.5, 3)
        await meet(loop, kind, role, making_contexts(version), spoil, caught)


def test_the_peer_spoils_what_it_is_told():
    """Spoils that do nothing would let everything pass."""
    flight = b"\x16\x03\x03\0\3abc" + b"\x17\x03\x03\0\2de"
    assert Spoil(0, "as it is").pieces(0, flight) == [flight]
    assert Spoil(1, "flip").pieces(0, flight) == [flight]
    assert Spoil(0, "flip", 0.0, 1).pieces(0, flight) == [b"\x14" + flight[1:]]
    assert Spoil(0, "cut and end", 0.5).pieces(0, flight) == [flight[:7]]
    assert Spoil(0, "twice").pieces(0, flight) == [flight, flight]
    assert Spoil(0, "record twice", 0.6).pieces(0, flight) == [flight + flight[8:]]
    assert b"".join(Spoil(0, "dribble").pieces(0, flight)) == flight
    refusal, goodbye = b"\x15\x03\x03\0\2\2\x28", b"\x15\x03\x03\0\2\1\0"
    assert plain_alerts(flight + refusal) == [(FATAL, 40)]
    assert is_strict(flight + goodbye + refusal)
    assert not is_strict(refusal + flight)
    assert not is_strict(b"\x15\x03\x03\0\2\1\x28")
    assert says_why(flight + refusal)
    assert says_why(flight + b"\x17\x03\x03\0\x13" + bytes(19))
    assert not says_why(refusal + flight)


# ---------------------------------------------------------------- peers that say nothing, or plain


@contextlib.asynccontextmanager
async def echoing(context, **options):
    """A server, and the protocols of which the handshake went well."""
    loop = asyncio.get_running_loop()
    made: list[Echo] = []

    def factory() -> Echo:
        made.append(Echo())
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=context, **options)
    try:
        yield server.sockets[0].getsockname(), made
    finally:
        server.close()
        await server.wait_closed()


def ended(sock: socket.socket) -> bytes:
    """For a thread: what comes up to the end, which a reset is, too."""
    received = bytearray()
    with sock, contextlib.suppress(ConnectionError):
        received += receive_all(sock)
    return bytes(received)


async def test_silent_peers_are_ended_and_others_served_meanwhile(loop, kind, caught, contexts):
    async with leaving_nothing(loop, kind):
        async with (
            echoing(contexts[0], ssl_handshake_timeout=SHORT) as (address, made),
            echoing(contexts[0]) as (with_time, served),
        ):
            silent = [socket.create_connection(address, SECONDS) for _ in range(30)]
            for number, sock in enumerate(silent):
                sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00"[: number % 8])
            ends = [asyncio.to_thread(ended, sock) for sock in silent]
            waiting = asyncio.gather(*ends)
            reader, writer = await asyncio.open_connection(*with_time, ssl=contexts[1])
            writer.write(b"meanwhile")
            assert await reader.readexactly(9) == b"meanwhile"
            assert not any(await waiting), "there is nothing to say to who says nothing"
            writer.close()
            await writer.wait_closed()
            assert not any(echo.calls for echo in made)
            assert [bytes(echo.received) for echo in served] == [b"meanwhile"]
        assert all(isinstance(told["exception"], ConnectionAbortedError) for told in caught.take())


PLAIN = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
    b"SSH-2.0-client\r\n",
    b"\0" * 5000,
    b"\xff" * 5000,
    b"\x80\x2e\x01\x03\x01" + bytes(41),  # a hello as SSL 2 had it
    b"\x16\x03\x01\xff\xff" + bytes(70_000),  # a record that is too long
    b"\x16\x03\x01\0\4\x01\xff\xff\xff" + bytes(300_000),  # a hello of 16 MiB
]


@pytest.mark.parametrize("words", PLAIN, ids=range(len(PLAIN)))
async def test_clients_that_speak_something_else(loop, kind, caught, contexts, words):
    async with leaving_nothing(loop, kind):
        async with echoing(contexts[0], ssl_handshake_timeout=SHORT) as (address, made):
            sock = socket.create_connection(address, SECONDS)
            with contextlib.suppress(ConnectionError):
                await asyncio.to_thread(sock.sendall, words)
            answer = await asyncio.to_thread(ended, sock)
            assert all(number in ALERTS for _, number in plain_alerts(answer))
            assert not any(echo.calls for echo in made)
        assert all(isinstance(told["exception"], REFUSED) for told in caught.take())


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", *PLAIN[2:5], PLAIN[6]])
async def test_servers_that_speak_something_else(loop, kind, contexts, words):
    async with leaving_nothing(loop, kind):
        with listener() as server:
            server.settimeout(SECONDS)

            def answer() -> None:
                sock, _ = server.accept()
                with sock, contextlib.suppress(ConnectionError):
                    sock.settimeout(SECONDS)
                    sock.recv(65536)
                    sock.sendall(words)
                    receive_all(sock)

            answering = asyncio.ensure_future(asyncio.to_thread(answer))
            with pytest.raises(REFUSED):
                await loop.create_connection(
                    Recorder, *server.getsockname(), ssl=contexts[1], ssl_handshake_timeout=SHORT
                )
            await answering


# ------------------------------------------------------------------------- peers that say too much


FLOODS = {
    "changes of cipher": b"\x14\x03\x03\0\1\1",
    "empty records": b"\x16\x03\x03\0\0",
    "warnings": b"\x15\x03\x03\0\2\1\x5a",
    "data": b"\x17\x03\x03\x40\0" + bytes(16384),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_after_the_hello(loop, kind, caught, making_contexts, flood):
    """It is ended by an error, or by the limit, and long before all has been taken."""
    async with leaving_nothing(loop, kind):
        contexts = making_contexts(ssl.TLSVersion.TLSv1_3)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        side = contexts[1].wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            side.do_handshake()
        hello = outgoing.read()
        part = (FLOODS[flood] * 10_000)[: 1 << 16]

        def pour(sock: socket.socket) -> None:
            with contextlib.suppress(ConnectionError):
                sock.sendall(hello)
                while True:
                    sock.sendall(part)

        async with echoing(contexts[0], ssl_handshake_timeout=1.0) as (address, made):
            sock = socket.create_connection(address, SECONDS)
            with sock:
                await asyncio.to_thread(pour, sock)
            assert not any(echo.calls for echo in made)
        assert all(isinstance(told["exception"], REFUSED) for told in caught.take())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="ssl_shutdown_timeout is new in 3.11")
@pytest.mark.parametrize("version", VERSIONS)
async def test_closing_while_the_peer_is_in_the_middle_of_a_record(
    loop, kind, making_contexts, version
):
    """What came before it is delivered; the peer says no more, and the end comes all the same."""
    async with leaving_nothing(loop, kind):
        contexts = making_contexts(version)
        async with echoing(contexts[0], ssl_shutdown_timeout=SHORT) as (address, made):
            plain = socket.create_connection(address, SECONDS)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            side = contexts[1].wrap_bio(incoming, outgoing, server_hostname="localhost")
            await asyncio.to_thread(shake, side, incoming, outgoing, plain)
            side.write(b"whole")
            whole = outgoing.read()
            side.write(b"half of this")
            half = outgoing.read()
            plain.sendall(whole + half[: len(half) // 2])
            await made[0].until(lambda: made[0].received)
            made[0].transport.close()
            await made[0].lost()
            assert made[0].received == b"whole"
            await asyncio.to_thread(ended, plain)


def shake(side, incoming, outgoing, sock) -> None:
    while True:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(65536))
        else:
            sock.sendall(outgoing.read())
            return
