"""Started by async with, received by receive, async for or one style of handlers; clear errors."""

from __future__ import annotations

import asyncio

import pytest

from zerio_asyncio.messaging import (
    ConnectionClosed,
    DisconnectCause,
    NotConnectedError,
    UnknownPeerError,
    connect,
    serve,
)

from .support import Server, address_of, connected, plain, serving


@pytest.fixture(params=["block", "spin"])
def loop(request, new_loop):
    return new_loop(wait=request.param)


async def test_async_with_starts_both_sides(loop):
    async with serve(0) as server, connect(address_of(server), "me") as client:
        assert server.is_running
        assert client.is_connected
        client.send(b"question")
        peer, message = await server.receive()
        assert (peer.id, message) == ("me", b"question")
        peer.send(b"answer")
        assert await client.receive() == b"answer"
        assert server.peer("me") is peer
        assert client.peer.id == "me"
    assert not server.is_running
    assert not client.is_connected


async def test_receive_gives_up_and_loses_nothing(loop):
    async with serve(0) as server, connect(address_of(server), "me") as client:
        for number in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await client.receive(timeout=0.01)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(client), 0.01)
            with pytest.raises(asyncio.TimeoutError):
                await server.receive(timeout=0)
            server.send("me", b"%d" % number)
            assert await client.receive(timeout=10) == b"%d" % number
        server.send("me", b"by iteration")
        async for message in client:
            assert message == b"by iteration"
            break


async def test_receiving_ends_with_the_reason(loop):
    async with serve(0) as server, connect(address_of(server), "me") as client:
        server.send("me", b"last")
        server.disconnect("me", "enough")
        assert await client.receive() == b"last"
        with pytest.raises(ConnectionClosed, match="the peer closed") as closed:
            await client.receive(timeout=10)
        assert closed.value.reason is client.reason
        assert client.reason.cause is DisconnectCause.PEER
        assert [message async for message in client] == []
    with pytest.raises(ConnectionClosed):
        await server.receive()
    assert [item async for item in server] == []


async def test_an_iteration_raises_if_the_connection_broke(loop):
    async with serve(0) as server, connect(address_of(server), "me") as client:
        await asyncio.sleep(0)
        server.peer("me").abort(DisconnectCause.LOCAL, "reset")
        while client.is_connected:
            await asyncio.sleep(0.001)
        if not client.reason.clean:  # a reset, or a close, as the system has it
            with pytest.raises(ConnectionClosed) as closed:
                await anext(client)
            assert closed.value.__cause__ is client.reason.error


async def test_what_is_not_started_says_so(loop):
    for node in (serve(0), connect(("127.0.0.1", 1), "me")):
        for receive in (node.receive, lambda node=node: anext(node)):
            with pytest.raises(RuntimeError, match="async with"):
                await receive()
        with pytest.raises(RuntimeError, match="async with"):
            aiter(node)
    with pytest.raises(NotConnectedError, match="not been started"):
        serve(0).send("me", b"")
    with pytest.raises(NotConnectedError, match="not been started"):
        connect(("127.0.0.1", 1), "me").send(b"")


async def test_a_handler_that_is_set_too_late(loop):
    server = serve(0)
    server.on_message = server.on_event = server.on_request = lambda *arguments: None
    async with server, connect(address_of(server), "me") as client:
        for node in (server, client):
            for name in ("on_message", "on_event", "on_request"):
                with pytest.raises(RuntimeError, match=f"{name} is set too late"):
                    setattr(node, name, print)


async def test_handlers_that_are_awaited_are_bounded(loop):
    running, most, done = 0, 0, []
    going = asyncio.Event()

    async def on_message(peer, message):
        nonlocal running, most
        running += 1
        most = max(most, running)
        assert type(message) is bytes
        await going.wait()
        running -= 1
        done.append(message)
        await asyncio.sleep(0)
        peer.send(message)

    async with serve(0, on_message, concurrency=3) as server:
        async with connect(address_of(server), "me") as client:
            wanted = [b"%d" % number for number in range(20)]
            for message in wanted:
                client.send(message)
            while running < 3:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
            assert (running, most) == (3, 3)
            going.set()
            assert sorted([await client.receive(10) for _ in wanted]) == sorted(wanted)
            assert most == 3
            assert done == wanted, "each begins in its turn"


async def test_one_handler_after_the_other(loop):
    inside = 0
    seen = []

    class Handler:
        async def __call__(self, message):
            nonlocal inside
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.001)
            seen.append(message)
            inside -= 1

    async with serve(0) as server:
        async with connect(address_of(server), "me", Handler(), concurrency=1):
            for number in range(10):
                server.send("me", b"%d" % number)
            while len(seen) < 10:
                await asyncio.sleep(0.001)
    assert seen == [b"%d" % number for number in range(10)]


async def test_an_awaited_handler_that_raises_ends_its_connection_alone(loop, caught):
    async def on_message(peer, message):
        await asyncio.sleep(0)
        if message == b"wrong":
            raise ZeroDivisionError
        peer.send(message)

    async with serving(on_message=on_message) as server, plain(server, "good") as good:
        async with plain(server, "bad") as bad:
            await bad.send_message(b"wrong")
            reason = await server.reason_of("bad")
            assert reason.cause is DisconnectCause.HANDLER
            assert "'bad'" in caught.take_one(ZeroDivisionError)["message"]
        await good.send_message(b"right")
        assert await good.receive_message() == b"right"


async def test_stop_waits_for_handlers_and_then_cancels_them(loop):
    ended = []

    async def on_message(peer, message):
        try:
            await asyncio.sleep(0.01 if message == b"short" else 60)
            ended.append(message)
        except asyncio.CancelledError:
            ended.append(b"cancelled")
            raise

    server = serve(0, on_message)
    await server.start()
    async with connect(address_of(server), "me") as client:
        client.send(b"short")
        client.send(b"long")
        while len(server.handlers._tasks) < 3:
            await asyncio.sleep(0.001)
        await server.stop(patience=0.2)
    assert ended == [b"short", b"cancelled"]


async def test_a_handler_may_stop_its_server(loop):
    stopped = asyncio.Event()

    async def on_message(peer, message):
        await server.stop(0.1)
        stopped.set()

    server = serve(0, on_message)
    await server.start()
    async with connect(address_of(server), "me") as client:
        client.send(b"stop")
        await stopped.wait()
    assert not server.is_running


async def test_sending_to_who_is_leaving(loop):
    async with serving() as server, connected(server) as client:
        await server.connection_of("peer")
        peer = server.peer("peer")
        peer.disconnect("go")
        for send in (peer.send, lambda message: server.send("peer", message)):
            with pytest.raises(ConnectionClosed, match="go") as closed:
                send(b"late")
            assert closed.value.reason is peer.reason
        assert server.broadcast(b"late") == 0
        await server.reason_of("peer")
        with pytest.raises(UnknownPeerError):
            server.send("peer", b"later")
        with pytest.raises(ConnectionClosed):
            peer.send(b"later")
        reason = await client.reason_of_end()
        with pytest.raises(ConnectionClosed) as closed:
            client.send(b"later")
        assert closed.value.reason is reason


async def test_peers_and_their_state(loop):
    async with serving() as server, connected(server) as client:
        await server.connection_of("peer")
        peer = server.peer("peer")
        assert repr(peer) == "<Peer 'peer' open>"
        assert (peer.closing, peer.reason, peer.unsent, peer.dropped) == (False, None, 0, 0)
        await client.stop()
        await server.reason_of("peer")
        assert peer.closing
        assert "the peer closed the connection" in repr(peer)


def test_inherited_handlers_are_passed_in():
    class Own(Server):
        pass

    assert Own().on_message is not None
