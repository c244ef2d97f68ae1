"""``SharedListener``: one port, a loop in each of several threads.

Once as this system has it, and once with the connections handed round, which only loops on a
completion port need but every loop can do.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import functools
import socket
import threading

import pytest

import zerio_asyncio
from zerio_asyncio import SharedListener
from zerio_asyncio.loop import shared_listener

from .support import SECONDS, make_loop, provider_refusal

THREADS, CLIENTS = 3, 30

ROUNDS = 20
"""Of clients, until every loop has had one: on a busy machine one may not get to run for long."""


@pytest.fixture(params=["as it is", "handed round"])
def way(request, monkeypatch):
    if request.param == "handed round":
        monkeypatch.setattr(shared_listener, "takes_copies", lambda loop: False)
    return request.param


@pytest.fixture
def listener(no_leaks):
    with SharedListener(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener
    assert listener.socket.fileno() == -1


@pytest.fixture
def run(kind, no_leaks):
    refusal = provider_refusal(kind)
    if refusal:
        pytest.skip(f"the system refuses the provider {kind}: {refusal}")
    return functools.partial(zerio_asyncio.run_threads, loop_factory=lambda: make_loop(kind))


class Naming(asyncio.Protocol):
    """Answers what it receives with the number of its thread before it."""

    def __init__(self, number):
        self.number = number

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(b"%d" % self.number + data)


def dial(listener):
    return socket.create_connection(listener.socket.getsockname(), SECONDS)


def ask(client):
    client.sendall(b"?")
    return client.recv(100)


class Visit:
    """What clients do, in a thread, while mains serve; each of those waits for the end of it."""

    def __init__(self, servers, work):
        self.everybody = threading.Barrier(servers)
        self.work = work
        self.over = threading.Event()
        self.failure = None

    async def serve(self, server, number):
        async with server:
            await asyncio.to_thread(self.everybody.wait, SECONDS)
            if number == 0:
                await asyncio.to_thread(self._go)
            await asyncio.to_thread(self.over.wait, SECONDS)

    def _go(self):
        try:
            self.work()
        finally:
            self.over.set()


def test_every_loop_serves_its_part(run, way, listener, kind):
    counts: collections.Counter[bytes] = collections.Counter()

    def clients():
        for rounds in range(1, ROUNDS + 1):
            with contextlib.ExitStack() as stack:
                for _ in range(CLIENTS):
                    counts[ask(stack.enter_context(dial(listener)))] += 1
            assert sum(counts.values()) == rounds * CLIENTS
            if len(counts) == THREADS:
                break

    visit = Visit(THREADS, clients)

    async def main(number):
        server = await listener.create_server(lambda: Naming(number))
        assert isinstance(server, asyncio.AbstractServer)
        assert server.is_serving()
        assert server.get_loop() is asyncio.get_running_loop()
        assert server.sockets[0].getsockname() == listener.socket.getsockname()
        await visit.serve(server, number)
        assert server.sockets == ()
        assert not server.is_serving()

    run(main, THREADS)
    if way == "handed round":
        assert sorted(counts.values()) == [CLIENTS // THREADS] * THREADS
    elif kind != "std":  # its loops race, and who sleeps last is woken first
        assert len(counts) == THREADS, counts


def test_streams(run, way, listener):
    lines = []

    def client():
        with dial(listener) as sock:
            sock.sendall(b"hello\n")
            lines.append(sock.recv(100))

    visit = Visit(2, client)

    async def answer(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()
        await writer.wait_closed()

    async def main(number):
        await visit.serve(await listener.start_server(answer, limit=100), number)

    run(main, 2)
    assert lines == [b"HELLO\n"]


def test_tls(run, way, listener, contexts):
    for_server, for_client = contexts
    answers, opened = [], []

    class Secure(Naming):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.lost = asyncio.get_running_loop().create_future()
            opened.append(self)

        def connection_lost(self, exc):
            self.transport.close()  # Python 3.10 complains without
            self.lost.set_result(None)

    def client():
        with dial(listener) as sock:
            with for_client.wrap_socket(sock, server_hostname="localhost") as secure:
                answers.append(ask(secure)[1:])

    visit = Visit(2, client)

    async def main(number):
        server = await listener.create_server(
            lambda: Secure(number), ssl=for_server, ssl_handshake_timeout=SECONDS
        )
        await visit.serve(server, number)
        for protocol in opened:
            if protocol.number == number:
                await asyncio.wait_for(protocol.lost, SECONDS)

    run(main, 2)
    assert answers == [b"?"]


def test_who_ends_early_loses_no_client_of_the_others(run, way, listener):
    answers: collections.Counter[bytes] = collections.Counter()
    closed = threading.Event()

    def clients():
        assert closed.wait(SECONDS)
        with contextlib.ExitStack() as stack:
            for _ in range(CLIENTS):
                answers[ask(stack.enter_context(dial(listener)))] += 1

    visit = Visit(THREADS, clients)

    async def main(number):
        server = await listener.create_server(lambda: Naming(number))
        if number == 1:
            await asyncio.to_thread(visit.everybody.wait, SECONDS)
            server.close()
            await server.wait_closed()
            closed.set()
            return
        await visit.serve(server, number)

    run(main, THREADS)
    assert sum(answers.values()) == CLIENTS
    assert b"1?" not in answers


def test_clients_that_come_before_any_loop_are_served(run, way, listener):
    with dial(listener) as early:
        early.sendall(b"!")
        done = threading.Event()

        async def main(number):
            async with await listener.create_server(lambda: Naming(number)):
                if number == 0:
                    assert await asyncio.to_thread(early.recv, 100) in {b"0!", b"1!"}
                    early.close()
                    done.set()
                await asyncio.to_thread(done.wait, SECONDS)

        run(main, 2)


def test_a_server_that_begins_later(run, way, listener):
    async def main(number):
        server = await listener.create_server(lambda: Naming(number), start_serving=False)
        assert not server.is_serving()
        await server.start_serving()
        assert server.is_serving()
        with dial(listener) as client:
            assert await asyncio.to_thread(ask, client) == b"0?"
        server.close()
        await server.wait_closed()

    run(main, 1)


async def test_a_factory_that_raises_costs_its_client_alone(loop, caught, way, listener):
    made = []

    def factory():
        made.append(None)
        if len(made) == 1:
            raise LookupError
        return Naming(0)

    if not hasattr(loop, "provider") and way == "as it is":
        pytest.skip("the standard loop tells in debug mode only")
    async with await listener.create_server(factory):
        with dial(listener) as client:
            assert await asyncio.to_thread(client.recv, 1) == b""
        caught.take_one(LookupError)
        with dial(listener) as client:
            assert await asyncio.to_thread(ask, client) == b"0?"


async def test_no_room_for_a_connection_is_told(loop, caught, listener, monkeypatch):
    monkeypatch.setattr(shared_listener, "takes_copies", lambda loop: False)
    monkeypatch.setattr(shared_listener, "RETRY_S", 0.01)
    refused = []

    class Full(socket.socket):
        def accept(self):
            if not refused:
                refused.append(None)
                raise OSError(errno.EMFILE, "too many")
            return super().accept()

    with SharedListener(Full(fileno=listener.socket.dup().detach())) as full:
        async with await full.create_server(lambda: Naming(0)):
            with dial(full) as client:
                assert await asyncio.to_thread(ask, client) == b"0?"
    caught.take_one(OSError)


async def test_a_closed_listener(loop, way, listener):
    server = await listener.create_server(lambda: Naming(0))
    listener.close()
    listener.close()
    with pytest.raises(RuntimeError, match="closed"):
        await listener.create_server(lambda: Naming(0))
    server.close()
    await server.wait_closed()


def test_a_loop_that_is_closed_with_its_server_open(new_loop, listener, monkeypatch):
    """What it was handed, and would have been, others get."""
    monkeypatch.setattr(shared_listener, "takes_copies", lambda loop: False)
    gone, here = new_loop(), new_loop()
    gone.run_until_complete(listener.create_server(lambda: Naming(1)))
    gone.close()

    async def main():
        async with await listener.create_server(lambda: Naming(0)):
            for _ in range(4):
                with dial(listener) as client:
                    assert await asyncio.to_thread(ask, client) == b"0?"

    here.run_until_complete(main())


def test_a_datagram_socket_is_refused():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="stream"):
            SharedListener(sock)
