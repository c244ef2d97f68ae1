"""Libraries that want ``add_reader``, which the standard loop of Windows lacks.

pyzmq and aiodns are their own peers; psycopg asks the PostgreSQL that ``ZERIO_TEST_POSTGRES`` names
as libpq does ("host=127.0.0.1 port=5432 user=postgres dbname=postgres").
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import threading

import pytest

from .support import SECONDS, WINDOWS

pytestmark = [
    pytest.mark.skipif(not WINDOWS, reason="the applications' tests have these on other systems"),
    pytest.mark.ours,
]


async def test_zeromq_over_tcp(loop):
    zmq = pytest.importorskip("zmq")
    from zmq.asyncio import Context

    context = Context()
    server, client = context.socket(zmq.REP), context.socket(zmq.REQ)
    try:
        port = server.bind_to_random_port("tcp://127.0.0.1")
        client.connect(f"tcp://127.0.0.1:{port}")
        for number in range(50):
            asked = asyncio.ensure_future(client.send_multipart([b"%d" % number, b"x" * 10_000]))
            question = await asyncio.wait_for(server.recv_multipart(), SECONDS)
            await asked
            await server.send(question[0])
            assert await asyncio.wait_for(client.recv(), SECONDS) == b"%d" % number
    finally:
        for sock in (server, client):
            sock.close(linger=0)
        context.term()
        await asyncio.sleep(0)


def answer(question: bytes, address: str) -> bytes:
    """The DNS message that gives the one name in ``question`` this address."""
    end = question.index(b"\0", 12) + 5  # name, type, class
    head = question[:2] + b"\x81\x80" + struct.pack("!4H", 1, 1, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(address)
    return head + question[12:end] + record


class NameServer(threading.Thread):
    """Answers every question with the same address, until a datagram is empty."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]

    def run(self) -> None:
        while True:
            question, peer = self.sock.recvfrom(512)
            if not question:
                return
            self.sock.sendto(answer(question, "192.0.2.7"), peer)

    def end(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", ("127.0.0.1", self.port))
        self.join(SECONDS)
        self.sock.close()


async def test_names_by_aiodns(loop):
    aiodns = pytest.importorskip("aiodns")
    server = NameServer()
    server.start()
    resolver = aiodns.DNSResolver(
        nameservers=["127.0.0.1"], udp_port=server.port, timeout=SECONDS, tries=2
    )
    try:
        results = await asyncio.gather(
            *[resolver.query_dns(f"host{number}.example", "A") for number in range(20)]
        )
        for result in results:
            assert [record.data.addr for record in result.answer] == ["192.0.2.7"]
    finally:
        await resolver.close()
        server.end()


@pytest.fixture
def database() -> str:
    pytest.importorskip("psycopg")
    try:
        return os.environ["ZERIO_TEST_POSTGRES"]
    except KeyError:
        pytest.skip("ZERIO_TEST_POSTGRES names no server")


async def test_queries_by_psycopg(loop, database):
    import psycopg

    async def worker(number):
        async with await psycopg.AsyncConnection.connect(database) as connection:
            for turn in range(50):
                cursor = await connection.execute("SELECT %s::int + %s::int", (number, turn))
                assert await cursor.fetchone() == (number + turn,)

    await asyncio.wait_for(asyncio.gather(*[worker(number) for number in range(4)]), SECONDS)


async def test_large_results_by_psycopg(loop, database):
    import psycopg

    data = random.Random(7).randbytes(3 << 20)
    async with await psycopg.AsyncConnection.connect(database) as connection:
        cursor = await connection.execute("SELECT %b::bytea", (data,))
        assert await cursor.fetchone() == (data,)
        cursor = await connection.execute("SELECT n FROM generate_series(1, 20000) AS n")
        assert [row[0] async for row in cursor] == list(range(1, 20_001))
        query = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 500)) TO STDOUT"
        async with cursor.copy(query) as copy:
            assert sum([len(part) async for part in copy]) == 500 * 1001


async def test_notifications_and_a_cancelled_query_by_psycopg(loop, database):
    import psycopg

    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("LISTEN topic")
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as other:
            for number in range(5):
                await other.execute(f"NOTIFY topic, '{number}'")
        told = [notice.payload async for notice in connection.notifies(stop_after=5)]
        assert told == ["0", "1", "2", "3", "4"]
        sleeping = asyncio.ensure_future(connection.execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.2)
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(sleeping, SECONDS)
        cursor = await connection.execute("SELECT 1")  # the server was told
        assert await cursor.fetchone() == (1,)
