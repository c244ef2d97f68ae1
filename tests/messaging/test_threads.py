"""send from any thread: in its order, never late, never lost without a word."""

from __future__ import annotations

import asyncio
import struct
import threading
import time

import pytest

from zerio_asyncio.messaging import ConnectionClosed, NotConnectedError, connect, serve

from ..loop.tls import client_context, forgetful, server_context
from .support import address_of, connected, pair, plain, serving

pytestmark = forgetful


@pytest.fixture(params=["block", "spin"])
def loop(request, new_loop):
    return new_loop(wait=request.param)


async def test_a_sleeping_loop_is_woken_by_send(loop):
    async with pair() as (server, client):

        def later():
            time.sleep(0.05)
            server.send("peer", b"from a thread")
            client.send(b"and back")

        sending = loop.run_in_executor(None, later)
        assert await client.messages_of(1) == [b"from a thread"]
        assert await server.messages_of("peer", 1) == [b"and back"]
        await sending


async def test_each_thread_keeps_its_order_and_so_does_the_loop(loop):
    threads, each = 3, 2000
    async with pair() as (server, client):
        peer = server.peer("peer")

        def send_all(name):
            for number in range(each):
                send = peer.send if number % 3 else peer.send_threadsafe
                send(struct.pack("<ii", name, number))

        sending = [loop.run_in_executor(None, send_all, name) for name in range(threads)]
        for number in range(each):
            send = peer.send if number % 3 else peer.send_threadsafe
            send(struct.pack("<ii", threads, number))
            if not number % 10:
                await asyncio.sleep(0)
        await asyncio.gather(*sending)
        await client.messages_of((threads + 1) * each)
        got = [struct.unpack("<ii", message) for message in client.received]
        for name in range(threads + 1):
            assert [number for who, number in got if who == name] == list(range(each))


async def test_a_broadcast_in_another_thread(loop):
    async with pair() as (server, client):
        assert await loop.run_in_executor(None, server.broadcast, b"to all") == 1
        assert await client.messages_of(1) == [b"to all"]


async def test_threads_send_over_tls(loop, authority):
    async with serving(ssl=server_context(authority.issue())) as server:
        async with connected(server, ssl=client_context(authority)) as client:
            await server.connection_of("peer")

            def send_all():
                for number in range(100):
                    server.send("peer", b"%d" % number)
                    client.send(b"%d" % number)

            await loop.run_in_executor(None, send_all)
            wanted = [b"%d" % number for number in range(100)]
            assert await client.messages_of(100) == wanted
            assert await server.messages_of("peer", 100) == wanted
            server.send("peer", b"by the loop")
            assert (await client.messages_of(101))[-1] == b"by the loop"


@pytest.mark.parametrize("tls", [False, True])
def test_the_loop_may_go_on_in_another_thread(new_loop, authority, tls):
    """The thread that runs it is the loop's, whichever made the connection."""
    loop = new_loop()
    options = [{}, {}]
    if tls:
        options = [{"ssl": server_context(authority.issue())}, {"ssl": client_context(authority)}]
    server = serve(0, **options[0])
    loop.run_until_complete(server.start())
    client = connect(address_of(server), "me", **options[1])
    loop.run_until_complete(client.start())
    failures = []

    async def exchange():
        for number in range(100):
            server.send("me", b"%d" % number)
            server.send_threadsafe("me", b"%d" % number, timeout=1)
            assert [await client.receive(5) for _ in range(2)] == [b"%d" % number] * 2

    def go_on():
        try:
            loop.run_until_complete(exchange())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=go_on)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert failures == []
    loop.run_until_complete(client.stop())
    loop.run_until_complete(server.stop())


async def test_the_ring_is_made_by_the_first_thread_that_needs_it(loop):
    async with pair() as (server, client):
        server.send("peer", b"here")
        server.send_threadsafe("peer", b"here, too")
        await client.messages_of(2)
        assert server.outbox._ring is None
        await loop.run_in_executor(None, server.send, "peer", b"elsewhere")
        assert server.outbox._ring is not None
        assert (await client.messages_of(3))[-1] == b"elsewhere"
        assert client.outbox._ring is None


@pytest.mark.parametrize("how", ["stop", "disconnect"])
async def test_what_is_accepted_arrives_and_what_is_not_is_told(loop, how):
    for _ in range(5):
        await close_while_a_thread_sends(how)


async def close_while_a_thread_sends(how):
    accepted = 0
    refused = []
    begun = threading.Event()

    def flood():
        nonlocal accepted
        peer = server.peer("plain")
        while True:
            try:
                peer.send(struct.pack("<i", accepted))
            except NotConnectedError as error:
                refused.append(error)
                return
            accepted += 1
            if accepted == 100:
                begun.set()

    server = serve(0)
    await server.start()
    async with plain(server) as peer:
        thread = threading.Thread(target=flood)
        thread.start()
        reading = asyncio.ensure_future(peer.receive_all())
        while not begun.is_set():
            await asyncio.sleep(0)
        if how == "stop":
            await server.stop()
        else:
            server.disconnect("plain")
        data = await reading
        while thread.is_alive():
            await asyncio.sleep(0.001)
        await server.stop()
    assert isinstance(refused[0], ConnectionClosed)
    assert data == b"".join(struct.pack("<ii", 4, number) for number in range(accepted))


async def test_a_message_of_the_wrong_kind_is_told_to_its_thread(loop):
    async with serving(max_message_size=100) as server, connected(server) as client:
        await server.connection_of("peer")
        for message, error in ((bytes(101), ValueError), ("text", TypeError)):
            with pytest.raises(error):
                await loop.run_in_executor(None, server.send, "peer", message)
        await loop.run_in_executor(None, server.send, "peer", bytearray(b"fine"))
        assert await client.messages_of(1) == [b"fine"]
