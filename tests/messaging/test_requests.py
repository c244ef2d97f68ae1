"""Requests and replies: each finds its own, and whatever goes wrong leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct

import pytest

from zerio_asyncio.messaging import (
    ConnectionClosed,
    RequestError,
    SlowPeerError,
    TooManyRequestsError,
    connect,
    serve,
)
from zerio_asyncio.messaging.framing import MARK
from zerio_asyncio.messaging.requests import UNANSWERED_MAX

from .support import address_of, dial, framed


@pytest.fixture(params=["block", "spin"])
def loop(request, new_loop):
    return new_loop(wait=request.param)


@contextlib.asynccontextmanager
async def asking(on_request, on_message=lambda peer, message: None, **choices):
    """A server with ``on_request``, and a client that may ask it."""
    server = serve(0, on_message, on_request=on_request, **choices)
    async with server:
        async with connect(address_of(server), "me", extensions=True) as client:
            yield server, client
            nothing_is_left(server, client)


def nothing_is_left(server, client):
    for peer in (server._sessions.get("me"), client._session):
        if peer is not None:
            assert not peer.requests._replies
            assert not peer.requests.asked


def echo(request):
    return request.message


async def test_a_plain_handler_returns_the_reply(loop):
    async with asking(echo) as (_, client):
        for message in (b"", b"x", bytes(60_000), bytearray(b"array"), memoryview(b"view")[::2]):
            assert await client.request(message) == bytes(message)


async def test_a_handler_that_is_awaited(loop):
    async def on_request(request):
        await asyncio.sleep(0)
        return b"%s asks %s" % (request.peer.id.encode(), request.message)

    async with asking(on_request) as (_, client):
        assert await client.request(b"this", timeout=10) == b"me asks this"


async def test_replies_find_their_requests_in_any_order(loop):
    async def on_request(request):
        await asyncio.sleep(random.uniform(0, 0.01))
        return request.message

    async with asking(on_request, concurrency=1000) as (_, client):
        questions = [b"%d" % number for number in range(300)]
        assert await asyncio.gather(*map(client.request, questions)) == questions


async def test_a_server_asks_its_client(loop):
    async with serve(0) as server:
        address = address_of(server)
        async with connect(address, "me", extensions=True, on_request=echo) as client:
            assert await server.request("me", b"who?", timeout=10) == b"who?"
            assert await server.peer("me").request(b"you?") == b"you?"
            with pytest.raises(RequestError, match="has no on_request"):
                await client.request(b"and you?")


async def test_an_answer_that_comes_later(loop):
    kept = []
    async with asking(kept.append) as (_, client):
        asked = [asyncio.ensure_future(client.request(b"%d" % number)) for number in range(3)]
        while len(kept) < 3:
            await asyncio.sleep(0.001)
        for request in reversed(kept):
            assert request.open
            request.reply(b"answer to " + request.message)
            assert not request.open
            request.reply(b"nobody waits for this")
        assert await asyncio.gather(*asked) == [b"answer to %d" % number for number in range(3)]


async def test_a_request_that_is_refused(loop):
    async with asking(lambda request: request.refuse("not today: ünmöglich")) as (_, client):
        with pytest.raises(RequestError, match="not today: ünmöglich"):
            await client.request(b"please")


@pytest.mark.parametrize("awaited", [False, True])
async def test_a_handler_that_raises(loop, caught, awaited):
    def plain(request):
        raise ValueError("no such thing")

    async def on_request(request):
        plain(request)

    async with asking(on_request if awaited else plain) as (server, client):
        with pytest.raises(RequestError, match="ValueError: no such thing"):
            await client.request(b"thing")
        assert "'me'" in caught.take_one(ValueError)["message"]
        assert server.peers == ("me",), "the connection goes on"


async def test_a_handler_that_answers_nothing(loop):
    async def on_request(request):
        pass

    async with asking(on_request) as (_, client):
        with pytest.raises(RequestError, match="no answer"):
            await client.request(b"anything")


@pytest.mark.parametrize("how", ["time", "cancel"])
async def test_what_nobody_waits_for_is_cancelled_over_there(loop, how):
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def on_request(request):
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with asking(on_request) as (server, client):
        asked = asyncio.ensure_future(client.request(b"", 0.05 if how == "time" else None))
        await begun.wait()
        if how == "cancel":
            asked.cancel()
        with pytest.raises(asyncio.TimeoutError if how == "time" else asyncio.CancelledError):
            await asked
        await cancelled.wait()
        while server._sessions["me"].requests.asked:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("who", ["server", "client"])
async def test_requests_end_with_the_connection(loop, who):
    begun = asyncio.Event()
    ended = []

    async def on_request(request):
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(request)

    async with asking(on_request) as (server, client):
        asked = asyncio.ensure_future(client.request(b""))
        await begun.wait()
        if who == "server":
            server.disconnect("me", "no more", 0.5)
        else:
            client.peer.disconnect("no more", 0.5)
        with pytest.raises(ConnectionClosed) as closed:
            await asked
        assert closed.value.reason.clean
        while not ended:
            await asyncio.sleep(0.001)
    with pytest.raises(ConnectionClosed):
        await client.request(b"")


async def test_there_is_a_bound_to_what_is_unanswered(loop):
    kept = []
    async with asking(kept.append) as (_, client):
        asked = [asyncio.ensure_future(client.request(b"")) for _ in range(UNANSWERED_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequestsError):
            await client.request(b"one more")
        while len(kept) < UNANSWERED_MAX:
            await asyncio.sleep(0.001)
        for request in kept:
            request.reply(b"")
        await asyncio.gather(*asked)
        assert len(kept) == UNANSWERED_MAX


async def test_who_asks_more_than_that_is_refused(loop):
    kept = []
    async with serve(0, on_request=kept.append) as server:
        peer = await dial(server)
        await peer.send(framed(b"me\0zerio/1"))
        await peer.receive_message()
        for number in range(UNANSWERED_MAX + 1):
            await peer.send_message(struct.pack("<8sBQ", MARK, 1, number))
        refusal = await peer.receive_message()
        assert refusal[8] == 3
        assert b"1024 requests" in refusal
        assert len(kept) == UNANSWERED_MAX
        peer.close()


async def test_a_peer_that_does_not_read_its_requests(loop):
    async with asking(echo, max_message_size=10_000, unsent_max=50_000) as (server, client):
        client.pause_reading()
        asked = []
        with pytest.raises(SlowPeerError, match="no room for a request"):
            while True:
                asked.append(asyncio.ensure_future(server.request("me", bytes(10_000))))
                await asyncio.sleep(0)
                for request in asked:
                    if request.done():
                        request.result()
        for request in asked:
            request.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        client.resume_reading()
        await server.drain()


async def test_messages_and_requests_share_a_connection(loop):
    got = []
    async with asking(echo, lambda peer, message: got.append(bytes(message))) as (_, client):
        client.send(b"before")
        assert await client.request(b"between") == b"between"
        client.send(b"after")
        assert await client.request(b"") == b""
        assert got == [b"before", b"after"]


@pytest.mark.parametrize("rest", [b"", b"\0", b"\1", b"\1" + bytes(8), b"\6", b"text"])
async def test_a_message_that_begins_with_the_mark_by_chance(loop, rest):
    got = []
    async with asking(echo, lambda peer, message: got.append(bytes(message))) as (server, client):
        client.send(MARK + rest)
        server.send("me", MARK + rest)
        assert await client.request(MARK + rest) == MARK + rest
        assert got == [MARK + rest]
        assert await client.receive(10) == MARK + rest


async def test_without_extensions_the_mark_means_nothing(loop):
    got = []
    async with serve(0, lambda peer, message: got.append(bytes(message))) as server:
        async with connect(address_of(server), "me") as client:
            client.send(MARK + b"\1" + bytes(8))
            while not got:
                await asyncio.sleep(0.001)
            assert got == [MARK + b"\1" + bytes(8)]


async def test_controls_that_make_no_sense(loop):
    """Unknown kinds and numbers, and pieces: none disturbs the connection."""
    async with serve(0, on_request=echo) as server:
        peer = await dial(server)
        await peer.send(framed(b"me\0zerio/1"))
        await peer.receive_message()
        for rest in (b"", b"\1", b"\1\0\0", b"\2" + bytes(8), b"\3" + bytes(8), b"\4" + bytes(8),
                     b"\x09" + bytes(8), b"\xff" + bytes(20)):  # fmt: skip
            await peer.send_message(MARK + rest)
        await peer.send_message(struct.pack("<8sBQ", MARK, 1, 2**64 - 1) + b"still there?")
        answer = await peer.receive_message()
        assert answer == struct.pack("<8sBQ", MARK, 2, 2**64 - 1) + b"still there?"
        peer.close()


async def test_a_request_that_is_too_long(loop):
    async with asking(echo, max_message_size=1000) as (server, client):
        with pytest.raises(ValueError, match="1001 bytes: the limit is 1000"):
            await server.request("me", bytes(1001))
        assert await client.request(bytes(1000)) == bytes(1000)
