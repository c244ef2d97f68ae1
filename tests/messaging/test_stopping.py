"""Starts and stops that are stopped, cancelled, doubled: what is heard, and what is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest

from zerio_asyncio.messaging import DisconnectCause, NotConnectedError, RequestError, connect, serve

from .support import SECONDS, Client, address_of, connected, plain, serving


@contextlib.asynccontextmanager
async def mute():
    """A server that takes connections and never answers; gives its address."""

    async def hold(reader, writer):
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.release()
        writer.close()

    ended = asyncio.Semaphore(0)
    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()
        await ended.acquire()


async def started(client):
    start = asyncio.ensure_future(client.start())
    while client._session is None:
        await asyncio.sleep(0.001)
    return start


async def test_stopped(loop):
    async with mute() as address:
        client = Client(address)
        start = await started(client)
        await client.stop()
        with pytest.raises(NotConnectedError, match="stopped"):
            await start


async def test_cancelled(loop):
    async with mute() as address:
        client = Client(address)
        start = await started(client)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        await client.stop()


@pytest.mark.parametrize("stop_first", [False, True])
async def test_stopped_and_cancelled(loop, stop_first):
    """A cancelled task is cancelled, whatever else happens to it."""
    async with mute() as address:
        client = Client(address)
        start = await started(client)
        stop = loop.create_task(client.stop())
        if stop_first:
            await asyncio.sleep(0)
        start.cancel()
        await stop
        with pytest.raises(asyncio.CancelledError):
            await start
        assert client._loop is None


async def test_stopped_when_its_time_is_up(loop):
    """Nobody is left with an exception that nobody takes; the fixtures see to that."""
    async with mute() as address:
        client = Client(address)
        waiting = asyncio.ensure_future(asyncio.wait_for(client.start(), 60))
        while client._session is None:
            await asyncio.sleep(0.001)
        stop = loop.create_task(client.stop())
        await asyncio.sleep(0)
        waiting.cancel()
        await stop
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_cancelled_in_the_tick_of_the_answer(loop):
    async with serving() as server:
        client = Client(address_of(server))
        client.arrived = lambda: start.cancel()
        start = asyncio.ensure_future(client.start())
        with pytest.raises(asyncio.CancelledError):
            await start
        assert not client.is_connected
        await server.reason_of("peer")
        assert server.peers == ()
        await client.stop()


@pytest.mark.parametrize("steps", range(4))
async def test_a_stop_that_is_cancelled_ends_the_connection(loop, steps):
    async with serving() as server:
        client = Client(address_of(server))
        before = asyncio.all_tasks()
        await client.start()
        await server.connection_of("peer")
        stop = asyncio.ensure_future(client.stop())
        for _ in range(steps):
            await asyncio.sleep(0)
        stop.cancel()
        cancelled = await asyncio.gather(stop, return_exceptions=True)
        if steps == 0:  # it had not begun
            assert client.is_connected
            await client.stop()
        assert steps > 2 or isinstance(cancelled[0], asyncio.CancelledError)
        assert not client.is_connected
        await client.start()
        await client.until(lambda: len(client.events) == 3)
        assert [each[0] for each in client.events].count("disconnected") == 1
        assert client.is_connected, "the end of the connection before is not this one's"
        client.send(b"again")
        assert await server.messages_of("peer", 1) == [b"again"]
        await client.stop()
        assert asyncio.all_tasks() == before


async def test_a_server_whose_stop_is_cancelled(loop):
    server = serve(0)
    await server.start()
    client = Client(address_of(server))
    await client.start()
    stop = asyncio.ensure_future(server.stop())
    await asyncio.sleep(0)
    stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stop
    assert not server.is_running
    await client.reason_of_end()
    await server.start()
    await server.stop()
    await client.stop()


async def test_a_second_stop_waits_for_the_first(loop):
    async with serving(unsent_max=64 << 20) as server, plain(server) as deaf:
        while not server.peer("plain").unsent:
            server.send("plain", bytes(60_000))
        first = asyncio.ensure_future(server.stop(patience=SECONDS))
        second = asyncio.ensure_future(server.stop(patience=SECONDS))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not first.done()
        assert not second.done()
        await deaf.receive_all()
        await asyncio.wait([second])
        assert not server._connections
        await first


@pytest.mark.parametrize("who", ["server", "client"])
async def test_a_handler_of_requests_may_stop(loop, who):
    """The end of the connection cancels handlers of requests, but not the one that ended it."""
    stopped = asyncio.Event()

    async def on_request(request):
        await (server if who == "server" else client).stop()
        stopped.set()

    choices = {"on_request": on_request}
    async with serve(0, **(choices if who == "server" else {})) as server:
        async with connect(
            address_of(server), "me", extensions=True, **(choices if who == "client" else {})
        ) as client:
            with pytest.raises(OSError):
                await (client.request(b"") if who == "server" else server.request("me", b""))
            await asyncio.wait_for(stopped.wait(), SECONDS)


async def test_two_handlers_that_stop(loop):
    both = asyncio.Barrier(2) if hasattr(asyncio, "Barrier") else None
    returned = []

    async def on_message(peer, message):
        if both is not None:
            await both.wait()
        await server.stop(patience=SECONDS)
        returned.append(message)

    async with serve(0, on_message) as server, connected(server) as client:
        client.send(b"1")
        client.send(b"2")
        await client.reason_of_end()
        await server.stop(patience=SECONDS)
    while len(returned) < 2:
        await asyncio.sleep(0.001)
    assert sorted(returned) == [b"1", b"2"]


async def test_a_request_that_is_refused_and_cancelled_in_one_turn(loop, caught):
    """Nobody waits for the refusal any more, and nobody is told that nobody did."""
    async with serving() as server, connected(server, extensions=True) as client:
        task = asyncio.ensure_future(client.request(b""))
        while not client.peer.requests._replies:
            await asyncio.sleep(0)
        (reply,) = client.peer.requests._replies.values()
        reply.add_done_callback(lambda _: task.cancel())
        with pytest.raises((asyncio.CancelledError, RequestError)):
            await task
        del reply
        gc.collect()
        assert not caught


async def test_the_reason_of_a_stop_that_was_cancelled(loop):
    async with serving() as server:
        client = Client(address_of(server))
        await client.start()
        stop = asyncio.ensure_future(client.stop())
        await asyncio.sleep(0)
        stop.cancel()
        await asyncio.wait([stop])
        assert (await client.reason_of_end()).cause is DisconnectCause.LOCAL


async def test_handlers_that_begin_during_a_stop_end_with_it(loop):
    """Messages that wait are still handled while there is time, one after the other."""
    handled = []

    async def on_message(peer, message):
        await asyncio.sleep(0.01)
        handled.append(message)

    before = asyncio.all_tasks()
    server = serve(0, on_message, concurrency=1)
    await server.start()
    async with connected(server) as client:
        for _ in range(200):
            client.send(b"")
        while not handled:
            await asyncio.sleep(0.001)
        await server.stop(patience=0.05)
        count = len(handled)
        await client.reason_of_end()
    assert asyncio.all_tasks() == before
    assert len(handled) == count


async def test_starts_that_fail_are_cancelled_and_stopped_at_every_step(loop, caught):
    """Nobody is left with an exception, whichever of the three comes first."""

    def refuse(reader, writer):
        writer.close()

    before = asyncio.all_tasks()
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        client = Client(server.sockets[0].getsockname())
        for steps in range(60):
            start = asyncio.ensure_future(client.start())
            for _ in range(steps % 20):
                await asyncio.sleep(0)
            start.cancel()
            for _ in range(steps // 20):
                await asyncio.sleep(0)
            start.cancel()
            stop = asyncio.ensure_future(client.stop())
            for _ in range(steps % 3):
                await asyncio.sleep(0)
            stop.cancel()
            await asyncio.gather(start, stop, return_exceptions=True)
            await client.stop()
            gc.collect()
            assert not caught, steps
    while asyncio.all_tasks() != before:
        await asyncio.sleep(0.001)


async def test_a_connection_that_opens_after_its_client_has_stopped_is_closed(loop, monkeypatch):
    """It was under way, and heard of the stop too late."""
    create = loop.create_connection
    opened = loop.create_future()
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def late(*args, **options):
        began.set()
        while not goes_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await goes_on.wait()
        opened.set_result(await create(*args, **options))
        return opened.result()

    monkeypatch.setattr(loop, "create_connection", late)
    async with serving() as server:
        client = Client(address_of(server))
        starting = asyncio.ensure_future(client.start())
        await began.wait()
        stopping = asyncio.ensure_future(client.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stopping
        goes_on.set()
        transport, _ = await opened
        with pytest.raises((NotConnectedError, asyncio.CancelledError)):
            await starting
        while not transport.is_closing():
            await asyncio.sleep(0.001)
        assert not client.is_connected
