"""Completion queues and request queues: RIO itself, with Python objects as contexts.

```
   RequestQueue(socket) ──receive, send──▶ provider ──result──▶ CompletionQueue ──dequeue──▶ you
                                                                       │
                                       CompletionPort.wait ◀──notify───┘   once for each notify()
```

A request names a slice of registered memory; `CompletionQueue.dequeue` fetches its one result.
Between the two this module keeps the slice, and everything else that the provider may touch, alive,
whatever the caller drops. The results of one direction of one request queue come in the order of
the requests. Numbered rules are those of rio.h. Errors raise `zerio_asyncio.rio.errors.RioError`,
an OSError; closed objects raise ValueError.

API pages: https://learn.microsoft.com/windows/win32/api/mswsock/ns-mswsock-rio_extension_function_table
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, final

from zerio_asyncio.rio._rio import ffi, lib
from zerio_asyncio.rio.addresses import ADDRESS_SIZE
from zerio_asyncio.rio.buffers import Slice
from zerio_asyncio.rio.errors import RioError, check, last_error, winsock_error
from zerio_asyncio.rio.ports import CompletionPort, Keeper, descriptor
from zerio_asyncio.rio.providers import Provider, pick
from zerio_asyncio.rio.turns import POLLED, Turn, Unique

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

    from zerio_asyncio.rio.foreign import RIORESULT, CData, Now, Start, StartEx

_LENGTH_MAX = 0x7FFFFFFF  # bytes; a length is 32 bits wide

RESULTS_MAX = 1024
"""Results of one dequeue; a bound for one turn of a loop."""

_tokens = itertools.count(1)  # request contexts; never 0, which a commit's null context is


class Flag(enum.IntFlag):
    """Flags of a request. COMMIT_ONLY has its own methods, such as `RequestQueue.commit_sends`."""

    DONT_NOTIFY = lib.RIO_MSG_DONT_NOTIFY
    """The result comes, but fires no notification."""
    DEFER = lib.RIO_MSG_DEFER
    """The request may wait for the next undeferred request, or commit, of its direction."""
    WAITALL = lib.RIO_MSG_WAITALL
    """Stream receives complete only when the slice is full, at the end, or on an error."""


class Result(NamedTuple):
    """How a request ended."""

    status: int
    """0 or a Winsock code."""
    transferred: int
    """Bytes. Status 0 with 0 bytes means the end of a stream, or an empty datagram."""
    socket_context: Any
    """The context that the request queue was made with."""
    context: Any
    """The context that the request was made with."""

    @property
    def error(self) -> RioError | None:
        """The status as an exception; None if all went well."""
        return winsock_error(self.status, "request") if self.status else None


class _Request:
    """What an accepted request keeps alive until its result is dequeued."""

    __slots__ = ("context", "memory", "slices", "socket_context")

    def __init__(self, queue: RequestQueue, context: Any, slices: tuple[Slice, ...]) -> None:
        self.context = context
        self.socket_context = queue.context
        self.slices = slices
        self.memory: Any = None  # of send_memory and receive_memory

    def release(self) -> None:
        for part in self.slices:
            part._release()


@final
class CompletionQueue(Unique):
    """Where results arrive.

    ``size``: how many results it can hold, 1 to RIO_MAX_CQ_SIZE. The maxima of the request queues
    that use it may not exceed it together. ``port``: where `notify` reports, with ``key``. Without
    a port the queue can only be polled, and ``provider`` says whose it is (a `Provider`, a name, or
    None for the best that works).

    To close, retire the sockets, dequeue until ``outstanding`` is 0, then close the queue. Requests
    that are outstanding when it closes have no result, and keep their memory until the port closes.
    """

    _queue: CData | None = None

    def __init__(
        self,
        size: int,
        port: CompletionPort | None = None,
        *,
        key: int = 0,
        provider: Provider | str | None = None,
    ) -> None:
        self._begin("provider")
        if port is not None and not isinstance(port, CompletionPort):
            raise TypeError(f"port must be a CompletionPort or None, not {port!r}")
        if port is not None:
            provider = port.provider
        elif not isinstance(provider, Provider):
            provider = pick(provider).provider
        self.provider = provider
        self.port = port
        self._turn = port._turn if port is not None else POLLED
        self._rio = provider.c.rio
        self._requests: dict[int, _Request] = {}
        # Polled queues get theirs with their first request queue, as the provider does.
        self._keeper: Keeper | None = port._keeper if port is not None else None
        self._polled_keeper = False  # the keeper counts this queue
        self._results: CData | None = ffi.new(
            "RIORESULT[]", RESULTS_MAX
        )  # None while a call reads it
        # Its address is the queue's identity in a notification; RIO wants one for each queue.
        self._overlapped = ffi.new("char[1]")
        with self._turn:
            self._queue = self._create(size, key)
            self._size = size
            if port is not None:
                port._queues[int(ffi.cast("uintptr_t", self._overlapped))] = self

    def _create(self, size: int, key: int) -> CData:
        if not 0 <= size <= 0xFFFFFFFF:
            raise ValueError(f"size must be a DWORD, not {size}")
        notification = ffi.NULL
        if self.port is not None:
            iocp = (self.port._open(), ffi.cast("void *", key), self._overlapped)
            told = {"Type": lib.RIO_IOCP_COMPLETION, "u": {"Iocp": iocp}}
            notification = ffi.new("RIO_NOTIFICATION_COMPLETION *", told)
        queue = self._rio.RIOCreateCompletionQueue(size, notification)
        if not queue:
            raise last_error("RIOCreateCompletionQueue")
        return queue

    @property
    def closed(self) -> bool:
        """Whether `close` was called (the port's close calls it)."""
        return self._queue is None

    @property
    def size(self) -> int:
        """How many results the queue can hold."""
        return self._size

    @property
    def outstanding(self) -> int:
        """How many requests have no result that was dequeued."""
        return len(self._requests)

    def _open(self, turn: Turn | None = None) -> CData:
        if self._queue is None:
            raise ValueError("completion queue is closed")
        if turn is not None and turn is not self._turn:
            raise RuntimeError("another thread has just joined this queue to a port")
        return self._queue

    def notify(self) -> bool:
        """Ask the port for one NOTIFY event as soon as the queue is not empty.

        One call gives one event: dequeue, then call again. Returns True if this call armed it,
        False if it was armed already. OSError (EINVAL) on a queue without a port.
        """
        self._open()
        with self._turn as turn:
            code = self._rio.RIONotify(self._open(turn))
        if code == lib.RIO_EALREADY:
            return False
        check(code, "RIONotify")
        return True

    def dequeue(self, most: int = 64) -> list[Result]:
        """Fetch at most ``most`` results (up to ``RESULTS_MAX``); never waits.

        This gives the requests' slots and slices back. A queue without a port makes progress here.
        """
        if not 0 <= most <= RESULTS_MAX:
            raise ValueError(f"most must be 0 to {RESULTS_MAX} results, not {most}")
        self._open()
        with self._turn as turn:
            # Reading results makes objects, and that may collect: a finalizer that comes here, too,
            # must not find them.
            results, self._results = self._results, None
            if results is None:
                results = ffi.new("RIORESULT[]", RESULTS_MAX)
            try:
                count = self._rio.RIODequeueCompletion(self._open(turn), results, most)
                if count == lib.RIO_CORRUPT_CQ:
                    raise winsock_error(
                        lib.RIO_EINVAL, "RIODequeueCompletion: corrupt completion queue"
                    )
                fetched = (self._result(results[i]) for i in range(count))
                return [result for result in fetched if result is not None]
            finally:
                self._results = results

    def _result(self, raw: RIORESULT) -> Result | None:
        request = self._requests.pop(raw.RequestContext, None)
        if request is None:
            return None  # a finalizer has closed the queue meanwhile; the request is its keeper's
        request.release()
        return Result(raw.Status, raw.BytesTransferred, request.socket_context, request.context)

    def resize(self, size: int) -> None:
        """Change ``size``; the results inside are kept.

        OSError with ETOOMANYREFS if request queues have reserved more, with EINVAL if out of range.
        """
        self._open()
        with self._turn as turn:
            resized = self._rio.RIOResizeCompletionQueue(self._open(turn), size)
            check_true(resized, "RIOResizeCompletionQueue")
            self._size = size

    def close(self) -> None:
        """Close; results that were not dequeued are lost. Closing again is harmless."""
        if self._queue is None:
            return
        with self._turn as turn:
            self._open(turn)
            self._end()

    def _end(self) -> None:
        queue, self._queue = self._queue, None
        if queue is None:
            return
        self._rio.RIOCloseCompletionQueue(queue)
        keeper = self._keeper
        if keeper is None:
            return
        keeper.left.extend(self._requests.values())
        self._requests.clear()
        if self._polled_keeper:
            keeper.queues -= 1
            if keeper.queues == 0:
                keeper.release()

    def __enter__(self) -> CompletionQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._queue is not None:
            self._turn.leave(self._end)  # the thread that this runs in may be any


def _join(one: CompletionQueue, other: CompletionQueue) -> None:
    """Both now live under one port: that of either, or the provider's own if they are polled."""
    keeper = one._keeper or other._keeper
    polled = keeper is None
    keeper = keeper or Keeper()
    for queue in {one, other}:
        if queue._keeper is None:
            queue._keeper = keeper
            queue._turn = keeper.turn
            queue._polled_keeper = polled or keeper.queues > 0
            keeper.queues += queue._polled_keeper


def check_true(answer: int, doing: str) -> None:
    """Raise the last error if a BOOL entry of the table answered FALSE."""
    if not answer:
        raise last_error(doing)


@final
class RequestQueue(Unique):
    """The requests of one socket.

    ``receive_queue`` and ``send_queue`` (the same one if None) get the results. ``max_receives``
    and ``max_sends`` limit the outstanding requests, and are reserved there. ``context`` comes back
    in every result. A stream socket must be connected.

    The socket remains the caller's and is kept alive here; do not read from it or write to it by
    other means. End with `close`, which retires it, and close the socket afterwards.
    """

    _queue: CData | None = None

    def __init__(
        self,
        sock: socket.socket,
        receive_queue: CompletionQueue,
        send_queue: CompletionQueue | None = None,
        max_receives: int = 1,
        max_sends: int = 1,
        context: Any = None,
    ) -> None:
        self._begin("socket")
        send_queue = receive_queue if send_queue is None else send_queue
        for queue in (receive_queue, send_queue):
            if not isinstance(queue, CompletionQueue):
                raise TypeError(f"not a CompletionQueue: {queue!r}")
        if send_queue.provider is not receive_queue.provider:
            raise ValueError("the two completion queues belong to different providers")
        self.socket = sock
        self.receive_queue = receive_queue
        self.send_queue = send_queue
        self.context = context
        self._descriptor = descriptor(sock)
        self._provider = receive_queue.provider
        self._rio = self._provider.c.rio
        with receive_queue._turn as receiving, send_queue._turn as sending:
            made = self._rio.RIOCreateRequestQueue(
                self._descriptor,
                max_receives,
                1,  # RIO takes one buffer a request, no more and no fewer
                max_sends,
                1,
                receive_queue._open(receiving),
                send_queue._open(sending),
                ffi.NULL,
            )
            if not made:
                raise last_error("RIOCreateRequestQueue")
            _join(receive_queue, send_queue)
            self._turn = receive_queue._turn
            self._queue = made

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._queue is None

    def _open(self) -> CData:
        if self._queue is None:
            raise ValueError("request queue is closed")
        return self._queue

    def receive(self, part: Slice, context: Any = None, flags: int = 0) -> None:
        """Receive into a slice: at least one byte of a stream (WAITALL: all), or one datagram.

        OSError (ENOBUFS) if ``max_receives`` are outstanding; nothing is started then.
        """
        self._start(self._rio.RIOReceive, self.receive_queue, (part,), context, flags)

    def send(self, part: Slice, context: Any = None, flags: int = 0) -> None:
        """Send a whole slice, or fail. OSError (ENOBUFS) if ``max_sends`` are outstanding."""
        self._start(self._rio.RIOSend, self.send_queue, (part,), context, flags)

    def receive_from(
        self, part: Slice, address: Slice | None = None, context: Any = None, flags: int = 0
    ) -> None:
        """Receive a datagram, and its sender's address into an address slice.

        The address slice has ``ADDRESS_SIZE`` bytes, which `zerio_asyncio.rio.addresses.unpack`
        reads.
        """
        self._start_ex(self._rio.RIOReceiveEx, self.receive_queue, part, address, context, flags)

    def send_to(
        self, part: Slice, address: Slice | None = None, context: Any = None, flags: int = 0
    ) -> None:
        """Send a datagram to the address in an address slice; None on a connected socket."""
        self._start_ex(self._rio.RIOSendEx, self.send_queue, part, address, context, flags)

    def send_memory(self, memory: ReadableBuffer, context: Any = None, flags: int = 0) -> None:
        """Send any bytes-like object without registering it.

        It is kept until the result; do not change it meanwhile. OSError (EOPNOTSUPP) where
        `Provider.sends_memory` is false.
        """
        view = ffi.from_buffer("char[]", memory)
        self._start_memory(self._provider.c.send_memory, self.send_queue, view, context, flags)

    def receive_memory(self, memory: WriteableBuffer, context: Any = None, flags: int = 0) -> None:
        """Receive into any writable bytes-like object without registering it.

        OSError (EOPNOTSUPP) where `Provider.receives_memory` is false.
        """
        view = ffi.from_buffer("char[]", memory, require_writable=True)
        self._start_memory(
            self._provider.c.receive_memory, self.receive_queue, view, context, flags
        )

    def send_now(self, memory: ReadableBuffer) -> int:
        """Send as much of a bytes-like object as the system takes at once, without a request.

        For large data on a stream whose sends are all dequeued (otherwise EALREADY). Returns how
        many bytes were sent, at least one; BlockingIOError if none could be. EOPNOTSUPP where
        `Provider.sends_now` is false. Where that is true and `Provider.acts_now` is false, a socket
        in blocking mode blocks.
        """
        view = ffi.from_buffer("char[]", memory)
        return self._now(self._provider.c.send_now, view, "send_now")

    def receive_now(self, memory: WriteableBuffer) -> int:
        """Receive the available bytes into a writable bytes-like object, without a request.

        The counterpart of `send_now`. Returns how many bytes were received, 0 at the end of the
        stream; BlockingIOError if none are available.
        """
        view = ffi.from_buffer("char[]", memory, require_writable=True)
        return self._now(self._provider.c.receive_now, view, "receive_now")

    def recall_receives(self) -> None:
        """Take every outstanding receive back; data that arrives from now on stays in the socket.

        Each receive gets its result: the bytes that came before, or ECANCELED and none. On Windows
        the result may come a little later. OSError (EOPNOTSUPP) where the system takes nothing back
        (``winsock``).
        """
        self._open()
        with self._turn:
            check(self._provider.c.recall_receives(self._open()), "recall_receives")

    def _now(self, entry: Now, view: CData, doing: str) -> int:
        self._open()
        with self._turn:
            moved = int(entry(self._open(), view, min(len(view), _LENGTH_MAX)))
        if moved < 0:
            raise winsock_error(-moved, doing)
        return moved

    def commit_receives(self) -> None:
        """Start every deferred receive now."""
        self._commit(self._rio.RIOReceive, "RIOReceive")

    def commit_sends(self) -> None:
        """Start every deferred send now."""
        self._commit(self._rio.RIOSend, "RIOSend")

    def _commit(self, entry: Start, doing: str) -> None:
        self._open()
        with self._turn:
            done = entry(self._open(), ffi.NULL, 0, lib.RIO_MSG_COMMIT_ONLY, ffi.NULL)
            check_true(done, f"{doing} commit")

    def _buffer(self, part: Slice) -> CData:
        # One for each request: between filling it and the call another request may be made, by a
        # finalizer.
        if not isinstance(part, Slice):
            raise TypeError(f"not a slice of a region: {part!r}")
        if part.region.provider is not self._provider:
            raise ValueError("the slice's region is registered with another provider")
        return ffi.new("RIO_BUF *", (part.region.buffer_id, part.offset, part.length))

    def _start(
        self, entry: Start, queue: CompletionQueue, parts: tuple[Slice], context: Any, flags: int
    ) -> None:
        self._open()
        with self._turn:
            data = self._buffer(parts[0])
            with self._kept(queue, _Request(self, context, parts)) as token:
                accepted = entry(self._open(), data, 1, flags, ffi.cast("void *", token))
                check_true(accepted, "request")

    def _start_ex(
        self,
        entry: StartEx,
        queue: CompletionQueue,
        part: Slice,
        address: Slice | None,
        context: Any,
        flags: int,
    ) -> None:
        self._open()
        remote = ffi.NULL
        parts: tuple[Slice, ...] = (part,)
        with self._turn:
            data = self._buffer(part)
            if address is not None:
                remote, parts = self._buffer(address), (part, address)
                if len(address) < ADDRESS_SIZE:
                    told = f"an address slice has {ADDRESS_SIZE} bytes, not {len(address)}"
                    raise ValueError(told)
            null = ffi.NULL
            with self._kept(queue, _Request(self, context, parts)) as token:
                own = ffi.cast("void *", token)
                accepted = entry(self._open(), data, 1, null, remote, null, null, flags, own)
                check_true(accepted, "request")

    def _start_memory(
        self, entry: Start, queue: CompletionQueue, view: CData, context: Any, flags: int
    ) -> None:
        self._open()
        request = _Request(self, context, ())
        request.memory = view  # keeps the object's buffer exported, so it cannot be resized
        with self._turn, self._kept(queue, request) as token:
            accepted = entry(self._open(), view, len(view), flags, ffi.cast("void *", token))
            check_true(accepted, "request")

    @contextlib.contextmanager
    def _kept(self, queue: CompletionQueue, request: _Request) -> Iterator[int]:
        """Hold everything before the call, and let go if it refuses, or is never made.

        Another object's finalizer may run at any moment of it, and close what the request needs.
        """
        self._open()
        queue._open()
        token = next(_tokens)
        for part in request.slices:
            part._hold()
        queue._requests[token] = request
        try:
            yield token
        except BaseException:
            # Not there any more if a finalizer has closed the queue: then its keeper has it.
            if queue._requests.pop(token, None) is not None:
                request.release()
            raise

    def resize(self, max_receives: int, max_sends: int) -> None:
        """Change the maxima, and what is reserved for them in the completion queues.

        OSError with ETOOMANYREFS if more requests are outstanding, with ENOBUFS if a completion
        queue has no room, with EINVAL if both are 0.
        """
        self._open()
        with self._turn:
            resized = self._rio.RIOResizeRequestQueue(self._open(), max_receives, max_sends)
            check_true(resized, "RIOResizeRequestQueue")

    def close(self) -> None:
        """Retire the socket: outstanding requests complete, further ones are refused.

        Dequeue their results, and close the socket afterwards. Queues that are only polled have no
        port that could retire it: there requests end when those queues are closed.
        """
        if self._queue is None:
            return
        with self._turn:
            self._end()

    def _end(self) -> None:
        queue, self._queue = self._queue, None
        port = self.receive_queue.port or self.send_queue.port
        if queue is not None and port is not None and not port.closed:
            port.retire(self._descriptor)

    def __enter__(self) -> RequestQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._queue is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self._turn.leave(self._end)  # the thread that this runs in may be any

    def __repr__(self) -> str:
        number = getattr(self, "_descriptor", None)
        return f"<RequestQueue of descriptor {number}{' closed' if self.closed else ''}>"
