"""Running out of descriptors while accepting: no busy loop, nobody harmed, and back to work.

Trap 6 of docs/design.md. The standard loop retries after a second, ours may be quicker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import pytest

from .support import SECONDS, Recorder

resource = pytest.importorskip("resource", reason="no limit of descriptors can be set here")


@pytest.fixture(autouse=True)
def few_descriptors():
    """A low limit from before the server is made: io_uring notes it when it begins to accept."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 80, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def descriptors_left(count: int):
    """Opens files until only so many more can be opened."""
    plugs = []
    try:
        with contextlib.suppress(OSError):
            while True:
                plugs.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(count):
            os.close(plugs.pop())
        yield
    finally:
        for plug in plugs:
            os.close(plug)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def test_accepting_pauses_and_resumes_when_descriptors_run_out(loop, kind, caught):
    made: list[Recorder] = []

    def factory():
        made.append(Recorder())
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    early = socket.create_connection(address)
    while not made or made[0].transport is None:
        await asyncio.sleep(0.001)
    clients = [socket.socket() for _ in range(4)]
    with descriptors_left(1):
        for client in clients:
            client.settimeout(SECONDS)
            client.connect(address)  # the kernel completes it, nobody accepts it yet
        while not caught:
            await asyncio.sleep(0.001)
        used = cpu_seconds()
        await asyncio.sleep(0.2)
        used = cpu_seconds() - used
        assert used < 0.15, "the loop was busy while it could not accept"
        early.sendall(b"unharmed")
        assert await made[0].got(8) == b"unharmed"
    for number, client in enumerate(clients):
        client.sendall(b"client %d" % number)
    while len(made) < 5:
        await asyncio.sleep(0.005)
    for recorder in made[1:]:
        await recorder.got(8)
    assert sorted(bytes(r.received) for r in made[1:]) == [b"client %d" % n for n in range(4)]
    contexts = caught.take()
    assert all(isinstance(context["exception"], OSError) for context in contexts)
    assert "accept" in contexts[0]["message"]
    if kind != "std":  # which reports it as often as its backlog allows
        assert len(contexts) < 20, "exhaustion was reported again and again"
    for client in [early, *clients]:
        client.close()
    for recorder in made:
        await recorder.lost()
    server.close()
    await server.wait_closed()


async def test_closing_the_server_while_accepting_is_paused(loop, caught):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    client = socket.socket()
    with descriptors_left(0):
        client.connect(server.sockets[0].getsockname())
        while not caught:
            await asyncio.sleep(0.001)
        server.close()
    caught.take()
    await server.wait_closed()
    await asyncio.sleep(0.01)
    client.close()
    # What the standard loop had planned, to accept again in a second, must do no harm either.
    assert not caught


@pytest.mark.ours
async def test_a_listener_that_is_closed_while_it_waits_to_go_on(loop, caught, monkeypatch):
    """Its number is another listener's by then, which keeps what comes to it."""
    monkeypatch.setattr(asyncio.constants, "ACCEPT_RETRY_DELAY", 0.05)
    made = []

    def factory(name):
        made.append(name)
        return asyncio.Protocol()

    first = socket.create_server(("127.0.0.1", 0))
    number = first.fileno()
    server = await loop.create_server(lambda: factory("first"), sock=first)
    client = socket.socket()
    with descriptors_left(0):
        client.connect(first.getsockname())
        while not caught:
            await asyncio.sleep(0.001)
        first.close()
        second = socket.create_server(("127.0.0.1", 0))
        assert second.fileno() == number
    other = await loop.create_server(lambda: factory("second"), sock=second)
    await asyncio.sleep(0.1)
    caller = socket.create_connection(second.getsockname())
    while not made:
        await asyncio.sleep(0.001)
    assert made == ["second"]
    caught.clear()
    for sock in (client, caller):
        sock.close()
    with contextlib.suppress(ValueError):  # as the standard loop: it is closed already
        server.close()
    other.close()
    await asyncio.sleep(0.01)
