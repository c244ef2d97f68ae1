"""pyzmq's asyncio sockets: a reader on ZeroMQ's own descriptor, which tells of edges only."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import zmq
import zmq.asyncio

from .support import KIB, MIB, in_parallel, payload


@pytest.fixture(params=["tcp", "ipc", "inproc"])
def address(request, tmp_path):
    return {
        "tcp": "tcp://127.0.0.1:*",
        "ipc": f"ipc://{tmp_path}/zmq.sock",
        "inproc": "inproc://test",
    }[request.param]


@contextlib.contextmanager
def context():
    made = zmq.asyncio.Context()
    try:
        yield made
    finally:
        made.destroy(linger=0)


def bound(made, kind, address):
    socket = made.socket(kind)
    if kind == zmq.XPUB:
        socket.set_hwm(0)  # a publisher drops what is over its limit
    socket.bind(address)
    return socket, socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")


def connected(made, kind, address):
    socket = made.socket(kind)
    socket.connect(address)
    return socket


async def test_requests_and_replies(loop, address):
    with context() as made:
        server, address = bound(made, zmq.REP, address)
        client = connected(made, zmq.REQ, address)

        async def serve():
            while (message := await server.recv()) != b"end":
                await server.send(message)

        serving = asyncio.create_task(serve())
        for number in range(2000):
            await client.send(b"%d" % number)
            assert await client.recv() == b"%d" % number
        for size in (0, 16 * KIB, 64 * KIB + 1, 8 * MIB):
            message = payload(size)
            await client.send(message)
            assert await client.recv() == message
        await client.send(b"end")
        await serving


async def test_publish_and_subscribe(loop, address):
    with context() as made:
        publisher, address = bound(made, zmq.XPUB, address)
        subscribers = []
        for number in range(5):
            subscriber = made.socket(zmq.SUB)
            subscriber.set_hwm(0)
            subscriber.connect(address)
            subscriber.subscribe(b"even" if number % 2 else b"")
            subscribers.append(subscriber)
        publisher.setsockopt(zmq.XPUB_VERBOSE, 1)
        subscribed = set()
        while subscribed != {b"\1", b"\1even"}:
            subscribed.add(await publisher.recv())
        # All of them: the first of each kind was told of, the others are known by their answers.
        awaited = set(range(5))
        heard = [subscriber.recv() for subscriber in subscribers]
        while awaited:
            await publisher.send(b"even hello")
            await asyncio.sleep(0.001)
            awaited -= {number for number in awaited if heard[number].done()}
        await publisher.send(b"even begin")
        for number in range(3000):
            await publisher.send(b"%s %d" % (b"odd" if number % 2 else b"even", number))
        for number, subscriber in enumerate(subscribers):
            while await subscriber.recv() != b"even begin":
                pass
            step = 2 if number % 2 else 1
            for expected in range(0, 3000, step):
                kind = b"odd" if expected % 2 else b"even"
                assert await subscriber.recv() == b"%s %d" % (kind, expected)


async def test_dealers_and_a_router(loop, address):
    with context() as made:
        router, address = bound(made, zmq.ROUTER, address)

        async def serve():
            while True:
                identity, number = await router.recv_multipart()
                await router.send_multipart([identity, number, b"answer"])

        serving = asyncio.create_task(serve())

        async def client(name):
            with connected(made, zmq.DEALER, address) as dealer:

                async def send():
                    for number in range(500):
                        await dealer.send(b"%d" % number)

                sending = asyncio.create_task(send())
                for number in range(500):
                    assert await dealer.recv_multipart() == [b"%d" % number, b"answer"]
                await sending

        await in_parallel(10, work=client)
        serving.cancel()


async def test_push_and_pull_with_a_low_water(loop, address):
    """A sender at its limit waits; nothing is lost."""
    with context() as made:
        pull = made.socket(zmq.PULL)
        push = made.socket(zmq.PUSH)
        pull.set_hwm(10)
        push.set_hwm(10)
        pull.bind(address)
        push.connect(pull.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0"))

        async def send():
            for number in range(3000):
                await push.send(b"%d" % number)

        sending = asyncio.create_task(send())
        for number in range(3000):
            assert await pull.recv() == b"%d" % number
            if number % 500 == 0:
                await asyncio.sleep(0.01)
        await sending


async def test_receives_cancelled(loop, address):
    with context() as made:
        pull, address = bound(made, zmq.PULL, address)
        push = connected(made, zmq.PUSH, address)
        for number in range(200):
            receiving = pull.recv()
            await asyncio.sleep(0)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            await push.send(b"%d" % number)
            assert await pull.recv() == b"%d" % number


async def test_polling(loop, address):
    with context() as made:
        pull, address = bound(made, zmq.PULL, address)
        push = connected(made, zmq.PUSH, address)
        poller = zmq.asyncio.Poller()
        poller.register(pull, zmq.POLLIN)
        assert await poller.poll(10) == []
        for number in range(200):
            await push.send(b"%d" % number)
            assert await poller.poll() == [(pull, zmq.POLLIN)]
            assert await pull.recv() == b"%d" % number
