"""The standard library's proactor on our port instead of a completion port of its own.

It starts overlapped operations (pipes, processes, ``sock_*``, files) and keeps each by the address
of its OVERLAPPED. Their packets come to our port, which hands on what is not its own.

What it takes of the standard library's private parts is listed in private_names.py.
"""

from __future__ import annotations

import sys
import time
import warnings
import weakref
from typing import Any

assert sys.platform == "win32"  # a type checker of another platform reads no further

import _overlapped  # type: ignore[import-not-found]
from asyncio import IocpProactor, ProactorEventLoop, windows_events
from asyncio.proactor_events import BaseProactorEventLoop

from zerio_asyncio.rio.errors import os_error
from zerio_asyncio.rio.ports import CompletionPort, Kind

WAIT_CANCELLED: Any = windows_events._WaitCancelFuture  # type: ignore[attr-defined]

NOT_A_SOCKET = 10038
"""WSAENOTSOCK: what the system says of a socket that is closed."""

FORGET = 1
"""Key of the packet that follows the last one that an operation can have."""

PATIENCE = 5.0
"""Seconds that closing waits for operations it has cancelled; the system ends them at once."""


class ChildTransport(windows_events._WindowsSubprocessTransport):  # type: ignore[name-defined,misc]
    """A child that may be collected after its loop was closed, without a word about it."""

    def close(self) -> None:
        """Close the pipes and kill the child, if it still runs."""
        # A transport that is over has no loop any more.
        if self._loop is not None and self._loop.is_closed():
            # Each would have the loop tell its protocol. They close by themselves.
            self._pipes: dict[int, Any] = {}
        super().close()


class ProactorLoop(BaseProactorEventLoop):
    """What ``asyncio.ProactorEventLoop`` is, under another name.

    Libraries (pyzmq, psycopg) look for that class to learn that a loop has no ``add_reader``, and
    refuse it; this one's loop has it.
    """

    create_pipe_connection = ProactorEventLoop.create_pipe_connection
    start_serving_pipe = ProactorEventLoop.start_serving_pipe

    _proactor: Any
    _self_reading_future: Any
    _loop_self_reading: Any

    def __init__(self, proactor: Any) -> None:
        self._pipe_transports: weakref.WeakSet[Any] = weakref.WeakSet()
        super().__init__(proactor)

    def close(self) -> None:
        """Close the loop, and the pipes that nobody has closed.

        They could not close without it, and whichever is collected first, a transport or its pipe,
        the standard library's transport has no words for a pipe that is closed.
        """
        super().close()
        for transport in list(self._pipe_transports):
            if transport._sock is not None:
                if not transport.is_closing():
                    warnings.warn(
                        f"unclosed transport {transport!r}",
                        ResourceWarning,
                        stacklevel=2,
                        source=transport,
                    )
                transport._sock.close()
                transport._sock = None
        self._pipe_transports.clear()

    def _make_read_pipe_transport(self, *args: Any, **kwargs: Any) -> Any:
        return self._remembered(
            super()._make_read_pipe_transport(*args, **kwargs)  # type: ignore[misc]
        )

    def _make_write_pipe_transport(self, *args: Any, **kwargs: Any) -> Any:
        return self._remembered(
            super()._make_write_pipe_transport(*args, **kwargs)  # type: ignore[misc]
        )

    def _make_duplex_pipe_transport(self, *args: Any, **kwargs: Any) -> Any:
        return self._remembered(
            super()._make_duplex_pipe_transport(*args, **kwargs)  # type: ignore[misc]
        )

    def _remembered(self, transport: Any) -> Any:
        self._pipe_transports.add(transport)
        return transport

    async def _make_subprocess_transport(  # as ProactorEventLoop's, with another class
        self, *args: Any, extra: Any = None, **kwargs: Any
    ) -> ChildTransport:
        waiter = self.create_future()
        transport = ChildTransport(self, *args, waiter=waiter, extra=extra, **kwargs)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport

    def run_forever(self) -> None:
        """Run until ``stop``, and read what signals write to the wake-up descriptor meanwhile."""
        assert self._self_reading_future is None
        self.call_soon(self._loop_self_reading)
        try:
            super().run_forever()
        finally:
            future: Any = self._self_reading_future
            self._self_reading_future = None
            if future is not None:
                overlapped = future._ov
                future.cancel()
                # Still pending: the packet of its end is to come, and needs its memory.
                if overlapped is not None and not overlapped.pending:
                    self._proactor._unregister(overlapped)


class PortProactor(IocpProactor):
    """Starts operations; their ends are told by ``packet``."""

    def __init__(self, port: CompletionPort) -> None:
        self._loop: Any = None
        self._port = port
        self._results: list[Any] = []
        self._iocp: int | None = port.native
        self._cache: dict[int, tuple[Any, Any, Any, Any]] = {}
        self._registered: weakref.WeakSet[Any] = weakref.WeakSet()
        self._unregistered: list[Any] = []
        self._stopped_serving: weakref.WeakSet[Any] = weakref.WeakSet()

    def _register_with_iocp(self, obj: Any) -> None:
        if obj not in self._registered:
            if obj.fileno() < 0:
                raise os_error(NOT_A_SOCKET)
            self._registered.add(obj)
            self._port.join(obj)

    def packet(self, status: int, count: int, key: int, address: int) -> None:  # noqa: ARG002
        """One operation has ended; whoever waits for it gets its value or its error."""
        if key == FORGET:
            self._cache.pop(address, None)
            self._unregistered = [each for each in self._unregistered if each.address != address]
            return
        future, overlapped, obj, finish = self._cache.pop(address, (None, None, None, None))
        if future is not None:
            if obj in self._stopped_serving:
                future.cancel()
            elif not future.done():
                try:
                    value = finish(count, key, overlapped)
                except OSError as error:
                    future.set_exception(error)
                    future = None  # or the error holds this frame, and the frame the error
                else:
                    future.set_result(value)

    def _unregister(self, ov: Any) -> None:
        """Forget a cancelled operation, once all packets that are on their way have come.

        The address would be another operation's before that, if its memory were let go.
        """
        self._check_closed()  # type: ignore[attr-defined]
        self._unregistered.append(ov)
        _overlapped.PostQueuedCompletionStatus(self._iocp, 0, FORGET, ov.address)

    def select(self, timeout: float | None = None) -> list[Any]:
        """Wait for the loop's port, at most so many seconds; what ends is told by callbacks.

        The loop itself waits without this, unless a program has put something in its place.
        """
        if self._loop is None:
            self._poll(timeout)
        else:
            self._loop._port_ready(self._loop._select(timeout))
        return []

    select_on_port = select  # by which the engine knows that nobody did

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "select" and self._loop is not None:
            self._loop._look_again()

    def _poll(self, timeout: float | None = None) -> None:
        """Wait by ourselves: only when the loop does not run any more."""
        for event in self._port.wait(timeout):
            if event.kind is Kind.PACKET:
                self.packet(event.status, event.value, event.key, event.overlapped)

    def close(self) -> None:
        """Cancel every operation and wait for their packets; the port is the loop's to close."""
        if self._iocp is None:
            return
        for future, overlapped, _, _ in list(self._cache.values()):
            # Its cancellation is under way, or it is the end of one and cannot be cancelled.
            if future.cancelled() or isinstance(future, WAIT_CANCELLED):
                continue
            if overlapped is None or not hasattr(future, "_ov"):
                future.cancel()
                continue
            try:
                future.cancel()
            except OSError as error:
                if self._loop is not None:
                    self._loop.call_exception_handler(
                        {
                            "message": "Cancelling a future failed",
                            "exception": error,
                            "future": future,
                        }
                    )
        deadline = time.monotonic() + PATIENCE
        while self._cache and time.monotonic() < deadline:
            self._poll(0.1)
        self._results = []
        self._iocp = None

    def __del__(self) -> None:
        """Nothing: the loop closes what is here."""
