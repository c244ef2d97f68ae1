"""redis-py's asyncio client against a real redis-server."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import redis.asyncio as redis
from redis.exceptions import ConnectionError as RedisConnectionError

from .support import KIB, MIB, in_parallel, payload


@pytest.fixture(params=["tcp", "tls", "unix"])
def where(request, redis_server, certificate):
    if request.param == "tcp":
        return {"host": "127.0.0.1", "port": redis_server.port}
    if request.param == "tls":
        trusted = {"ssl": True, "ssl_ca_certs": str(certificate.file)}
        return {"host": "localhost", "port": redis_server.tls_port, **trusted}
    return {"unix_socket_path": redis_server.unix}


@contextlib.asynccontextmanager
async def connecting(where, **options):
    async with redis.Redis(**where, **options) as client:
        await client.flushall()
        yield client


async def test_thousands_of_commands(loop, where):
    async with connecting(where) as client:

        async def worker(number):
            for turn in range(200):
                assert await client.set(f"{number}/{turn}", turn)
                assert await client.get(f"{number}/{turn}") == b"%d" % turn

        await in_parallel(10, work=worker)
        assert await client.dbsize() == 2000


async def test_counters_lose_nothing(loop, where):
    async with connecting(where) as client:

        async def worker(number):
            for _ in range(200):
                await client.incr("counter")

        await in_parallel(10, work=worker)
        assert await client.get("counter") == b"2000"


async def test_pipelines(loop, where):
    async with connecting(where) as client:
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(10_000):
                pipeline.set(f"key {number}", number)
            assert await pipeline.execute() == [True] * 10_000
            for number in range(10_000):
                pipeline.get(f"key {number}")
            assert await pipeline.execute() == [b"%d" % number for number in range(10_000)]


async def test_transactions_that_collide(loop, where):
    async with connecting(where) as client:

        async def worker(number):
            async with client.pipeline() as pipeline:
                for _ in range(20):
                    while True:
                        try:
                            await pipeline.watch("balance")
                            balance = int(await pipeline.get("balance") or 0)
                            pipeline.multi()
                            pipeline.set("balance", balance + 1)
                            await pipeline.execute()
                            break
                        except redis.WatchError:
                            continue

        await in_parallel(5, work=worker)
        assert await client.get("balance") == b"100"


async def test_large_values(loop, where):
    async with connecting(where) as client:
        for size in (0, 1, 16 * KIB, 64 * KIB + 1, 20 * MIB):
            value = payload(size)
            await client.set("large", value)
            assert await client.get("large") == value
        keys = [f"key {number}" for number in range(50)]
        values = [payload(100_000, number) for number in range(50)]
        await client.mset(dict(zip(keys, values, strict=True)))
        assert await client.mget(keys) == values


async def test_publish_and_subscribe(loop, where):
    async with connecting(where) as client:

        async def subscriber(number):
            async with client.pubsub() as subscription:
                await subscription.subscribe("news")
                await subscription.psubscribe("weather.*")
                for _ in range(2):
                    assert (await anext(subscription.listen()))["type"].endswith("subscribe")
                ready.release()
                received = []
                while (message := await anext(subscription.listen()))["data"] != b"the end":
                    received.append(message["data"])
                return received

        ready = asyncio.Semaphore(0)
        subscribers = [asyncio.create_task(subscriber(number)) for number in range(10)]
        for _ in subscribers:
            await ready.acquire()
        for number in range(500):
            channel = "news" if number % 2 else "weather.berlin"
            assert await client.publish(channel, number) == 10
        large = payload(MIB)
        await client.publish("news", large)
        await client.publish("news", "the end")
        expected = [b"%d" % number for number in range(500)] + [large]
        assert await asyncio.gather(*subscribers) == [expected] * 10


async def test_a_queue(loop, where):
    async with connecting(where) as client:

        async def consumer(number):
            received = []
            while (item := (await client.blpop("queue"))[1]) != b"end":
                received.append(int(item))
            return received

        consumers = [asyncio.create_task(consumer(number)) for number in range(8)]
        for number in range(1000):
            await client.rpush("queue", number)
        await client.rpush("queue", *["end"] * 8)
        found = await asyncio.gather(*consumers)
        assert sorted(item for received in found for item in received) == list(range(1000))
        assert all(received == sorted(received) for received in found)


async def test_a_blocking_pop_is_cancelled(loop, where):
    """The connection of a cancelled command is not given to the next with an answer in it."""
    async with connecting(where) as client:
        for turn in range(20):
            pops = [asyncio.create_task(client.blpop("never")) for _ in range(3)]
            while (await client.info("clients"))["blocked_clients"] < len(pops):
                await asyncio.sleep(0)
            for pop in pops:
                pop.cancel()
            for result in await asyncio.gather(*pops, return_exceptions=True):
                assert isinstance(result, asyncio.CancelledError)
            assert await client.set("turn", turn)
            assert await client.get("turn") == b"%d" % turn
        while (await client.info("clients"))["blocked_clients"]:
            await asyncio.sleep(0)
        assert await client.rpush("never", "x") == 1  # nobody takes it


async def test_timeouts(loop, where):
    async with connecting(where) as client:
        for _ in range(5):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.blpop("never"), 0.1)
        assert await client.blpop("never", timeout=0.05) is None
        assert await client.ping()


async def test_a_connection_that_the_server_kills(loop, where):
    async with connecting(where) as client, redis.Redis(**where) as other:
        number = await other.client_id()
        waiting = asyncio.create_task(other.connection_pool.get_connection())
        connection = await waiting
        assert await client.client_kill_filter(_id=str(number))
        with pytest.raises(RedisConnectionError):
            while True:
                await connection.send_command("PING")
                assert await connection.read_response() in (b"PONG", "PONG")
        await other.connection_pool.release(connection)
        assert await other.ping()  # on a new connection
