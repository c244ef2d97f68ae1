"""One listening socket for loops in several threads.

Every loop accepts on a copy (``dup``) of the one socket, so there is one queue of connections:
whoever is ready takes the next, a loop that computes or starts late delays nobody, and if one ends
early nothing queued is lost. With SO_REUSEPORT each loop would have its own queue: the system
distributes by a hash instead of idleness, resets what is in a queue when its socket closes, lets
another process join unasked, and on some systems does not distribute at all. A port of 0 is chosen
once, and an address in use is noticed before any thread starts.

A completion port claims a socket for itself, copies included. There a thread accepts and passes the
connections to the loops in turn.

Links: https://lwn.net/Articles/542629/ (SO_REUSEPORT), nginx's ticket 1300 (reset connections),
https://learn.microsoft.com/windows/win32/fileio/createiocompletionport (one port per file).
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import select
import socket
import threading
from asyncio import proactor_events, trsock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

BACKLOG = 1024
"""How many connections may wait, for all loops together: asyncio's 100 are for one."""

RETRY_S = 1.0
"""Before accepting is retried after a failure, as in asyncio's loops."""

INTERNET = frozenset({socket.AF_INET, socket.AF_INET6})
"""Families whose connections send writes at once, like those that a loop accepts."""


class SharedListener:
    """One listening socket that loops in several threads serve, each some of the clients.

    ``sock`` is a bound stream socket, as from ``socket.create_server``; the listener now owns it.
    ``backlog`` is how many connections may wait to be accepted, for all loops together.
    ``ValueError`` if ``sock`` is not a stream socket. When all loops have ended, close the listener
    by ``close`` or as a context manager: that resets connections that still wait.
    """

    def __init__(self, sock: socket.socket, *, backlog: int = BACKLOG) -> None:
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"a stream socket was expected, got {sock!r}")
        self._sock = sock
        self._backlog = backlog
        self._lock = threading.Lock()
        self._round: _Round | None = None
        sock.setblocking(False)

    @property
    def socket(self) -> socket.socket:
        """The socket; ask it for its name and options."""
        return self._sock

    async def create_server(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], **options: Any
    ) -> asyncio.Server:
        """Serve on the running loop, beside others.

        ``options`` are those of ``loop.create_server``, except those that say where to listen.
        Closing the server ends only this loop's part. ``RuntimeError`` if the listener is closed.
        """
        loop = asyncio.get_running_loop()
        options.setdefault("backlog", self._backlog)
        if takes_copies(loop):
            with self._lock:
                self._check()
                copy = self._sock.dup()
            try:
                return await loop.create_server(protocol_factory, sock=copy, **options)
            except BaseException:
                copy.close()
                raise
        with self._lock:
            self._check()
            if self._round is None:
                self._round = _Round(self._sock, self._backlog)
        start_serving = options.pop("start_serving", True)
        server = _Handed(self._round, loop, protocol_factory, **options)
        if start_serving:
            await server.start_serving()
        return server

    async def start_server(
        self, client_connected_cb: Any, *, limit: int = 1 << 16, **options: Any
    ) -> asyncio.Server:
        """Serve streams as ``asyncio.start_server`` does; ``limit``: bytes that a reader buffers.

        ``options`` and errors are those of ``create_server``.
        """
        loop = asyncio.get_running_loop()

        def make() -> asyncio.StreamReaderProtocol:
            reader = asyncio.StreamReader(limit=limit, loop=loop)
            return asyncio.StreamReaderProtocol(reader, client_connected_cb, loop=loop)

        return await self.create_server(make, **options)

    def close(self) -> None:
        """Stop listening; connections stay open. Closing again is harmless."""
        with self._lock:
            handing, self._round = self._round, None
        if handing is not None:
            handing.close()
        self._sock.close()

    def _check(self) -> None:
        if self._sock.fileno() < 0:
            raise RuntimeError("the listener is closed")

    def __enter__(self) -> SharedListener:  # noqa: PYI034 - nobody inherits
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def takes_copies(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether several loops like this one can accept on copies of one socket.

    Loops on completion ports cannot: asyncio's, and ours, which has the same base.
    """
    return not isinstance(loop, proactor_events.BaseProactorEventLoop)


class _Round:
    """A thread that accepts and passes connections to servers in turn.

    It waits for clients as long as anyone serves; otherwise it leaves them in the queue.
    """

    def __init__(self, sock: socket.socket, backlog: int) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._servers: collections.deque[_Handed] = collections.deque()
        self._closed = False
        self._sleeping, self._waking = socket.socketpair()
        self._sleeping.setblocking(False)
        sock.listen(backlog)
        self._thread = threading.Thread(target=self._accept, name="zerio-accept", daemon=True)
        self._thread.start()

    def add(self, server: _Handed) -> None:
        with self._lock:
            self._servers.append(server)
        self._wake()

    def remove(self, server: _Handed) -> None:
        """Pass nothing more to it; what it was passed and has not taken goes to others."""
        with self._lock:
            with contextlib.suppress(ValueError):
                self._servers.remove(server)
            left = server.give_back()
        for connection, peer in left:
            self.hand(connection, peer)

    def hand(self, connection: socket.socket, peer: Any) -> None:
        """Pass it to the next in turn; if nobody is left, the client notices at once."""
        while True:
            with self._lock:
                if not self._servers:
                    break
                server = self._servers[0]
                self._servers.rotate(-1)
                server.handed.append((connection, peer))
            try:
                server.get_loop().call_soon_threadsafe(server.take)
            except RuntimeError:  # its loop was closed, but not the server
                self.remove(server)
            return
        connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._wake()
        self._thread.join()
        self._sleeping.close()
        self._waking.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # closed, or full: it wakes in any case
            self._waking.send(b"\0")

    def _accept(self) -> None:
        pause = None
        while True:
            with self._lock:
                if self._closed:
                    return
                wanted = bool(self._servers) and pause is None
            waited = [self._sleeping, self._sock] if wanted else [self._sleeping]
            ready, _, _ = select.select(waited, [], [], pause)
            pause = None
            if self._sleeping in ready:
                with contextlib.suppress(BlockingIOError):
                    self._sleeping.recv(4096)
            if self._sock in ready:
                pause = self._accept_one()

    def _accept_one(self) -> float | None:
        """Accept one client; return the seconds to wait if the system has no room for it."""
        try:
            connection, peer = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return None
        except OSError as error:
            self._tell(error)
            return RETRY_S
        self.hand(connection, peer)
        return None

    def _tell(self, error: OSError) -> None:
        with self._lock:
            server = self._servers[0] if self._servers else None
        if server is not None:
            context = {"message": "socket.accept() failed", "exception": error}
            loop = server.get_loop()
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.call_exception_handler, context)


class _Handed(asyncio.Server):
    """A server that does not listen itself, but is passed its connections."""

    def __init__(
        self,
        handing: _Round,
        loop: Any,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *,
        ssl: Any = None,
        backlog: int,
        ssl_handshake_timeout: float | None = None,
        **shutdown_timeout: float | None,  # Python 3.11
    ) -> None:
        super().__init__(
            loop, [], protocol_factory, ssl, backlog, ssl_handshake_timeout, **shutdown_timeout
        )
        self._handing = handing
        self._factory = protocol_factory
        self._ended = False
        self._tls = ssl
        self._timeouts = {"ssl_handshake_timeout": ssl_handshake_timeout, **shutdown_timeout}
        self.handed: collections.deque[tuple[socket.socket, Any]] = collections.deque()

    @property
    def sockets(self) -> Any:
        """The shared one; servers elsewhere show their copies of it."""
        if self._ended:
            return ()
        return (trsock.TransportSocket(self._handing._sock),)

    def _start_serving(self) -> None:
        if not self.is_serving():
            super()._start_serving()  # type: ignore[misc]
            self._handing.add(self)

    def close(self) -> None:
        super().close()
        self._ended = True
        self._handing.remove(self)

    def give_back(self) -> list[tuple[socket.socket, Any]]:
        """Return what nobody has taken; called under the lock of the round."""
        left = list(self.handed)
        self.handed.clear()
        return left

    def take(self) -> None:
        """Take one connection that was passed, in the loop's thread."""
        try:
            connection, peer = self.handed.popleft()
        except IndexError:
            return  # given back meanwhile
        connection.setblocking(False)
        if connection.family in INTERNET:
            with contextlib.suppress(OSError):  # already gone: the first receive reports it
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop: Any = self.get_loop()
        try:
            protocol = self._factory()
            extra = {"peername": peer}
            if self._tls is None:
                loop._make_socket_transport(connection, protocol, extra=extra, server=self)
            else:
                loop._make_ssl_transport(
                    connection,
                    protocol,
                    self._tls,
                    server_side=True,
                    extra=extra,
                    server=self,
                    **self._timeouts,
                )
        except (SystemExit, KeyboardInterrupt):
            connection.close()
            raise
        except BaseException as error:  # noqa: BLE001  # the factory is the program's
            connection.close()
            loop.call_exception_handler(
                {
                    "message": "Error on transport creation for incoming connection",
                    "exception": error,
                }
            )
