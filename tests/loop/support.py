"""What several test files share: loops by name, plain peers, protocols that remember."""

from __future__ import annotations

import asyncio
import functools
import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

WINDOWS = sys.platform == "win32"

PROVIDERS = ("winsock", "overlapped") if WINDOWS else ("uring", "epoll")
"""What our loop runs on here; the best comes first."""

SECONDS = 10.0
"""The longest that a plain peer waits for its socket."""


def make_loop(kind: str, **options: Any) -> Any:
    if kind == "std":
        assert not options, "the standard loop has no options"
        return asyncio.ProactorEventLoop() if WINDOWS else asyncio.SelectorEventLoop()
    import zerio_asyncio

    provider, _, engine = kind.partition("/")
    if engine:
        options["tls"] = engine
    return zerio_asyncio.new_event_loop(zerio_asyncio.LoopOptions(provider=provider, **options))


def tls_engines() -> tuple[str, ...]:
    """The TLS engines of ours that work here, or the one that the environment names."""
    wanted = os.environ.get("ZERIO_TLS")
    if wanted:
        return (wanted,)
    from zerio_asyncio.loop.tls_engines import direct_refusal

    return ("portable",) if direct_refusal() else ("direct", "portable")


@functools.cache
def provider_refusal(kind: str) -> str:
    """Why this system cannot run the provider, empty if it can."""
    try:
        make_loop(kind).close()
    except OSError as refusal:
        return str(refusal)
    return ""


def descriptors() -> dict[int, str]:
    """Open descriptors of this process and what each is; on Windows its sockets."""
    if WINDOWS:
        return sockets()
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the descriptor of the listing itself
    return found


def sockets() -> dict[int, str]:
    """Every handle of this process that Winsock knows as a socket, and of which type."""
    import ctypes

    kernel, winsock = ctypes.WinDLL("kernel32"), ctypes.WinDLL("ws2_32")  # type: ignore[attr-defined]
    count = ctypes.c_uint32()
    kernel.GetProcessHandleCount(ctypes.c_void_p(-1), ctypes.byref(count))
    kind, size = ctypes.c_int(), ctypes.c_int(4)
    found = {}
    # Handles are multiples of four, and freed numbers are used again: twice the count has them all.
    for number in range(4, 8 * count.value + 256, 4):
        size.value = 4
        arguments = socket.SOL_SOCKET, socket.SO_TYPE, ctypes.byref(kind), ctypes.byref(size)
        if not winsock.getsockopt(ctypes.c_void_p(number), *arguments):
            found[number] = f"socket of type {kind.value}"
    return found


class Caught(list[dict[str, Any]]):
    """An exception handler that keeps each context until a test takes it."""

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.append(context)

    def take(self) -> list[dict[str, Any]]:
        contexts = list(self)
        self.clear()
        return contexts

    def take_one(self, exception: type[BaseException]) -> dict[str, Any]:
        contexts = self.take()
        assert len(contexts) == 1, contexts
        assert isinstance(contexts[0].get("exception"), exception), contexts
        return contexts[0]


class Limits:
    """The timers of a loop that wait so many seconds; they run out when the test says so.

    The number should be one that nobody else uses, and longer than any test.
    """

    def __init__(self, loop: Any, seconds: float) -> None:
        self._timers: list[tuple[asyncio.TimerHandle, Callable[[], object]]] = []
        call_later = loop.call_later

        def noting(delay: float, callback: Callable[..., object], *args: Any, **rest: Any) -> Any:
            timer = call_later(delay, callback, *args, **rest)
            if delay == seconds:
                self._timers.append((timer, lambda: callback(*args)))
            return timer

        loop.call_later = noting

    def run_out(self) -> None:
        """Those that have not been cancelled."""
        for timer, expire in self._timers:
            if not timer.cancelled():
                timer.cancel()
                expire()


class Peer:
    """The other end of a connection: a blocking socket, used from threads, on no loop."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(SECONDS)
        self.sock = sock

    async def send(self, data: bytes) -> None:
        await asyncio.to_thread(self.sock.sendall, data)

    async def receive(self, size: int = 65536) -> bytes:
        return await asyncio.to_thread(self.sock.recv, size)

    async def receive_exactly(self, size: int) -> bytes:
        return await asyncio.to_thread(receive_exactly, self.sock, size)

    async def receive_all(self) -> bytes:
        """Everything up to the end of the stream."""
        return await asyncio.to_thread(receive_all, self.sock)

    def end(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Closes with RST instead of FIN."""
        set_reset_on_close(self.sock)
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


def set_reset_on_close(sock: socket.socket) -> None:
    linger = struct.pack("hh" if WINDOWS else "ii", 1, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(size - len(data), 1 << 18))
        if not part:
            raise EOFError(f"{len(data)} of {size} bytes")
        data += part
    return bytes(data)


def receive_all(sock: socket.socket) -> bytes:
    data = bytearray()
    while part := sock.recv(1 << 18):
        data += part
    return bytes(data)


def fill(sock: socket.socket) -> bytes:
    """Sends until the socket takes no more, not soon after either; returns what it took."""
    sent = bytearray()
    part = b"fill" * 4096
    while True:
        try:
            sent += part[: sock.send(part)]
        except BlockingIOError:
            if not select.select([], [sock], [], 0.02)[1]:  # what is on its way to the peer
                return bytes(sent)


class Changes:
    """Lets a test wait for a condition over what a protocol has seen."""

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    def changed(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await asyncio.wait_for(waiter, SECONDS)


class Remembering(Changes):
    """The calls that every kind of stream protocol shares, by name and in order."""

    def __init__(self) -> None:
        super().__init__()
        self.transport: Any = None
        self.calls: list[str] = []
        self.received = bytearray()
        self.lost_with: BaseException | None = None
        self.keep_open = False

    def note(self, call: str) -> None:
        if not self.calls or self.calls[-1] != call or call != "data_received":
            self.calls.append(call)
        self.changed()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("connection_made")

    def eof_received(self) -> bool | None:
        self.note("eof_received")
        return self.keep_open

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost_with = exc
        self.note("connection_lost")

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    async def got(self, size: int) -> bytes:
        await self.until(lambda: len(self.received) >= size)
        return bytes(self.received)

    async def lost(self) -> BaseException | None:
        await self.until(lambda: "connection_lost" in self.calls)
        return self.lost_with


class Recorder(Remembering, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data, "data_received must not be called without data"
        self.received += data
        self.note("data_received")


class BufferedRecorder(Remembering, asyncio.BufferedProtocol):
    def __init__(self, size: int = 65536) -> None:
        super().__init__()
        self.buffer = bytearray(size)
        self.hints: list[int] = []

    def get_buffer(self, sizehint: int) -> Any:
        self.hints.append(sizehint)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= len(self.buffer)
        self.received += memoryview(self.buffer)[:nbytes]
        self.note("data_received")


@functools.cache
def _registered_recorder_class() -> Any:
    """Made late, for the package may be absent, and once: 3.13 without the GIL keeps classes."""
    import zerio_asyncio

    class RegisteredRecorder(Remembering, zerio_asyncio.RegisteredProtocol):
        def view_received(self, view: memoryview) -> None:
            assert isinstance(view, memoryview)
            assert len(view)
            self.received += view
            self.note("data_received")

    return RegisteredRecorder


def registered_recorder() -> Any:
    """A RegisteredProtocol that remembers."""
    return _registered_recorder_class()()


def recorder_of(protocol: str) -> Any:
    if protocol == "protocol":
        return Recorder()
    return BufferedRecorder() if protocol == "buffered" else registered_recorder()


PROTOCOLS = ("protocol", "buffered", "registered")


def socket_numbered(number: int) -> socket.socket:
    """A new socket that has got the descriptor of one that was closed."""
    others = []
    try:
        for _ in range(100):
            sock = socket.socket()
            if sock.fileno() == number:
                return sock
            others.append(sock)
        raise AssertionError(f"the system does not use {number} again")
    finally:
        for other in others:
            other.close()


def listener(host: str = "127.0.0.1", backlog: int = 128) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind((host, 0))
    sock.listen(backlog)
    return sock


async def connect(factory: Callable[[], Any], **options: Any) -> tuple[Any, Any, Peer]:
    """A client transport of the running loop, its protocol, and the plain other end."""
    loop = asyncio.get_running_loop()
    with listener() as server:
        address = server.getsockname()
        transport, protocol = await loop.create_connection(factory, *address, **options)
        sock, _ = server.accept()
    return transport, protocol, Peer(sock)


async def connect_unix(factory: Callable[[], Any]) -> tuple[Any, Any, Peer]:
    """The same over a pair of Unix sockets."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_unix_connection(factory, sock=ours)
    return transport, protocol, Peer(theirs)


async def shut(transport: Any, protocol: Any, peer: Peer | None = None) -> None:
    """Ends a connection from our side and waits until it is gone."""
    transport.abort()
    await protocol.lost()
    if peer is not None:
        peer.close()


async def spin(turns: int = 3) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
