"""Peers that do not read: what becomes of their messages, and that nobody else waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading

import pytest

from zerio_asyncio.messaging import (
    ConnectionClosed,
    DisconnectCause,
    SlowPeerError,
    UnknownPeerError,
)

from ..loop.support import receive_exactly, spin
from .support import connected, plain, serving

SMALL = {"max_message_size": 10_000, "unsent_max": 256 * 1024}
"""More than 16 KiB wait: drains wait, too, and messages are kept."""


@pytest.fixture(params=["block", "spin"])
def loop(request, new_loop):
    return new_loop(wait=request.param)


def numbered(number, size=10_000):
    return struct.pack("<i", number).ljust(size, b".")


async def numbers(peer, enough):
    """Read numbered messages until ``enough(seen)``; in one thread, which is not woken for each."""

    def read():
        seen = []
        while not enough(seen):
            (length,) = struct.unpack("<i", receive_exactly(peer.sock, 4))
            seen.append(struct.unpack_from("<i", receive_exactly(peer.sock, length))[0])
        return seen

    return await asyncio.to_thread(read)


def up_to(last):
    return lambda seen: bool(seen) and seen[-1] == last


async def send_until_dropped(server, peer_id, dropped, send=None):
    """How many were sent until ``dropped`` of them were not."""
    send = send or (lambda number: server.send(peer_id, numbered(number)))
    number = 0
    while server.peer(peer_id).dropped < dropped:
        send(number)
        number += 1
        if not number % 16:
            await spin()
    return number


async def test_the_newest_are_dropped(loop):
    async with serving(slow_peer="drop-newest", **SMALL) as server, plain(server, "slow") as peer:
        sent = await send_until_dropped(server, "slow", 20)
        dropped = server.peer("slow").dropped
        seen = await numbers(peer, up_to(sent - dropped - 1))
        assert seen == list(range(sent - dropped)), "the first of them, and no other"
        await server.drain("slow")
        server.send("slow", numbered(-1))
        assert await numbers(peer, up_to(-1)) == [-1]


async def test_the_oldest_are_dropped(loop):
    async with serving(slow_peer="drop-oldest", **SMALL) as server, plain(server, "slow") as peer:
        sent = await send_until_dropped(server, "slow", 100)
        assert server.peer("slow").unsent <= 256 * 1024 + 64 * 1024
        seen = await numbers(peer, up_to(sent - 1))
        assert len(seen) == sent - server.peer("slow").dropped
        assert seen == sorted(seen)
        gap = next(number for number in range(sent) if number not in seen)
        assert seen[gap:] == list(range(sent - len(seen) + gap, sent)), "one gap, and all the last"
        await server.drain("slow")
        server.send("slow", numbered(sent))
        assert await numbers(peer, up_to(sent)) == [sent]
        assert server.total.held == 0


class EndsItsSession:
    """A session's writer: what it sends is the last, as when a finalizer ends the connection."""

    def __init__(self, session):
        self._session, self._writer = session, session.writer
        session.writer = self

    def __getattr__(self, name):
        return getattr(self._writer, name)

    def send_over(self, message):
        self._writer.send_over(message)
        self._session.abort(DisconnectCause.LOCAL, "enough")


async def test_an_end_while_what_was_kept_is_handed_on(loop):
    async with serving(slow_peer="drop-oldest", **SMALL) as server, plain(server, "slow") as peer:
        await send_until_dropped(server, "slow", 100)
        assert server.total.held
        EndsItsSession(server.peer("slow"))
        with contextlib.suppress(ConnectionError):
            await peer.receive_all()
        await server.until(lambda: not server.peers)
        assert server.total.held == 0


async def test_the_latest_of_each_key_is_kept(loop):
    async with serving(slow_peer="latest", **SMALL) as server, plain(server, "slow") as peer:

        def send(number):
            server.send("slow", numbered(number, 1000), key=number % 3)

        number = await send_until_dropped(server, "slow", 300, send)
        last = {number - 3, number - 2, number - 1}
        seen = await numbers(peer, last.issubset)
        for key in range(3):
            of_key = [one for one in seen if one % 3 == key]
            assert of_key == sorted(of_key)
        assert len(seen) == number - server.peer("slow").dropped
        assert server.total.held == 0


async def test_who_keeps_up_gets_everything(loop):
    async with serving(slow_peer="latest", **SMALL) as server, connected(server) as client:
        await server.connection_of("peer")
        for number in range(3000):
            server.send("peer", numbered(number, 100), key="always the same")
            if not number % 20:
                await server.drain("peer")
                await client.messages_of(number + 1)
        await client.messages_of(3000)
        assert server.peer("peer").dropped == 0


@pytest.mark.parametrize("slow", ["drop-newest", "drop-oldest", "latest"])
async def test_what_threads_send_is_treated_alike(loop, slow):
    async with serving(slow_peer=slow, **SMALL) as server, plain(server, "slow") as peer:
        stop = threading.Event()
        sent = 0

        def flood():
            nonlocal sent
            while not stop.is_set():
                server.send("slow", numbered(sent))
                sent += 1

        thread = threading.Thread(target=flood)
        thread.start()
        while server.peer("slow").dropped < 100:
            await asyncio.sleep(0.001)
        stop.set()
        while thread.is_alive():
            await asyncio.sleep(0.001)
        while server.peer("slow").writer.waiting:
            await asyncio.sleep(0.001)
        assert server.peers == ("slow",)
        wanted = sent - server.peer("slow").dropped
        seen = await numbers(peer, lambda seen: len(seen) == wanted)
        assert seen == sorted(set(seen))
        if slow != "drop-newest":
            assert seen[-1] == sent - 1


async def test_a_key_belongs_to_the_loops_thread(loop):
    async with serving() as server, connected(server):
        await server.connection_of("peer")
        with pytest.raises(RuntimeError, match="own thread"):
            await asyncio.to_thread(lambda: server.send("peer", b"", key=1))


async def test_one_deaf_peer_holds_up_no_broadcast(loop):
    async with serving(slow_peer="drop-newest", **SMALL) as server, plain(server, "deaf"):
        async with connected(server, "good") as good:
            await server.connection_of("good")
            number = 0
            while server.peer("deaf").dropped < 3:
                assert server.broadcast(numbered(number)) in {1, 2}
                number += 1
                await good.messages_of(number)
            assert await server.drain() == ("deaf",)
            assert await server.drain(timeout=0) == ("deaf",)
            with pytest.raises(asyncio.TimeoutError):
                await server.drain("deaf", timeout=0.01)
            assert good.received == [numbered(each) for each in range(number)]


async def test_a_drain_leaves_out_who_goes(loop):
    async with serving(**SMALL) as server, plain(server, "slow") as peer:
        while not server.peer("slow")._writing_paused:
            server.send("slow", numbered(0))
            await spin()
        draining = asyncio.ensure_future(server.drain())
        await asyncio.sleep(0.01)
        peer.reset()
        assert await draining == ()


async def test_drains_that_are_given_up_leave_nothing(loop):
    async with serving(**SMALL) as server, plain(server, "slow"):
        peer = server.peer("slow")
        while not peer._writing_paused:
            server.send("slow", numbered(0))
            await spin()
        for _ in range(20):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(peer.drain(), 0.001)
            with pytest.raises(asyncio.TimeoutError):
                await peer.drain(timeout=0.001)
        assert not peer._writable_waiters


async def test_a_broadcast_without_some(loop):
    async with serving() as server:
        async with connected(server, "a") as a, connected(server, "b") as b:
            assert server.broadcast(b"not for a", exclude={"a", "nobody"}) == 1
            assert server.broadcast(b"for all") == 2
            assert await b.messages_of(2) == [b"not for a", b"for all"]
            assert await a.messages_of(1) == [b"for all"]


@pytest.mark.parametrize("slow", ["drop-newest", "drop-oldest", "latest", "raise", "disconnect"])
async def test_a_broadcast_decides_about_the_slow(loop, slow):
    async with serving(**SMALL) as server, plain(server, "deaf"):
        async with connected(server, "good") as good:
            await server.connection_of("good")
            deaf = server.peer("deaf")
            number = 0
            failed = None
            while failed is None and not deaf.dropped and not deaf.closing:
                try:
                    server.broadcast(numbered(number), slow=slow, key="all")
                except SlowPeerError as error:
                    failed = error.peer_ids
                number += 1
                await good.messages_of(number)
            assert (failed == ("deaf",)) == (slow == "raise")
            assert deaf.closing == (slow == "disconnect")
            assert bool(deaf.dropped) == (slow not in {"raise", "disconnect"})
            assert good.received == [numbered(each) for each in range(number)]


async def test_plain_messages_stay_behind_those_that_are_kept(loop):
    """A broadcast keeps some for a peer whose own rule is another: the order holds."""
    async with serving(**SMALL) as server, plain(server, "slow") as peer:
        slow = server.peer("slow")
        number = 0
        while not slow._backlog:
            server.broadcast(numbered(number, 1000), slow="drop-oldest")
            number += 1
            await spin()
        for _ in range(5):
            server.send("slow", numbered(number, 1000))
            number += 1
        await asyncio.to_thread(server.send, "slow", numbered(number, 1000))
        assert await numbers(peer, up_to(number)) == list(range(number + 1))


async def test_all_peers_together_have_a_limit(loop):
    limit = 1 << 20
    choices = {**SMALL, "unsent_total_max": limit, "slow_peer": "drop-newest"}
    async with serving(**choices) as server, connected(server, "good") as good:
        deaf = []
        for number in range(16):
            context = plain(server, f"deaf{number}")
            deaf.append(context)
            await context.__aenter__()
        number = 0
        while not all(server.peer(f"deaf{n}").dropped for n in range(16)):
            server.broadcast(numbered(number))
            number += 1
            await good.messages_of(number)
            unsent = sum(server.peer(peer_id).unsent for peer_id in server.peers)
            assert unsent <= limit + 17 * (4096 + 10_004)
        assert unsent > limit // 2, "and what may wait, does"
        assert good.received == [numbered(each) for each in range(number)]
        for context in deaf:
            await context.__aexit__(None, None, None)
        await server.until(lambda: server.peers == ("good",))
        assert server.broadcast(b"goes on") == 1


async def test_threads_that_flood_a_deaf_peer_are_told_once_each(loop, monkeypatch):
    """The loop is not buried: one callback ends the connection."""
    async with serving(**SMALL) as server, plain(server, "deaf"):
        calls = []
        call_soon_threadsafe = loop.call_soon_threadsafe

        def counting(callback, *args, **kwargs):
            calls.append(callback)
            return call_soon_threadsafe(callback, *args, **kwargs)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
        deaf = server._sessions["deaf"]
        refused = []

        def flood():
            while True:
                try:
                    server.send("deaf", bytes(5000))
                except ConnectionClosed as closed:
                    refused.append(closed)
                    if len(refused) > 1000:
                        return
                except UnknownPeerError:
                    return

        threads = [threading.Thread(target=flood) for _ in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0.001)
        assert (await server.reason_of("deaf")).cause is DisconnectCause.SLOW
        assert refused
        assert sum(callback == deaf._end_slow for callback in calls) <= 1
