"""In which context each callback runs: one table, whose right-hand side the standard loop fills.

A program sets the variable before each step and notes what each callback finds in it: the name of
the step whose context it was given. Steps: ``serving`` (the server starts), ``connecting``,
``writing``, ``closing``, ``watching``, ``later`` (everything else that the program does).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import signal
import socket
import sys
import threading
from typing import Any

import pytest

from .children import PYTHON, watched  # noqa: F401  # a fixture
from .marks import beyond_proactor, with_posix_signals, with_unix_sockets, with_watched_pipes
from .support import SECONDS, Changes, Peer, recorder_of
from .tls import forgetful

ONE_CONTEXT = sys.version_info >= (3, 15)
"""A stream's callbacks run in one context, a server's in copies of that in which it was made."""

step = contextvars.ContextVar("step", default="none")
name = contextvars.ContextVar("name", default="none")


class Seen(Changes):
    """The step that each callback found, by the callback's name."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[str, set[str]] = {}

    def note(self, callback: str) -> None:
        self.steps.setdefault(callback, set()).add(step.get())
        self.changed()

    async def has(self, *callbacks: str) -> None:
        await self.until(lambda: self.steps.keys() >= set(callbacks))

    def table(self) -> dict[str, str]:
        return {name: " and ".join(sorted(steps)) for name, steps in sorted(self.steps.items())}


CALLBACKS = [
    "connection_made",
    "data_received",
    "get_buffer",
    "buffer_updated",
    "view_received",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
    "datagram_received",
    "error_received",
    "pipe_data_received",
    "pipe_connection_lost",
    "process_exited",
]


def noting(protocol: Any, seen: Seen) -> Any:
    """``protocol`` with each of its callbacks noted."""
    for name in CALLBACKS:
        method = getattr(protocol, name, None)
        if method is not None:

            def noted(*args: Any, method: Any = method, name: str = name) -> Any:
                seen.note(name)
                return method(*args)

            setattr(protocol, name, noted)
    return protocol


def factory_of(protocol: str, seen: Seen) -> Any:
    def make() -> Any:
        seen.note("factory")
        return noting(recorder_of(protocol), seen)

    return make


RECEIVING = {
    "protocol": ["data_received"],
    "buffered": ["get_buffer", "buffer_updated"],
    "registered": ["view_received"],
}


async def talk(seen: Seen, transport: Any, peer: Peer, protocol: str) -> None:
    """Everything that can be called between connection_made and connection_lost."""
    await peer.send(b"to be received")
    await seen.has(*RECEIVING[protocol])
    step.set("writing")
    transport.set_write_buffer_limits(0)
    size = 16_000_000
    transport.write(bytes(size))
    step.set("later")
    await seen.has("pause_writing")
    assert len(await peer.receive_exactly(size)) == size
    await seen.has("resume_writing")
    peer.end()
    await seen.has("eof_received", "connection_lost")
    peer.close()


def talked(made: str, protocol: str, **others: str) -> dict[str, str]:
    names = ["factory", "connection_made", "eof_received", "connection_lost"]
    expected = dict.fromkeys([*names, *RECEIVING[protocol]], made)
    # Who writes may be paused in the call; who is resumed, where the writing began.
    expected |= {"pause_writing": "writing", "resume_writing": made if ONE_CONTEXT else "writing"}
    return dict(sorted({**expected, **others}.items()))


async def test_a_client(loop, protocol):
    seen = Seen()
    with socket.create_server(("127.0.0.1", 0)) as server:
        step.set("connecting")
        transport, _ = await loop.create_connection(
            factory_of(protocol, seen), *server.getsockname()
        )
        step.set("later")
        peer = Peer(server.accept()[0])
    await talk(seen, transport, peer, protocol)
    assert seen.table() == talked("connecting", protocol)


async def test_an_accepted_socket(loop, protocol):
    seen = Seen()
    ours, theirs = socket.socketpair()
    step.set("connecting")
    transport, _ = await loop.connect_accepted_socket(factory_of(protocol, seen), ours)
    step.set("later")
    await talk(seen, transport, Peer(theirs), protocol)
    assert seen.table() == talked("connecting", protocol)


async def connected_to(server: asyncio.Server) -> Peer:
    sock = socket.socket(server.sockets[0].family, socket.SOCK_STREAM)
    sock.connect(server.sockets[0].getsockname())
    return Peer(sock)


@pytest.mark.parametrize("start", ["at once", "later"])
@pytest.mark.parametrize("family", ["tcp", pytest.param("unix", marks=with_unix_sockets)])
async def test_a_servers_connections(loop, protocol, family, start, tmp_path):
    seen = Seen()
    made = []

    def factory():
        made.append(factory_of(protocol, seen)())
        return made[-1]

    step.set("serving" if start == "at once" else "connecting")
    options = {"start_serving": start == "at once"}
    if family == "tcp":
        server = await loop.create_server(factory, "127.0.0.1", 0, **options)
    else:
        server = await loop.create_unix_server(factory, str(tmp_path / "here"), **options)
    step.set("serving")
    await server.start_serving()
    step.set("later")
    for _ in range(2):
        seen.steps.clear()
        peer = await connected_to(server)
        await seen.has("connection_made")
        await talk(seen, made[-1].transport, peer, protocol)
        made_in = "connecting" if ONE_CONTEXT and start == "later" else "serving"
        assert seen.table() == talked(made_in, protocol)
    server.close()
    await server.wait_closed()


@forgetful
async def test_a_servers_connections_over_tls(loop, contexts):
    seen = Seen()
    ours, theirs = contexts
    step.set("serving")
    server = await loop.create_server(factory_of("protocol", seen), "127.0.0.1", 0, ssl=ours)
    step.set("later")

    def client():
        with (
            socket.create_connection(server.sockets[0].getsockname(), SECONDS) as sock,
            theirs.wrap_socket(sock, server_hostname="localhost") as tls,
        ):
            tls.sendall(b"to be received")

    await asyncio.to_thread(client)
    await seen.has("connection_lost")
    expected = ["connection_lost", "connection_made", "data_received", "eof_received", "factory"]
    found = seen.table()
    found.setdefault("eof_received", "serving")  # a client that leaves without an alert
    assert found == dict.fromkeys(expected, "serving")
    server.close()
    await server.wait_closed()


@forgetful
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("how", ["function", "coroutine"])
async def test_the_callback_of_start_server(loop, contexts, how, secure):
    seen = Seen()

    def connected(reader, writer):
        seen.note("client_connected_cb")
        writer.close()

    async def connected_task(reader, writer):
        connected(reader, writer)

    step.set("serving")
    server = await asyncio.start_server(
        connected_task if how == "coroutine" else connected,
        "127.0.0.1",
        0,
        ssl=contexts[0] if secure else None,
    )
    step.set("later")
    _, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(),
        ssl=contexts[1] if secure else None,
        server_hostname="localhost" if secure else None,
    )
    await seen.has("client_connected_cb")
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
    assert seen.table() == {"client_connected_cb": "serving"}


async def test_what_a_servers_factory_sets_is_its_connections_alone(loop):
    found = []

    class Noting(asyncio.Protocol):
        def connection_made(self, transport):
            found.append(name.get())
            transport.close()

    count = iter(range(10))

    def factory():
        assert name.get() == "none"
        name.set(f"connection {next(count)}")
        return Noting()

    server = await loop.create_server(factory, "127.0.0.1", 0)
    for _ in range(3):
        peer = await connected_to(server)
        assert await peer.receive_all() == b""
        peer.close()
    server.close()
    await server.wait_closed()
    assert found == ["connection 0", "connection 1", "connection 2"]
    assert name.get() == "none"


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_ending_from_elsewhere(loop, protocol, how):
    """``connection_lost`` runs in the context of who ended it, from 3.15 on in the connection's."""
    seen = Seen()
    ours, theirs = socket.socketpair()
    step.set("connecting")
    transport, _ = await loop.create_connection(factory_of(protocol, seen), sock=ours)
    step.set("closing")
    getattr(transport, how)()
    step.set("later")
    await seen.has("connection_lost")
    theirs.close()
    assert seen.table() == {
        "connection_lost": "connecting" if ONE_CONTEXT else "closing",
        "connection_made": "connecting",
        "factory": "connecting",
    }


async def test_what_a_connections_callbacks_set(loop, protocol):
    """Each of them begins with the connection's context; from 3.15 on it is one for all."""
    found = []

    class Counting(type(recorder_of(protocol))):
        def connection_made(self, transport):
            name.set("set by connection_made")
            super().connection_made(transport)

        def connection_lost(self, error):
            found.append(name.get())
            super().connection_lost(error)

    ours, theirs = socket.socketpair()
    await loop.create_connection(Counting, sock=ours)
    theirs.close()
    while not found:
        await asyncio.sleep(0.001)
    assert found == ["set by connection_made" if ONE_CONTEXT else "none"]
    assert name.get() == "none"


class ChildProtocol(asyncio.SubprocessProtocol):
    """One with room for attributes."""


class Letters(asyncio.DatagramProtocol):
    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


async def test_a_datagram_endpoint(loop):
    seen = Seen()

    def factory():
        seen.note("factory")
        return noting(Letters(), seen)

    step.set("connecting")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        transport, _ = await loop.create_datagram_endpoint(factory, remote_addr=peer.getsockname())
        step.set("later")
        peer.sendto(b"letter", transport.get_extra_info("sockname"))
        await seen.has("datagram_received")
    step.set("writing")
    transport.sendto(b"to nobody")
    step.set("later")
    await seen.has("error_received")
    step.set("closing")
    transport.close()
    step.set("later")
    await seen.has("connection_lost")
    assert seen.table() == {
        "connection_lost": "closing",
        "connection_made": "connecting",
        "datagram_received": "connecting",
        "error_received": "connecting",
        "factory": "connecting",
    }


async def test_what_is_scheduled(loop):
    seen = Seen()
    step.set("watching")
    loop.call_soon(seen.note, "call_soon")
    loop.call_later(0.001, seen.note, "call_later")
    loop.call_at(loop.time(), seen.note, "call_at")
    loop.call_soon_threadsafe(seen.note, "call_soon_threadsafe")
    future = loop.create_future()
    future.add_done_callback(lambda _: seen.note("done callback"))
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen.note, "from a thread"))
    thread.start()
    thread.join()
    step.set("later")
    future.set_result(None)
    await seen.has("call_later", "from a thread")
    assert seen.table() == {
        "call_at": "watching",
        "call_later": "watching",
        "call_soon": "watching",
        "call_soon_threadsafe": "watching",
        "done callback": "watching",
        "from a thread": "none",
    }


@beyond_proactor
async def test_watched_sockets(loop):
    seen = Seen()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.send(b"x")
    step.set("watching")
    loop.add_reader(ours, seen.note, "reader")
    loop.add_writer(ours, seen.note, "writer")
    step.set("later")
    await seen.has("reader", "writer")
    loop.remove_reader(ours)
    loop.remove_writer(ours)
    ours.close()
    theirs.close()
    assert seen.table() == {"reader": "watching", "writer": "watching"}


@with_posix_signals
async def test_signal_handlers(loop):
    seen = Seen()
    step.set("watching")
    loop.add_signal_handler(signal.SIGUSR1, seen.note, "signal")
    step.set("later")
    os.kill(os.getpid(), signal.SIGUSR1)
    await seen.has("signal")
    loop.remove_signal_handler(signal.SIGUSR1)
    assert seen.table() == {"signal": "watching"}


@with_watched_pipes
async def test_pipes(loop):
    seen = Seen()
    read_end, write_end = os.pipe()

    def factory():
        seen.note("factory")
        return noting(recorder_of("protocol"), seen)

    step.set("connecting")
    reading, _ = await loop.connect_read_pipe(factory, os.fdopen(read_end, "rb", 0))
    step.set("later")
    os.write(write_end, b"to be received")
    await seen.has("data_received")
    os.close(write_end)
    await seen.has("connection_lost")
    assert reading.is_closing()
    names = ["connection_lost", "connection_made", "data_received", "eof_received", "factory"]
    assert seen.table() == dict.fromkeys(names, "connecting")


@pytest.mark.usefixtures("watched")
async def test_a_child(loop, kind):
    seen = Seen()

    def factory():
        seen.note("factory")
        return noting(ChildProtocol(), seen)

    step.set("connecting")
    transport, _ = await loop.subprocess_exec(
        factory, PYTHON, "-I", "-S", "-c", "print('here')", stdin=None
    )
    step.set("later")
    await seen.has("pipe_data_received", "process_exited", "connection_lost")
    transport.close()
    names = [
        "connection_lost",
        "connection_made",
        "factory",
        "pipe_connection_lost",
        "pipe_data_received",
        "process_exited",
    ]
    expected = dict.fromkeys(names, "connecting")
    found = seen.table()
    if kind == "std" and sys.version_info < (3, 12):
        # A thread waits for the child there, and has no context.
        for name in ("process_exited", "connection_lost"):
            assert found[name] in {"none", "connecting"}
            found[name] = "connecting"
    assert found == expected
