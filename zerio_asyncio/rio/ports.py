"""The port: the one place where a thread sleeps.

A completion port on Windows, a ring or an epoll set on Linux. Completion queues report to it, and
it offers what RIO leaves to the rest of Winsock: wake-ups, accept, connect, readiness. Only one
thread at a time may use a port and what belongs to it; only `CompletionPort.post` may be called
from another. While a call is under way, calls from other threads are refused (RuntimeError). Before
a second thread takes a port over, the first one calls `CompletionPort.park` (rule 10 in rio.h).

A method that the provider refuses raises `zerio_asyncio.rio.errors.RioError`, an OSError. On a
closed port methods raise ValueError. After a fork the port belongs to the parent: in the child
every method but `close` raises RioError with WSAENETDOWN (rule 14).
"""

from __future__ import annotations

import enum
import errno
import math
import socket
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, final

from zerio_asyncio.rio import addresses
from zerio_asyncio.rio._rio import ffi, lib
from zerio_asyncio.rio.errors import RioError, check, last_error, winsock_error
from zerio_asyncio.rio.providers import Choice, Provider, RegisteredSocket, pick
from zerio_asyncio.rio.turns import POLLED, Turn, Unique

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerio_asyncio.rio.foreign import CData, rio_peer, rio_port_event, rio_port_table
    from zerio_asyncio.rio.queues import CompletionQueue

EVENTS_MAX = 1024
"""Events of one wait: bounds how long a turn of a loop can keep its timers waiting."""

_NO_MEMORY = frozenset({errno.ENOMEM, errno.ENOBUFS})
_FOR_EVER = -1  # of a timeout, and of spinning
_NS_PER_SECOND = 1_000_000_000
_TIMEOUT_MAX = 100 * 365 * 24 * 3600  # seconds; a century, far inside 63 bits of nanoseconds


class Kind(enum.IntEnum):
    """What an event reports."""

    NOTIFY = lib.RIO_PORT_NOTIFY
    """A completion queue has results: ``queue``."""
    POST = lib.RIO_PORT_POST
    """`CompletionPort.post` was called; several calls may be one event."""
    READY = lib.RIO_PORT_READY
    """A watched descriptor is ready: ``value`` is the mask."""
    ACCEPT = lib.RIO_PORT_ACCEPT
    """A connection: ``value`` is its descriptor (see `Event.take_socket`), ``peer`` its client."""
    CONNECT = lib.RIO_PORT_CONNECT
    """A connect has ended; ``error`` says how."""
    PACKET = lib.RIO_PORT_PACKET
    """An operation of the caller's own has ended (`CompletionPort.join`): ``overlapped`` is its
    address, ``status`` its NTSTATUS, ``value`` the number of bytes."""


class Watch(enum.IntFlag):
    """The readiness to watch for."""

    READ = lib.RIO_WATCH_READ
    WRITE = lib.RIO_WATCH_WRITE
    ONCE = lib.RIO_WATCH_ONCE
    """Together with one or both of the others: one event, then none until the next ``watch``."""


class Outstanding(Protocol):
    """A request without a result; it keeps its memory alive."""

    def release(self) -> None:
        """Let the memory go: nothing else touches it any more."""
        ...


class Keeper:
    """Holds what closed completion queues left outstanding: the kernel may still use its memory.

    One for each port, and one for completion queues that are only polled and share request queues:
    under those the provider has a port of its own, which ends with the last of them.
    """

    def __init__(self, turn: Turn = POLLED) -> None:
        self.turn = turn
        self.left: list[Outstanding] = []
        self.queues = 0  # that are only polled, and open

    def release(self) -> None:
        """Let go of everything: the port has ended."""
        left, self.left = self.left, []
        for request in left:
            request.release()


class HasFileno(Protocol):
    """Anything with a descriptor: a socket, a pipe's file object."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


class Event(NamedTuple):
    """One thing that happened.

    ``status`` is 0 or a Winsock code, ``key`` the key that the caller gave, ``value`` as `Kind`
    says, ``queue`` the completion queue of a NOTIFY, ``overlapped`` the address of a PACKET.
    ``peer`` is the client's address of an ACCEPT, as `socket.socket.accept` returns it, even if the
    client is gone; None where the system does not say. ``registered``: the socket of an ACCEPT was
    made for Registered I/O.
    """

    kind: Kind
    status: int
    key: int
    value: int
    queue: CompletionQueue | None
    overlapped: int = 0
    peer: Any = None
    registered: bool = False

    @property
    def error(self) -> RioError | None:
        """The status as an exception; None if all went well."""
        return winsock_error(self.status, self.kind.name.lower()) if self.status else None

    def take_socket(self) -> socket.socket:
        """Make the socket of an ACCEPT; it is non-blocking, and the caller must close it.

        Raises the event's error if there is one, and ValueError for other kinds. Call it once:
        nothing else closes the descriptor.
        """
        if self.kind is not Kind.ACCEPT:
            raise ValueError(f"an event of kind {self.kind.name} has no socket")
        if self.status:
            raise winsock_error(self.status, "accept")
        made = socket.socket(fileno=self.value)
        if self.registered:
            made = RegisteredSocket(made.family, made.type, made.proto, made.detach())
        made.setblocking(False)  # tells Python too
        return made


def _peer(event: rio_port_event) -> Any:
    peer = cast("rio_peer", ffi.cast("rio_peer *", event.overlapped))
    try:
        return addresses.unpack(bytes(ffi.buffer(peer.address, peer.length)))
    except ValueError:
        return None  # of a family that has no queues here


class Statistics(NamedTuple):
    """Counts since the port was made."""

    provider: str
    submissions: int
    """Operations handed to the kernel."""
    completions: int
    """Results put into completion queues."""
    system_calls: int
    """Made by the port and its queues."""
    waits: int
    """Calls of wait."""
    bytes_received: int
    bytes_sent: int
    gathered: int
    """Requests that left with the system call or operation of another one."""
    in_kernel: int
    """Operations that the kernel holds now."""


def descriptor(sock: int | HasFileno) -> int:
    """Return the descriptor of a socket or of anything with ``fileno``.

    TypeError for anything else, ValueError for a closed one.
    """
    number = sock if isinstance(sock, int) else _fileno(sock)
    if number < 0:
        raise ValueError(f"not an open socket: {sock!r}")
    return number


def _fileno(sock: HasFileno) -> int:
    try:
        return sock.fileno()
    except AttributeError:
        raise TypeError(f"neither a descriptor nor a socket: {sock!r}") from None


def _ns(seconds: float) -> int:
    return int(min(seconds, _TIMEOUT_MAX) * _NS_PER_SECOND)


@final
class CompletionPort(Unique):
    """A port of one provider.

    ``provider``: a `Provider`, a name, or None for `zerio_asyncio.rio.pick`'s choice.
    ``depth``: entries of the submission queue where the provider has one; 0 is its own choice.
    ``spin``: for how many seconds after the last event a wait polls before it sleeps; with
    ``math.inf`` it never sleeps. ``OSError`` if the system refuses.

    ``address`` is where the C ``rio_port`` is, an integer, for compiled code. Close the port, or
    use it as a context manager. Closing ends the outstanding requests; their results are lost.
    """

    _port: CData | None = None

    def __init__(
        self, provider: Provider | str | None = None, *, depth: int = 0, spin: float = 0.0
    ) -> None:
        self._begin("provider")
        if provider is None or isinstance(provider, str):
            provider = pick(provider).provider
        if not isinstance(provider, Provider):
            raise TypeError(f"provider must be a Provider, a name or None, not {provider!r}")
        if not spin >= 0:
            raise ValueError(f"spin must be 0 or more seconds, not {spin}")
        options = {"depth": depth, "spin_ns": _FOR_EVER if math.isinf(spin) else _ns(spin)}
        self._spins = spin > 0
        self.provider = provider
        self._table: rio_port_table = provider.c.port
        self._events: CData | None = ffi.new(
            "rio_port_event[]", EVENTS_MAX
        )  # None while a call reads it
        self._queues: weakref.WeakValueDictionary[int, CompletionQueue] = (
            weakref.WeakValueDictionary()
        )
        self._turn = Turn()
        self._keeper = Keeper(self._turn)
        port = self._table.create(ffi.new("rio_port_options *", options))
        if not port:
            raise last_error(f"port of provider {provider.name!r}")
        self._port = port

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._port is None

    @property
    def address(self) -> int:
        """Where the C ``rio_port`` is."""
        return int(ffi.cast("uintptr_t", self._open()))

    def _open(self) -> CData:
        if self._port is None:
            raise ValueError("port is closed")
        return self._port

    def _call(self, entry: Callable[..., int], *arguments: Any) -> int:
        self._open()
        with self._turn:
            return entry(self._open(), *arguments)

    def wait(self, timeout: float | None = None, most: int = 64) -> list[Event]:
        """Submit everything queued and sleep until an event, for at most ``timeout`` seconds.

        None sleeps for ever, 0 not at all. Returns 1 to ``most`` events (at most ``EVENTS_MAX``),
        or none when the time is up or a signal came. A port with ``spin`` checks for signals every
        millisecond, calls their handlers, and goes on waiting.
        """
        if not 1 <= most <= EVENTS_MAX:
            raise ValueError(f"most must be 1 to {EVENTS_MAX} events, not {most}")
        nanoseconds = _FOR_EVER
        if timeout is not None:
            if not timeout >= 0:  # a NaN is none either
                raise ValueError(f"timeout must be 0 or more seconds, not {timeout}")
            nanoseconds = _ns(timeout)
        end = time.monotonic_ns() + nanoseconds
        self._open()
        with self._turn:
            # A signal's handler, or a finalizer, may wait meanwhile: it must not find our events.
            events, self._events = self._events, None
            if events is None:
                events = ffi.new("rio_port_event[]", EVENTS_MAX)
            try:
                count = self._table.wait(self._open(), events, most, nanoseconds)
                while count == 0 and self._spins and (timeout is None or time.monotonic_ns() < end):
                    left = nanoseconds if timeout is None else max(0, end - time.monotonic_ns())
                    count = self._table.wait(self._open(), events, most, left)
                if count < 0:
                    raise winsock_error(-count, "wait")
                return [self._event(events[i]) for i in range(count)]
            finally:
                self._events = events

    def _event(self, event: rio_port_event) -> Event:
        kind = Kind(event.kind)
        queue = None
        if kind is Kind.NOTIFY:
            queue = self._queues.get(int(ffi.cast("uintptr_t", event.overlapped)))
        overlapped = int(ffi.cast("uintptr_t", event.overlapped)) if kind is Kind.PACKET else 0
        peer = _peer(event) if kind is Kind.ACCEPT and event.overlapped else None
        accepted = kind is Kind.ACCEPT and not event.status
        made = accepted and bool(self.provider.c.is_made(event.value))
        return Event(kind, event.status, event.key, event.value, queue, overlapped, peer, made)

    def pending(self) -> bool:
        """Whether ``wait(0)`` would do anything. False does not promise that nothing has come."""
        return bool(self._call(self._table.pending))

    def post(self, key: int = 0) -> None:
        """Wake the waiting thread, or the next wait. Any thread may call this."""
        port = self._open()
        check(self._table.post(port, key), "post")

    def watch(self, sock: int | HasFileno, mask: int, key: int = 0) -> None:
        """Report readiness of a descriptor as long as it lasts (level-triggered); mask 0 stops.

        A descriptor has one watch: a second call changes mask and key. OSError with EBADF for a
        closed descriptor, with EOPNOTSUPP for a plain file, which is always ready.
        """
        check(self._call(self._table.watch, descriptor(sock), mask, key), "watch")

    def accept(self, listener: int | HasFileno, key: int = 0) -> None:
        """Accept connections, one ACCEPT event each, until `accept_stop` or an error event.

        An event with an error ends accepting: after exhaustion (EMFILE, ENOBUFS) call again later.
        """
        check(self._call(self._table.accept, descriptor(listener), key), "accept")

    def accept_alone(self, listener: int | HasFileno, alone: bool = True) -> None:
        """Say that no other process accepts on this listener: a wait may take several connections.

        OSError (EINVAL) if this port does not accept on it.
        """
        check(self._call(self._table.accept_alone, descriptor(listener), alone), "accept_alone")

    def accept_stop(self, listener: int | HasFileno) -> None:
        """Stop accepting. No more events come; connections already taken are closed."""
        check(self._call(self._table.accept_stop, descriptor(listener)), "accept_stop")

    def connect(self, sock: socket.socket, address: Any, key: int = 0) -> None:
        """Connect a non-blocking socket; one CONNECT event tells how it ended.

        The address is that of `socket.socket.connect`, but numeric; otherwise ValueError.
        """
        raw = addresses.pack(sock.family, address)
        code = self._call(self._table.connect, descriptor(sock), raw, len(raw), key)
        check(code, "connect")

    def connect_stop(self, sock: int | HasFileno) -> None:
        """Forget a connect: no event will come, and the caller must close the socket."""
        check(self._call(self._table.connect_stop, descriptor(sock)), "connect_stop")

    def retire(self, sock: int | HasFileno) -> None:
        """End a socket's request queue; close the socket afterwards, never before.

        Every outstanding request completes, aborted or as it really ended. Dequeue the results.
        """
        check(self._call(self._table.retire, descriptor(sock)), "retire")

    def join(self, file: int | HasFileno) -> None:
        """Report the caller's own overlapped operations on ``file`` here, as PACKET events.

        This lasts for the file's life; repeating it is harmless. Windows only: OSError with
        EOPNOTSUPP elsewhere.
        """
        check(self._call(self._table.join, descriptor(file)), "join")

    def leave(self, sock: int | HasFileno) -> None:
        """Forget a socket that is about to be closed, so that its number joins anew.

        Call it before the socket is closed, after `retire` if it has a request queue.
        """
        check(self._call(self._table.leave, descriptor(sock)), "leave")

    @property
    def native(self) -> int:
        """The handle of the I/O completion port; 0 where there is none."""
        return int(self._call(self._table.native))

    def park(self) -> None:
        """Take everything back from the kernel: this thread may end, and another may take over."""
        check(self._call(self._table.park), "park")

    def statistics(self) -> Statistics:
        """Return what was done so far."""
        counts = ffi.new("rio_port_statistics *")
        check(self._call(self._table.statistics, counts), "statistics")
        return Statistics(
            self.provider.name,
            *(getattr(counts, name) for name in Statistics._fields if name != "provider"),
        )

    def close(self) -> None:
        """Close the queues that report here, then the port. Closing again is harmless."""
        if self._port is None:
            return
        with self._turn:
            for queue in list(self._queues.values()):
                queue.close()
            port, self._port = self._port, None
            if port is not None:
                self._table.close(port)
                self._keeper.release()

    def __enter__(self) -> CompletionPort:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._port is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        name = getattr(getattr(self, "provider", None), "name", "without a provider")
        return f"<CompletionPort {name}{' closed' if self.closed else ''}>"


def open_port(
    name: str | None = None, *, depth: int = 0, spin: float = 0.0
) -> tuple[Choice, CompletionPort]:
    """Choose a provider as `zerio_asyncio.rio.pick` does, and make a port of it.

    If the provider has no memory left for another port, as io_uring under a low limit of locked
    memory, and nobody named it, the next one is taken. OSError if a named provider refuses, or if
    all do.
    """
    passed_over: list[tuple[str, str]] = []
    ask = False  # a probe makes a whole ring: not before every port, only when one is refused
    while True:
        choice = pick(name, passed_over, ask=ask)
        try:
            return choice, CompletionPort(choice.provider, depth=depth, spin=spin)
        except OSError as refusal:
            if not ask and choice.provider.probe() is not None:
                ask = True  # it worked once, and has been forbidden since
                continue
            if choice.named or refusal.errno not in _NO_MEMORY:
                raise
            why = f"{refusal.strerror}: raise the limit of locked memory (ulimit -l)"
            passed_over.append((choice.provider.name, why))
