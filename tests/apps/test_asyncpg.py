"""asyncpg against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import io

import asyncpg
import pytest

from .support import MIB, in_parallel, payload


@pytest.fixture(params=["plain", "tls", "unix"])
def where(request, postgres, certificate):
    host = str(postgres.folder) if request.param == "unix" else "localhost"
    where = {"host": host, "port": postgres.port, "user": postgres.USER, "database": "postgres"}
    if request.param == "tls":
        return {**where, "ssl": certificate.client(), "direct_tls": False}
    return {**where, "ssl": False}


@contextlib.asynccontextmanager
async def connecting(where):
    connection = await asyncpg.connect(**where)
    try:
        yield connection
    finally:
        await connection.close()


async def test_thousands_of_queries(loop, where):
    async with asyncpg.create_pool(**where, min_size=4, max_size=8) as pool:

        async def worker(number):
            for turn in range(150):
                assert await pool.fetchval("SELECT $1::int + $2::int", number, turn) == (
                    number + turn
                )

        await in_parallel(16, work=worker)


async def test_tls_is_used_where_it_was_asked_for(loop, where):
    async with connecting(where) as connection:
        tls = await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert tls is bool(where["ssl"])


async def test_many_rows(loop, where):
    async with connecting(where) as connection:
        rows = await connection.fetch("SELECT n, n * 2 FROM generate_series(1, 100000) AS n")
        assert [tuple(row) for row in rows] == [(n, 2 * n) for n in range(1, 100_001)]


async def test_large_rows(loop, where):
    data = payload(20 * MIB)
    async with connecting(where) as connection:
        assert await connection.fetchval("SELECT $1::bytea", data) == data
        rows = await connection.fetch(
            "SELECT n, repeat(md5(n::text), 1000) AS text FROM generate_series(1, 300) AS n"
        )
        assert len(rows) == 300
        assert {len(row["text"]) for row in rows} == {32_000}


async def test_a_cursor(loop, where):
    async with connecting(where) as connection, connection.transaction():
        seen = 0
        query = "SELECT n FROM generate_series(1, 10000) AS n"
        async for row in connection.cursor(query, prefetch=37):
            seen += 1
            assert row["n"] == seen
        assert seen == 10_000


async def test_transactions(loop, where):
    async with connecting(where) as connection:
        await connection.execute("CREATE TEMPORARY TABLE account (owner text, balance int)")
        await connection.executemany(
            "INSERT INTO account VALUES ($1, $2)", [(f"owner {n}", n) for n in range(5000)]
        )
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with connection.transaction():
                await connection.execute("UPDATE account SET balance = 0")
                await connection.execute("SELECT 1 / 0")
        assert await connection.fetchval("SELECT sum(balance) FROM account") == sum(range(5000))


async def test_copy_in_and_out(loop, where):
    records = [(n, f"text {n}", payload(200, n)) for n in range(20_000)]
    async with connecting(where) as connection:
        await connection.execute("CREATE TEMPORARY TABLE copied (n int, text text, data bytea)")
        done = await connection.copy_records_to_table("copied", records=records)
        assert done == "COPY 20000"
        rows = await connection.fetch("SELECT * FROM copied ORDER BY n")
        assert [tuple(row) for row in rows] == records

        binary = io.BytesIO()
        query = "SELECT * FROM copied ORDER BY n"
        await connection.copy_from_query(query, output=binary, format="binary")
        await connection.execute("TRUNCATE copied")
        binary.seek(0)
        await connection.copy_to_table("copied", source=binary, format="binary")
        rows = await connection.fetch("SELECT * FROM copied ORDER BY n")
        assert [tuple(row) for row in rows] == records


async def test_a_pool_under_pressure(loop, where):
    """Everybody gets a connection in time, and nobody another's answer."""
    async with asyncpg.create_pool(**where, min_size=1, max_size=3) as pool:

        async def worker(number):
            for turn in range(20):
                async with pool.acquire() as connection:
                    text = f"{number} {turn}"
                    assert await connection.fetchval("SELECT $1::text", text) == text

        await in_parallel(30, work=worker)
        assert pool.get_size() <= 3


async def test_queries_cancelled_midway(loop, where):
    """A cancelled query is cancelled in the server, and its connection is good for others."""
    sleepers = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    async with asyncpg.create_pool(**where, min_size=3, max_size=3) as pool:
        for turn in range(10):
            tasks = [asyncio.create_task(pool.execute("SELECT pg_sleep(60)")) for _ in range(2)]
            # A cancellation that overtakes its query would find nothing to cancel.
            while await pool.fetchval(sleepers) < len(tasks):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(result, asyncio.CancelledError)
            assert await pool.fetchval("SELECT $1::int", turn) == turn
        with pytest.raises(asyncio.TimeoutError):
            await pool.execute("SELECT pg_sleep(60)", timeout=0.5)
        assert await pool.fetchval("SELECT 1") == 1
        while await pool.fetchval(sleepers):
            await asyncio.sleep(0.01)


async def test_listen_and_notify(loop, where):
    async with connecting(where) as listener, connecting(where) as sender:
        received = []
        complete = asyncio.Event()

        def heard(connection, pid, channel, text):
            received.append((channel, text))
            if text == "the end":
                complete.set()

        await listener.add_listener("news", heard)
        for number in range(500):
            await sender.execute("SELECT pg_notify('news', $1)", str(number))
        await sender.execute("NOTIFY news, 'the end'")
        await complete.wait()
        assert received == [("news", str(number)) for number in range(500)] + [("news", "the end")]
        await listener.remove_listener("news", heard)


async def test_a_connection_that_the_server_ends(loop, where):
    async with connecting(where) as connection, connecting(where) as other:
        lost = asyncio.Event()
        other.add_termination_listener(lambda _: lost.set())
        waiting = asyncio.create_task(other.execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0)
        assert await connection.fetchval("SELECT pg_terminate_backend($1)", other.get_server_pid())
        with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
            await waiting
        await lost.wait()
        assert other.is_closed()


async def test_a_connection_that_is_aborted(loop, where):
    async with connecting(where) as connection:
        waiting = asyncio.create_task(connection.execute("SELECT pg_sleep(1)"))
        await asyncio.sleep(0.01)
        connection.terminate()
        with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
            await waiting
