"""Why a connection ended, and what a client does about it: attempts that are told."""

from __future__ import annotations

import asyncio
import logging

import pytest

from zerio_asyncio.messaging import (
    ConnectFailed,
    Connecting,
    ConnectionClosed,
    DisconnectCause,
    Disconnected,
    HandshakeError,
    Reconnect,
    connect,
)

from ..loop.support import listener
from .support import Client, Server, address_of, connected, dial, framed, plain, serving

SOON = Reconnect(delay_min=0.002, delay_max=0.004)


@pytest.fixture(params=["block", "spin"])
def loop(request, new_loop):
    return new_loop(wait=request.param)


async def test_a_message_that_was_cut_is_no_clean_end(loop):
    async with serving() as server, plain(server) as peer:
        await peer.send(framed(b"unfinished")[:-3])
        peer.end()
        reason = await server.reason_of("plain")
        assert not reason.clean
        assert isinstance(reason.error, EOFError)


async def test_a_reset_is_the_cause_of_what_is_raised(loop):
    async with serving() as server, plain(server) as peer:
        known = server.peer("plain")
        peer.reset()
        reason = await server.reason_of("plain")
        assert not reason.clean
        with pytest.raises(ConnectionClosed) as closed:
            known.send(b"")
        assert closed.value.__cause__ is reason.error
        with pytest.raises(ConnectionClosed):
            await known.drain()


async def test_attempts_are_told_and_end(loop):
    async with serving() as server:
        how = Reconnect(delay_min=0.001, delay_max=0.002, attempts=3)
        client = Client(address_of(server), reconnect=how, on_message=None)
        await client.start()
    with pytest.raises(ConnectionClosed) as closed:
        await client.receive(timeout=20)
    assert closed.value.reason is client.reason
    told = client.all_events[2:]
    assert [type(event) for event in told] == [Connecting, ConnectFailed] * 3
    assert [event.attempt for event in told] == [1, 1, 2, 2, 3, 3]
    assert [event.delay for event in told[1::2]] == [0.002, 0.002, None]
    assert all(isinstance(event.error, OSError) for event in told[1::2])
    await client.stop()


async def test_a_handler_that_raises_when_it_is_back(loop, caught):
    """One attempt at a time, each later than the one before; stop ends them."""
    async with serving() as server:
        client = Client(address_of(server), reconnect=Reconnect(delay_min=0.01, delay_max=0.02))
        await client.start()
        client.arrived = lambda: 1 / 0
        server.disconnect("peer")
        while len(caught) < 5:
            await asyncio.sleep(0.001)
        tasks = [task for task in asyncio.all_tasks() if "_come_back" in repr(task)]
        assert len(tasks) == 1
        await client.stop(0.1)
        assert not [task for task in asyncio.all_tasks() if "_come_back" in repr(task)]
        contexts = caught.take()
        assert {type(context["exception"]) for context in contexts} == {ZeroDivisionError}
        events = client.all_events[2:]
        await asyncio.sleep(0.05)
        assert client.all_events[2:] == events, "nothing goes on after stop"
        failed = [event for event in events if isinstance(event, ConnectFailed)]
        assert [event.attempt for event in failed] == list(range(1, len(failed) + 1))


@pytest.mark.parametrize("turns", range(4))
async def test_a_connection_that_fails_while_it_is_stopped_is_not_made_again(loop, caught, turns):
    """Its end may be told after stop() has given the attempts up."""

    async def stop():
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.stop(0.1)
        return [task for task in asyncio.all_tasks() if "_come_back" in repr(task)]

    def fail():
        if not stopping:
            stopping.append(asyncio.ensure_future(stop()))
        raise ZeroDivisionError

    stopping = []
    async with serving() as server:
        how = Reconnect(delay_min=0.001, delay_max=0.002)
        client = Client(address_of(server), reconnect=how)
        await client.start()
        client.arrived = fail
        server.disconnect("peer")
        await client.until(lambda: stopping)
        assert await stopping[0] == []
        caught.take()


async def test_a_server_that_accepts_and_leaves_is_not_stormed(loop, monkeypatch):
    """A connection that did not last counts as a failure: the delays grow."""
    delays = []
    sleep = asyncio.sleep

    async def noted(delay):
        delays.append(delay)
        await sleep(0)

    monkeypatch.setattr("zerio_asyncio.messaging.client.random.uniform", lambda a, b: b)
    async with serving() as server:
        client = Client(address_of(server), reconnect=Reconnect(delay_min=1.0, delay_max=1000.0))
        await client.start()
        server.client_arrived = server.disconnect
        monkeypatch.setattr("zerio_asyncio.messaging.client.asyncio.sleep", noted)
        server.disconnect("peer")
        while len(delays) < 6:
            await sleep(0.001)
        monkeypatch.undo()
        await client.stop()
        assert delays[:6] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
        del server.client_arrived


async def test_what_is_lost_at_once_is_not_the_end(loop):
    """The connection that is back may be lost before the attempt has returned."""
    async with serving() as server:
        client = Client(address_of(server), reconnect=SOON)
        await client.start()
        left = 10

        def arrived(peer_id):
            nonlocal left
            left -= 1
            if left > 0:
                server.peer(peer_id).abort(DisconnectCause.LOCAL, "at once")

        server.client_arrived = arrived
        server.disconnect("peer")
        await client.until(lambda: left <= 0 and client.is_connected)
        client.send(b"back")
        assert await server.messages_of("peer", 1) == [b"back"]
        await client.stop()


async def test_the_time_for_connecting_has_a_limit(loop):
    """A listener whose queue is full: the system does not even answer."""
    with listener() as full:
        full.listen(0)
        waiting = [await dial_address(full.getsockname()) for _ in range(3)]
        client = Client(full.getsockname(), handshake_timeout=0.1)
        with pytest.raises(HandshakeError, match=r"within 0\.1 s"):
            await client.start()
        for writer in waiting:
            writer.close()


async def dial_address(address):
    import socket

    sock = socket.socket()
    sock.setblocking(False)
    try:
        sock.connect(address)
    except BlockingIOError:
        pass
    return sock


async def test_a_server_that_says_nothing_of_tls(loop, authority):
    from ..loop.tls import client_context

    with listener() as silent:
        client = Client(silent.getsockname(), handshake_timeout=0.1, ssl=client_context(authority))
        with pytest.raises(OSError, match="0.1"):
            await client.start()


async def test_who_is_refused_hears_why_as_far_as_it_can(loop, caplog):
    async with serving(duplicate_peer="refuse") as server, connected(server, "same"):
        plain_one = Client(address_of(server), "same")
        with pytest.raises(HandshakeError, match="refuse an id that is taken"):
            await plain_one.start()
        asking = Client(address_of(server), "same", extensions=True)
        with caplog.at_level(logging.WARNING, "zerio_asyncio"):
            for _ in range(3):
                with pytest.raises(HandshakeError, match="'same' is taken") as refused:
                    await asking.start()
                assert refused.value.cause is DisconnectCause.DUPLICATE
        assert len([record for record in caplog.records if "Refused" in record.message]) <= 1


async def test_a_flood_of_refusals_is_logged_once(loop, caplog, monkeypatch):
    monkeypatch.setattr("zerio_asyncio.messaging.server.REFUSALS_SECONDS", 1000.0)
    with caplog.at_level(logging.WARNING, "zerio_asyncio"):
        async with serving() as server:
            for _ in range(5):
                peer = await dial(server)
                await peer.send(b"GET / HTTP/1.1\r\n\r\n")
                await peer.receive_all_or_reset()
                peer.close()
    (record,) = [record for record in caplog.records if "Refused" in record.message]
    assert "looks like HTTP" in record.message


async def test_a_server_that_is_stopped_while_it_starts(loop):
    for turns in range(6):
        server = Server()
        starting = asyncio.ensure_future(server.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.stop()
        assert not server.is_running or turns == 0
        try:
            await starting
        except ConnectionError as error:
            assert "stopped" in str(error)
        if server.is_running:  # the start came after the stop
            await server.stop()
        assert not server.is_running


async def test_a_client_that_is_stopped_while_it_starts(loop):
    async with serving() as server:
        for turns in range(12):
            client = Client(address_of(server))
            starting = asyncio.ensure_future(client.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            await client.stop(0.1)
            try:
                await starting
            except ConnectionError as error:
                assert "stopped" in str(error)
            await client.stop(0.1)
            assert not client.is_connected


async def test_events_of_a_client(loop):
    async with serving() as server:
        seen = []
        async with connect(
            address_of(server), "me", reconnect=SOON, on_event=seen.append
        ) as client:
            server.disconnect("me")
            while len(seen) < 4:
                await asyncio.sleep(0.001)
        assert [type(event).__name__ for event in seen] == [
            "Connected", "Disconnected", "Connecting", "Connected", "Disconnected",
        ]  # fmt: skip
        assert seen[1].peer is seen[0].peer
        assert seen[3].peer is not seen[0].peer
        assert isinstance(seen[4], Disconnected)
        assert client.reason.cause is DisconnectCause.LOCAL


async def test_an_event_of_an_attempt_that_raises_does_not_end_the_attempts(loop, caught):
    async with serving() as server:
        client = Client(address_of(server), reconnect=SOON)
        await client.start()
        learn, client._on_event = client.learn, lambda event: (learn(event), fail(event))

        def fail(event):
            if isinstance(event, Connecting):
                raise ZeroDivisionError

        server.disconnect("peer")
        await client.until(lambda: client.events.count(("connected",)) == 2)
        caught.take_one(ZeroDivisionError)
        await client.stop()


async def test_a_stop_that_is_given_up_leaves_no_attempt(loop):
    async with serving() as server:
        client = Client(address_of(server), reconnect=Reconnect(delay_min=0.05, delay_max=0.05))
        await client.start()
        server.disconnect("peer")
        await client.reason_of_end()
        stopping = asyncio.ensure_future(client.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait([stopping])
        assert not [task for task in asyncio.all_tasks() if "_come_back" in repr(task)]
        await client.stop()
