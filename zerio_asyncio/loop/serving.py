"""Accepting connections on the port, for ``Server`` of the standard library.

The standard loop accepts in a reader callback and makes a task per connection. Here the port
accepts by itself and each connection arrives as an event, so a plain connection gets its transport
at once, and so does one with TLS, which reports its own handshake's end. Only where that is the
standard library's TLS, or debug mode is on, does a task wait for the handshake, as there.

As there, everything called for a connection runs in a copy of the context in which serving began,
or from Python 3.15 on, of the context in which the server was made.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import socket
import sys
import weakref
from asyncio import constants, trsock
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from zerio_asyncio.core.stream import StreamTransport
from zerio_asyncio.core.tls import TLSTransport
from zerio_asyncio.loop.descriptors import has_lost
from zerio_asyncio.loop.start_tls import check_timeouts
from zerio_asyncio.rio.addresses import unpack
from zerio_asyncio.rio.providers import RegisteredSocket

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from zerio_asyncio.loop.loop_engine import LoopEngine

_log = logging.getLogger("asyncio")

TAKES_CONTEXT = sys.version_info >= (3, 15)
"""Whether transports receive the context in which they call their protocols."""

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""No descriptor or memory is left for a new connection; existing ones are unharmed."""


NON_BLOCKING: int = getattr(socket, "SOCK_NONBLOCK", 0)
_NO_DELAY = socket.IPPROTO_TCP, socket.TCP_NODELAY, 1

_DOMAIN: int | None = getattr(socket, "SO_DOMAIN", None)
_KNOWN = frozenset({socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", socket.AF_INET)})

_TCP = frozenset(
    (family, socket.SOCK_STREAM, socket.IPPROTO_TCP) for family in (socket.AF_INET, socket.AF_INET6)
)
"""Connections that send writes without waiting for acknowledgements, as in asyncio."""


@dataclass
class Listener:
    """One listening socket and how to set up its connections."""

    key: int
    sock: socket.socket
    descriptor: int
    protocol_factory: Callable[[], asyncio.BaseProtocol]
    sslcontext: Any
    server: Any
    timeouts: dict[str, Any]
    """Of TLS, by name."""
    context: contextvars.Context
    """Each connection runs in a copy of it."""
    retry: Any = None
    alone: bool = False
    """No other process accepts on it."""

    def __post_init__(self) -> None:
        # Queried once, because Python creates an enumeration member on each access.
        family, kind, proto = self.sock.family, self.sock.type, self.sock.proto
        # A plain integer: Python would look at each bit of an enumeration's member. The port makes
        # connections non-blocking, and where Python can be told so it need not do it again.
        self.kind = int(family), int(kind) | NON_BLOCKING, proto
        # A connection is what its listener is.
        self.of = RegisteredSocket if isinstance(self.sock, RegisteredSocket) else socket.socket
        self.sends_at_once = (family, kind, proto) in _TCP
        self.known = _is_stream(self.sock)


class Listeners:
    """The listening sockets of one loop.

    Keys count up and are never reused: if an event is on its way when a listener goes, it finds no
    other listener in its place, whatever descriptor number that has.
    """

    # How often this process has forked: every child since a listener was made shares it.
    forks = 0
    alone: ClassVar[weakref.WeakSet[Listeners]] = weakref.WeakSet()  # those that have some

    def __init__(self, loop: LoopEngine) -> None:
        self._made: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._loop_of = weakref.ref(loop)  # whose part this is: a closed loop is freed at once
        self._keys = itertools.count(1)
        self._by_key: dict[int, Listener] = {}
        self._by_socket: dict[int, Listener] = {}

    @property
    def _loop(self) -> LoopEngine:
        loop = self._loop_of()
        assert loop is not None
        return loop

    def start(self, listener_of: Callable[[int], Listener]) -> None:
        """Accept on the listener that ``listener_of`` makes for a new key."""
        listener = listener_of(next(self._keys))
        listener.alone = self._made.get(listener.server) == Listeners.forks
        self._loop._accept(listener.descriptor, listener.key, listener.alone)
        self._by_key[listener.key] = listener
        self._by_socket[id(listener.sock)] = listener
        if listener.alone:
            Listeners.alone.add(self)

    def note_made(self, server: Any) -> None:
        """The loop has just made the listening sockets of ``server``: nobody has copies."""
        self._made[server] = Listeners.forks

    def share(self) -> None:
        """A child has copies of all listening sockets."""
        for listener in self._by_key.values():
            if listener.alone:
                listener.alone = False
                with contextlib.suppress(OSError):  # closed behind our back
                    self._loop._accept(listener.descriptor, listener.key)

    def stop(self, sock: socket.socket, loop: LoopEngine) -> None:
        """Stop accepting on ``sock``; harmless if it is not listening here.

        ``loop`` is ours: in its finalizer it has no weak references any more.
        """
        listener = self._by_socket.pop(id(sock), None)
        if listener is None:
            return
        del self._by_key[listener.key]
        if listener.retry is not None:
            listener.retry.cancel()
        elif all(other.descriptor != listener.descriptor for other in self._by_key.values()):
            # Otherwise the program has closed it, and another socket has its number now.
            loop._accept_stop(listener.descriptor)

    def stop_all(self, loop: LoopEngine) -> None:
        """Stop accepting altogether: the loop closes."""
        for listener in list(self._by_key.values()):
            self.stop(listener.sock, loop)

    def accepted(
        self, loop: LoopEngine, key: int, error: OSError | None, descriptor: int, peer: Any
    ) -> None:
        """One event of the port; ``peer`` is the address from the accept, a name or bytes."""
        listener = self._by_key.get(key)
        if listener is None:
            if error is None:
                socket.close(descriptor)
        elif error is not None:
            listener.context.copy().run(self._failed, listener, error)
        else:
            # A copy for each, so what one connection's callbacks set concerns no other.
            context = listener.context.copy()
            context.run(self._connected, loop, listener, descriptor, peer, context)

    def _failed(self, listener: Listener, error: OSError) -> None:
        exhausted = error.errno in EXHAUSTED
        self._loop.call_exception_handler(
            {
                "message": "socket.accept() out of system resource"
                if exhausted
                else "socket.accept() failed",
                "exception": error,
                "socket": trsock.TransportSocket(listener.sock),
            }
        )
        # Waiting costs nothing; trying again at once would burn a core.
        listener.retry = self._loop.call_later(constants.ACCEPT_RETRY_DELAY, self._resume, listener)

    def _resume(self, listener: Listener) -> None:
        listener.retry = None
        if has_lost(listener.sock, listener.descriptor):
            return  # the program closed it meanwhile; its number may be another listener's
        try:
            self._loop._accept(listener.descriptor, listener.key, listener.alone)
        except OSError as error:
            self._failed(listener, error)

    def _connected(
        self,
        loop: LoopEngine,
        listener: Listener,
        descriptor: int,
        peer: Any,
        context: contextvars.Context,
    ) -> None:
        try:
            connection = listener.of(*listener.kind, descriptor)
        except OSError:
            socket.close(descriptor)
            return
        if not NON_BLOCKING:
            connection.setblocking(False)
        if listener.sends_at_once:
            try:  # noqa: SIM105  # the words for it cost more than the call
                connection.setsockopt(*_NO_DELAY)
            except OSError:
                pass  # already gone: the first receive reports it
        if loop._debug:
            _log.debug("%r got a new connection: %r", listener.server, connection)
        extra = {"peername": peer} if type(peer) is tuple else _peer_info(peer)
        try:
            protocol: Any = listener.protocol_factory()
            server = listener.server
            if server is not None and server._sockets is None:  # by the factory, or before
                connection.close()
                return
            if listener.sslcontext is not None:
                make_records = loop._tls.make_records
                if make_records is None or loop._debug:
                    self._handshake(loop, listener, protocol, connection, extra, context)
                    return
                check_timeouts(listener.timeouts)
                protocol = TLSTransport(
                    loop,
                    make_records,
                    protocol,
                    listener.sslcontext,
                    server_side=True,
                    **listener.timeouts,
                )
            StreamTransport(
                loop,
                connection,
                protocol,
                None,
                extra,
                server,
                False,  # by their places: names would cost a dictionary for each connection
                context if TAKES_CONTEXT else None,
                listener.known,
            )
        except (SystemExit, KeyboardInterrupt):
            connection.close()
            raise
        except BaseException as exc:  # noqa: BLE001  # the factory is the program's
            connection.close()
            if not (isinstance(exc, AssertionError) and _is_closed(listener.server)):
                _tell(loop, exc)

    def _handshake(
        self,
        loop: LoopEngine,
        listener: Listener,
        protocol: Any,
        connection: socket.socket,
        extra: dict[str, Any],
        context: contextvars.Context,
    ) -> None:
        """As the standard library: a task waits for the handshake, and in debug mode it reports."""
        given = {"context": context} if TAKES_CONTEXT else {}
        loop.create_task(
            loop._accept_connection2(
                lambda: protocol,
                connection,
                extra,
                listener.sslcontext,
                listener.server,
                **listener.timeouts,
                **given,
            ),
            **given,
        )


def _is_stream(sock: socket.socket) -> bool:
    """Whether its connections certainly are streams, as ``StreamTransport`` is to know.

    The system is asked, once for all of them: Python has what it was told of a descriptor.
    """
    if _DOMAIN is None:
        return False
    try:
        kind = sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        return kind == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, _DOMAIN) in _KNOWN
    except OSError:
        return False


def _peer_info(raw: bytes) -> dict[str, Any]:
    """The peer's name: once a client has gone, the system no longer knows it."""
    try:
        return {"peername": unpack(raw)}
    except ValueError:  # of another family: the transport asks the socket
        return {}


def _is_closed(server: Any) -> bool:
    return server is not None and server._sockets is None


def _tell(loop: LoopEngine, exc: BaseException) -> None:
    # The standard loop reports this in debug mode only: its clients then meet a closed connection,
    # and nobody learns why.
    loop.call_exception_handler(
        {"message": "Error on transport creation for incoming connection", "exception": exc}
    )


class _Refusal(asyncio.Protocol):
    """Replaces a protocol that could not be made."""

    def connection_made(self, transport: Any) -> None:
        transport.abort()


def telling(
    loop: LoopEngine, factory: Callable[[], asyncio.BaseProtocol]
) -> Callable[[], asyncio.BaseProtocol]:
    """Make a factory that never raises, for accepting through the standard library.

    If a factory raises, that way reports nothing, or stops accepting (the proactor).
    """

    def make() -> asyncio.BaseProtocol:
        try:
            return factory()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:  # noqa: BLE001  # the factory is the program's
            _tell(loop, exc)
            return _Refusal()

    return make


def _forked() -> None:
    Listeners.forks += 1
    for listeners in list(Listeners.alone):
        loop = listeners._loop_of()
        if loop is not None and any(listener.alone for listener in listeners._by_key.values()):
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                loop.call_soon_threadsafe(listeners.share)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_forked)
