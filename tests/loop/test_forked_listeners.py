"""One listener, several processes that accept on it, as servers with workers do.

A connection goes to a process that is ready to serve, one that computes holds none back, and no
process takes a whole burst. Whom a connection is from is what the accept said.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import signal
import socket
import time

import pytest

from .marks import with_fork, with_unix_sockets
from .support import SECONDS, Recorder, make_loop, set_reset_on_close

forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

WORK = 0.005  # seconds of computing for each client

CLIENTS, AT_ONCE, WORKERS = 120, 12, 4


async def _serve(sock, go_on):
    """Answers a line with the process's number after some work; "hold" blocks until go_on."""

    async def answer(reader, writer):
        asked = await reader.readline()
        if asked == b"hold\n":
            writer.write(b"holding\n")
            await writer.drain()
            os.read(go_on, 1)  # blocks the whole process
        end = time.perf_counter() + WORK
        while time.perf_counter() < end:
            pass
        writer.write(b"%d\n" % os.getpid())
        writer.close()

    server = await asyncio.start_server(answer, sock=sock, backlog=CLIENTS)
    await server.serve_forever()


def _work(kind, sock, ready, go_on):
    asyncio._set_running_loop(None)
    loop = make_loop(kind)
    loop.call_later(0, os.write, ready, b"x")
    loop.run_until_complete(_serve(sock, go_on))


@contextlib.contextmanager
def workers(kind, count):
    """Forks so many servers on one listener; its address, and what lets a held one go on."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=CLIENTS)
    is_ready, ready = os.pipe()
    go_on, let_go = os.pipe()
    children = []
    try:
        for _ in range(count):
            child = os.fork()
            if child == 0:  # pragma: no cover - another process
                try:
                    signal.alarm(int(3 * SECONDS))
                    os.close(let_go)
                    _work(kind, sock, ready, go_on)
                finally:
                    os._exit(1)
            children.append(child)
        for _ in children:
            assert os.read(is_ready, 1) == b"x"
        yield sock.getsockname(), let_go
    finally:
        sock.close()
        for end in (is_ready, ready, go_on, let_go):
            os.close(end)
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def ask(address, line=b"hello\n"):
    client = socket.create_connection(address, timeout=SECONDS)
    client.sendall(line)
    return client


@forks
@with_fork
def test_every_worker_serves_its_part(kind):
    served: collections.Counter[bytes] = collections.Counter()
    with workers(kind, WORKERS) as (address, _):
        for _ in range(CLIENTS // AT_ONCE):
            clients = [ask(address) for _ in range(AT_ONCE)]
            for client in clients:
                served[client.recv(100)] += 1
                client.close()
    assert sum(served.values()) == CLIENTS
    assert len(served) == WORKERS, served
    if kind != "std":  # that one may take a hundred connections in one turn
        assert min(served.values()) >= CLIENTS // 10, served


@forks
@with_fork
def test_a_busy_worker_holds_nobody_back(kind):
    with workers(kind, 2) as (address, let_go):
        held = ask(address, b"hold\n")
        assert held.recv(100) == b"holding\n"
        clients = [ask(address) for _ in range(AT_ONCE)]
        answers = {client.recv(100) for client in clients}  # would time out if one were held
        os.write(let_go, b"x")
        assert {held.recv(100)} != answers
        assert len(answers) == 1
        for client in (*clients, held):
            client.close()


def naming():
    """A protocol class, and the peers' names that its transports had when they were made."""
    seen: list[object] = []

    class Named(Recorder):
        def connection_made(self, transport):
            seen.append(transport.get_extra_info("peername"))
            super().connection_made(transport)

    return Named, seen


@pytest.mark.beyond_proactor  # AcceptEx tells of no client that was gone before it was accepted
async def test_a_client_that_has_gone_has_its_name(loop):
    made, seen = naming()
    server = await loop.create_server(made, "127.0.0.1", 0)
    names = []
    for _ in range(5):  # the loop does not turn meanwhile
        client = socket.create_connection(server.sockets[0].getsockname())
        names.append(client.getsockname())
        client.sendall(b"hello")
        set_reset_on_close(client)
        client.close()
    while len(seen) < 5:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert seen == names
    server.close()
    await server.wait_closed()


@with_unix_sockets
async def test_unix_clients_have_the_names_that_accept_says(loop, tmp_path):
    made, seen = naming()
    path = str(tmp_path / "listener")
    server = await loop.create_unix_server(made, path)
    names = ["", str(tmp_path / "client"), f"\0zerio-{os.getpid()}-loop".encode()]
    for name in names:
        with socket.socket(socket.AF_UNIX) as client:
            if name:
                client.bind(name)
            client.connect(path)
            while len(seen) < names.index(name) + 1:
                await asyncio.sleep(0.001)
    assert seen == names
    server.close()
    await server.wait_closed()


def bursts(loop):
    """Whether each of the loop's listeners takes several connections in a turn."""
    return [listener.alone for listener in loop._listeners._by_key.values()]


@forks
@with_fork
@pytest.mark.ours
async def test_a_child_shares_the_listeners_that_a_server_has_made(loop):
    """Alone it takes bursts; from the fork on it holds none back from the child."""

    class Recording(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"parent")
            transport.close()

    server = await loop.create_server(Recording, "127.0.0.1", 0, backlog=CLIENTS)
    listener = server.sockets[0]
    address = listener.getsockname()
    assert bursts(loop) == [True]
    is_ready, ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            sock = socket.socket(fileno=os.dup(listener.fileno()))
            sock.settimeout(SECONDS)
            os.write(ready, b"x")
            while True:
                accepted, _ = sock.accept()
                accepted.sendall(b"child")
                accepted.close()
        finally:
            os._exit(0)
    try:
        os.read(is_ready, 1)

        def ask():
            clients = []
            for _ in range(CLIENTS):
                clients.append(socket.create_connection(address, SECONDS))
            answers = collections.Counter()
            for client in clients:
                answers[client.recv(100)] += 1
                client.close()
            return answers

        await asyncio.sleep(0.01)
        assert bursts(loop) == [False]
        # While our loop is kept busy the child serves all: nothing waits in the kernel for us.
        assert ask() == {b"child": CLIENTS}
        answers = await asyncio.to_thread(ask)  # whose these are the system's schedule tells
        assert sum(answers.values()) == CLIENTS
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(is_ready)
        os.close(ready)
        server.close()
