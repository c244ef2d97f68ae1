"""A provider's table called as C calls it, with just enough comfort for tests.

`Bare` makes ports, queues, regions and connected sockets and takes them down again in the order
that the API asks for: retire, close sockets, drain, close queues, close the port. What a test wants
to see refused it calls through ``bare.rio`` and ``bare.table``, and looks at ``bare.error()``.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
import time
from typing import Any, NamedTuple

import pytest

from zerio_asyncio.rio._rio import ffi, lib

PRIVATE: dict[str, int] = (
    {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
)

SECONDS = 10.0  # a bound that no test reaches unless something is lost

NULL = ffi.NULL


def descriptors_in_use() -> int:
    """Number of this process's descriptors, or of its handles on Windows."""
    if os.name != "nt":
        return len(os.listdir("/proc/self/fd"))
    kernel: Any = ctypes.windll.kernel32  # type: ignore[attr-defined]
    count = ctypes.c_ulong()
    kernel.GetProcessHandleCount(ctypes.c_void_p(-1), ctypes.byref(count))
    return count.value


class Done(NamedTuple):
    """A RIORESULT."""

    status: int
    bytes: int
    socket_context: int
    context: int


class Region(NamedTuple):
    """Registered memory: its RIO_BUFFERID and its bytes."""

    id: Any
    memory: mmap.mmap

    def buf(self, offset: int = 0, length: int | None = None) -> Any:
        length = len(self.memory) - offset if length is None else length
        return ffi.new("RIO_BUF *", (self.id, offset, length))


class Bare:
    def __init__(self, provider: Any) -> None:
        self.provider = provider
        self.rio = provider.c.rio
        self.table = provider.c.port
        self.port = self.new_port()
        self._ports = [self.port]
        self._queues: list[Any] = []
        self._sockets: list[socket.socket] = []
        self._attached: list[socket.socket] = []  # those with a request queue
        self._regions: list[Region] = []
        self._overlapped: list[Any] = []
        self.heard: list[tuple[Any, ...]] = []  # events that `collect` met

    # ------------------------------------------------------------------------------- making

    def new_port(self) -> Any:
        port = self.table.create(NULL)
        assert port, f"no port: {lib.rio_last_error()}"
        return port

    def notification(self, port: Any = None, key: int = 7) -> Any:
        overlapped = ffi.new("char[8]")
        self._overlapped.append(overlapped)
        made = ffi.new("RIO_NOTIFICATION_COMPLETION *")
        made.Type = lib.RIO_IOCP_COMPLETION
        made.u.Iocp.IocpHandle = port or self.port
        made.u.Iocp.CompletionKey = ffi.cast("void *", key)
        made.u.Iocp.Overlapped = overlapped
        return made

    def queue(self, size: int = 64, key: int = 7, polled: bool = False) -> Any:
        how = NULL if polled else self.notification(key=key)
        queue = self.rio.RIOCreateCompletionQueue(size, how)
        assert queue, f"no completion queue: {self.error()}"
        self._queues.append(queue)
        return queue

    def keep(self, *sockets: socket.socket) -> None:
        self._sockets.extend(sockets)

    def pair(self, kind: str = "tcp") -> tuple[socket.socket, socket.socket]:
        """Return connected sockets: ours (non-blocking) and the peer's (blocking, bounded)."""
        ours, peer = connected(kind, self.provider)
        ours.setblocking(False)
        peer.settimeout(SECONDS)
        self.keep(ours, peer)
        return ours, peer

    def requests(
        self,
        sock: socket.socket | int,
        queue: Any,
        *,
        sends_to: Any = None,
        receives: int = 8,
        sends: int = 8,
        context: int = 0,
    ) -> Any:
        number = sock if isinstance(sock, int) else sock.fileno()
        if isinstance(sock, socket.socket):
            self._attached.append(sock)
        made = self.rio.RIOCreateRequestQueue(
            number, receives, 1, sends, 1, queue, sends_to or queue, ffi.cast("void *", context)
        )
        assert made, f"no request queue: {self.error()}"
        return made

    def connection(self, kind: str = "tcp", **limits: Any) -> tuple[Any, Any, Any, socket.socket]:
        """Return (request queue, completion queue, our socket, the peer's)."""
        ours, peer = self.pair(kind)
        queue = self.queue(256)
        return self.requests(ours, queue, **limits), queue, ours, peer

    def region(self, size: int = 65536) -> Region:
        memory = mmap.mmap(-1, size, **PRIVATE)
        made = Region(self.rio.RIORegisterBuffer(ffi.from_buffer(memory), size), memory)
        assert made.id != lib.RIO_INVALID_BUFFERID, f"not registered: {self.error()}"
        self._regions.append(made)
        return made

    # ------------------------------------------------------------------------------- calling

    def error(self) -> int:
        return lib.rio_last_error()

    def receive(self, queue: Any, data: Any, context: int = 0, flags: int = 0) -> int:
        """Return 0, or the code of a refusal."""
        done = self.rio.RIOReceive(queue, data, 1, flags, ffi.cast("void *", context))
        return 0 if done else self.error()

    def send(self, queue: Any, data: Any, context: int = 0, flags: int = 0) -> int:
        done = self.rio.RIOSend(queue, data, 1, flags, ffi.cast("void *", context))
        return 0 if done else self.error()

    def commit(self, entry: Any, queue: Any) -> int:
        return 0 if entry(queue, NULL, 0, lib.RIO_MSG_COMMIT_ONLY, NULL) else self.error()

    def dequeue(self, queue: Any, most: int = 64) -> list[Done]:
        results = ffi.new("RIORESULT[]", max(most, 1))
        count = self.rio.RIODequeueCompletion(queue, results, most)
        assert count != lib.RIO_CORRUPT_CQ
        assert count <= most, "more than asked"
        return [
            Done(r.Status, r.BytesTransferred, r.SocketContext, r.RequestContext)
            for r in results[0:count]
        ]

    def wait(self, seconds: float = 0.0, port: Any = None) -> list[tuple[Any, ...]]:
        """Wait once; events as (kind, status, key, value), a notification's value its address."""
        events = ffi.new("rio_port_event[]", 64)
        count = self.table.wait(port or self.port, events, 64, int(seconds * 1e9))
        assert count >= 0, f"wait refused: {-count}"
        return [
            (
                e.kind,
                e.status,
                e.key,
                int(ffi.cast("uintptr_t", e.overlapped))
                if e.kind == lib.RIO_PORT_NOTIFY
                else e.value,
            )
            for e in events[0:count]
        ]

    def collect(self, queue: Any, count: int, seconds: float = SECONDS) -> list[Done]:
        """Dequeue until there are ``count`` results; waiting on the port between."""
        results = self.dequeue(queue)
        end = time.monotonic() + seconds
        while len(results) < count:
            assert time.monotonic() < end, f"{len(results)} of {count} results: {results}"
            if self.rio.RIONotify(queue) == lib.RIO_EINVAL:
                time.sleep(0.001)  # only polled
            else:
                self.heard.extend(self.wait(0.05))
            results += self.dequeue(queue)
        assert len(results) == count, f"more than {count} results: {results}"
        return results

    def some(self, queue: Any, seconds: float = SECONDS) -> list[Done]:
        """Dequeue what there is, at least one result."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            results = self.dequeue(queue)
            if results:
                return results
            self.rio.RIONotify(queue)
            self.wait(0.05)
        raise AssertionError(f"no result in {seconds} s")

    def until(self, kind: int, seconds: float = SECONDS, port: Any = None) -> tuple[Any, ...]:
        """Wait for one event of a kind; others must not come."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            events = self.wait(0.05, port)
            if events:
                assert [event[0] for event in events] == [kind], events
                return events[0]
        raise AssertionError(f"no event of kind {kind} in {seconds} s")

    def quiet(self, seconds: float = 0.05) -> None:
        """Assert that nothing happens."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.wait(0.01) == []

    def statistics(self) -> Any:
        counts = ffi.new("rio_port_statistics *")
        assert self.table.statistics(self.port, counts) == 0
        return counts

    def retire(self, sock: socket.socket) -> None:
        """Retire, and close where requests do not end before that (RIO_CAP_CLOSE_ENDS)."""
        number = sock.fileno()
        assert number < 0 or self.table.retire(self.port, number) == 0
        if self.provider.c.capabilities & lib.RIO_CAP_CLOSE_ENDS:
            sock.close()

    # ----------------------------------------------------------------------------------- end

    def close(self) -> None:
        if self.port:
            for sock in self._sockets:
                if sock.fileno() >= 0:
                    self.table.retire(self.port, sock.fileno())
        for sock in self._sockets:
            sock.close()
        for queue in self._queues:
            self.rio.RIOCloseCompletionQueue(queue)
        if self.port:
            self.table.close(self.port)
        for region in self._regions:
            self.rio.RIODeregisterBuffer(region.id)

    def close_port(self) -> None:
        if self.provider.c.capabilities & lib.RIO_CAP_CLOSE_ENDS:
            for sock in self._attached:
                self.retire(sock)
        port, self.port = self.port, None
        self.table.close(port)


def new_socket(provider: Any, family: int, kind: int) -> socket.socket:
    """Make a socket as the provider likes it best (Registered I/O takes no other)."""
    made: socket.socket = provider.make_socket(family, kind)
    return made


def connected(kind: str, provider: Any) -> tuple[socket.socket, socket.socket]:
    """Make a connected pair, ours first: tcp, tcp6, unix, udp, udp6 or unix-datagram."""
    if kind == "unix":
        return socket.socketpair()  # the system's own way: where there are none, TCP
    if kind == "unix-datagram":
        if not hasattr(socket, "AF_UNIX"):
            pytest.skip("this Python has no Unix sockets")
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    family, host = (socket.AF_INET6, "::1") if kind.endswith("6") else (socket.AF_INET, "127.0.0.1")
    if kind.startswith("udp"):
        pair = [new_socket(provider, family, socket.SOCK_DGRAM)]
        pair.append(socket.socket(family, socket.SOCK_DGRAM))
        for sock in pair:
            sock.bind((host, 0))
        pair[0].connect(pair[1].getsockname())
        pair[1].connect(pair[0].getsockname())
        return pair[0], pair[1]
    with socket.create_server((host, 0), family=family) as listener:
        ours = new_socket(provider, family, socket.SOCK_STREAM)
        ours.connect(listener.getsockname())
        peer, _ = listener.accept()
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, peer


def reset(sock: socket.socket) -> None:
    """Close so that the peer gets a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_all(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(min(65536, size - len(data)))
        assert piece, f"end of stream after {len(data)} of {size} bytes"
        data += piece
    return bytes(data)


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes whose every displacement shows: a long period that no power of two divides."""
    block = bytes((i * 7 + i // 251 + seed) & 0xFF for i in range(251 * 257))
    return (block * (size // len(block) + 1))[:size]
