"""Subjects: who has subscribed gets what is published, once, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading

import pytest

from zerio_asyncio.messaging import Connected, DisconnectCause, NotConnectedError, connect, serve
from zerio_asyncio.messaging.framing import MARK
from zerio_asyncio.messaging.requests import HEAD, SUBSCRIBE
from zerio_asyncio.messaging.subjects import (
    KNOWN_MAX,
    SUBSCRIPTIONS_MAX,
    Subscriptions,
    check_pattern,
    check_subject,
)

from .support import Server, address_of, plain, serving


@pytest.fixture(params=["block", "spin"])
def loop(request, new_loop):
    return new_loop(wait=request.param)


def echo(request):
    return request.message


def publishing(**choices):
    """A server; its answer to a request tells that what was sent before has arrived."""
    return serving(on_request=echo, **choices)


@contextlib.asynccontextmanager
async def watching(server, peer_id, *patterns):
    async with connect(address_of(server), peer_id, extensions=True) as client:
        for pattern in patterns:
            client.subscribe(pattern)
        await client.request(b"are they known?")
        yield client


@pytest.mark.parametrize(
    ("pattern", "subject", "matches"),
    [
        ("prices.*", "prices.EURUSD", True),
        ("prices.*", "prices", False),
        ("prices.*", "prices.fx.EURUSD", False),
        ("prices.*", "pricesXEURUSD", False),
        ("*.fx.*", "prices.fx.EURUSD", True),
        ("prices.>", "prices.fx.EURUSD", True),
        ("prices.>", "prices", False),
        (">", "anything", True),
        ("*", "two.words", False),
        ("a+b.(c", "a+b.(c", True),
        ("a+b", "aab", False),
        ("price*", "prices", False),
        ("größe.*", "größe.ä", True),
    ],
)
def test_what_a_pattern_stands_for(pattern, subject, matches):
    wanted = Subscriptions()
    wanted.add("somebody", pattern)
    assert wanted.wanting(subject) == (("somebody",) if matches else ())


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a b", "a\n", "a" * 256, "\ud800"])
def test_what_is_no_subject(text):
    with pytest.raises(ValueError):
        check_subject(text)
    with pytest.raises(ValueError):
        check_pattern(text)


def test_patterns_are_no_subjects():
    for text in ("*", "a.*", ">", "a.>"):
        assert check_pattern(text) == text
        with pytest.raises(ValueError, match="pattern"):
            check_subject(text)
    with pytest.raises(ValueError, match="last word"):
        check_pattern("a.>.b")
    with pytest.raises(TypeError):
        check_pattern(b"bytes")


def test_subscriptions_agree_with_a_simple_model():
    chance = random.Random(5)
    patterns = ["a.*", "a.b", "*.b", ">", "a.>", "b.a"]
    subjects = ["a.b", "a.a", "b.b", "b", "a.b.c", "b.a"]
    fits = {each: Subscriptions() for each in patterns}
    for pattern, alone in fits.items():
        alone.add(0, pattern)
    wanted, model = Subscriptions(), {}
    for _ in range(3000):
        who, pattern = chance.randrange(4), chance.choice(patterns)
        what = chance.random()
        if what < 0.3:
            wanted.add(who, pattern)
            model.setdefault(who, set()).add(pattern)
        elif what < 0.6:
            wanted.remove(who, pattern)
            model.get(who, set()).discard(pattern)
        elif what < 0.65:
            wanted.end(who)
            model.pop(who, None)
        subject = chance.choice(subjects)
        found = wanted.wanting(subject)
        assert len(found) == len(set(found))
        assert set(found) == {
            who for who, own in model.items() if any(fits[p].wanting(subject) for p in own)
        }
    for who in range(4):
        wanted.end(who)
    assert not wanted._wanting
    assert not wanted._patterns


def test_subjects_without_end_are_not_all_remembered():
    wanted = Subscriptions()
    for number in range(3 * KNOWN_MAX):
        assert wanted.wanting(f"a.{number}") == ()
    assert len(wanted._known) <= KNOWN_MAX


async def test_who_has_subscribed_gets_it_once(loop):
    async with (
        publishing() as server,
        watching(server, "fx", "prices.*", "prices.EURUSD", "prices.>") as fx,
        watching(server, "all", ">") as everything,
        watching(server, "none") as none,
    ):
        assert server.publish("prices.EURUSD", bytearray(b"1.07")) == 2
        assert server.publish("news", memoryview(b"!?")[::2]) == 1
        assert server.publish("prices.EURUSD", MARK + b"by chance") == 2
        assert server.broadcast(b"end") == 3
        for client, expected in (
            (fx, [b"1.07", MARK + b"by chance", b"end"]),
            (everything, [b"1.07", b"!", MARK + b"by chance", b"end"]),
            (none, [b"end"]),
        ):
            assert [await client.receive(timeout=30) for _ in expected] == expected


async def test_what_is_no_longer_wanted(loop):
    async with publishing() as server, watching(server, "me", "a.*", "a.b") as client:
        assert server.publish("a.b", b"1") == 1
        client.unsubscribe("a.*")
        await client.request(b"")
        assert server.publish("a.b", b"2") == 1
        client.unsubscribe("a.b")
        await client.request(b"")
        assert server.publish("a.b", b"3") == 0
        with pytest.raises(KeyError):
            client.unsubscribe("a.b")
    assert not server._subscriptions._patterns


async def test_subscriptions_come_back_with_the_connection(loop):
    back = asyncio.Event()

    def on_event(event):
        if isinstance(event, Connected):
            back.set()

    async with publishing() as server:
        client = connect(
            address_of(server), "me", extensions=True, reconnect=True, on_event=on_event
        )
        client.subscribe("a.*")
        client.subscribe("b")
        client.subscribe("a.*")  # said twice, wanted once
        async with client:
            client.unsubscribe("b")
            await client.request(b"")
            back.clear()
            server.disconnect("me")
            await asyncio.wait_for(back.wait(), 30)
            await client.request(b"")
            assert server.publish("b", b"not wanted") == 0
            assert server.publish("a.x", b"wanted") == 1
            assert await client.receive(timeout=30) == b"wanted"
            assert len(server._subscriptions._patterns) == 1


async def test_a_server_that_starts_again_knows_nothing_of_before(loop):
    async with publishing() as server:
        async with watching(server, "me", "a"):
            await server.stop()
        await server.start()
        assert server.publish("a", b"1") == 0


async def test_a_slow_peer_keeps_the_latest_of_each_subject(loop):
    async with (
        publishing(slow_peer="latest", unsent_max=128 * 1024) as server,
        watching(server, "me", ">") as client,
    ):
        client.pause_reading()
        number = 0
        while server.peer("me").dropped < 1000:
            number += 1
            server.publish(f"a.{number % 2}", b"%d" % number)
            await asyncio.sleep(0)
        client.resume_reading()
        seen = [await client.receive(timeout=30)]
        while int(seen[-1]) != number:
            seen.append(await client.receive(timeout=30))
        if int(seen[-2]) != number - 1:  # the other subject's latest may have come behind
            seen.append(await client.receive(timeout=30))
        assert {int(each) for each in seen[-2:]} == {number, number - 1}


async def test_without_extensions_nothing_is_said(loop):
    async with publishing() as server, plain(server) as peer:
        async with connect(address_of(server), "me") as client:
            with pytest.raises(RuntimeError, match="extensions=True"):
                client.subscribe("a")
        assert server.publish("a", b"1") == 0
        server.broadcast(b"end")
        assert await peer.receive_message() == b"end"


@pytest.mark.parametrize("pattern", [b"", b"a..b", b"\xff\xfe.>.a", b"x" * 300])
async def test_a_hostile_subscription_ends_its_connection_alone(loop, pattern):
    async with publishing() as server, watching(server, "good", ">") as good:
        async with plain(server, None) as peer:
            await peer.send_message(b"bad\0zerio/1")
            await peer.receive_message()
            await peer.send_message(HEAD.pack(MARK, SUBSCRIBE, 0) + pattern)
            reason = await server.reason_of("bad")
        assert reason.cause is DisconnectCause.PROTOCOL
        assert server.publish("a", b"1") == 1
        assert await good.receive(timeout=30) == b"1"


async def test_subscriptions_are_bounded_on_both_sides(loop):
    async with publishing() as server, watching(server, "me") as client:
        for number in range(SUBSCRIPTIONS_MAX):
            client.subscribe(f"a.{number}")
        with pytest.raises(ValueError, match="at most"):
            client.subscribe("a.one.more")
        await client.request(b"")
        client._session.requests.subscribe("a.one.more", True)
        reason = await server.reason_of("me")
        assert reason.cause is DisconnectCause.PROTOCOL
        assert not server._subscriptions._patterns


async def test_wrong_calls_say_so(loop):
    server = serve(0)
    with pytest.raises(NotConnectedError):
        server.publish("a", b"")
    async with publishing() as server, watching(server, "me", "a"):
        with pytest.raises(ValueError, match="publish to one subject"):
            server.publish("a.*", b"")
        with pytest.raises(TypeError, match="subject is a str"):
            server.publish(b"a", b"")
        with pytest.raises(TypeError):
            server.publish("a", "text")
        errors = []

        def elsewhere():
            try:
                server.publish("a", b"")
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert "own thread" in str(errors[0])


async def test_a_client_is_told_nothing_by_subscriptions_of_a_server(loop):
    """A server has nothing to subscribe to; what says so is ignored."""
    async with publishing() as server, watching(server, "me") as client:
        server.peer("me").requests.subscribe("a", True)
        server.send("me", b"end")
        assert await client.receive(timeout=30) == b"end"


def test_a_server_has_its_own(new_loop):
    assert Server()._subscriptions is not Server()._subscriptions
