"""The standard library's proactor on our port instead of a completion port of its own.

It starts overlapped operations (pipes, processes, ``sock_*``, files) and keeps each by the address
of its OVERLAPPED. Their packets come to our port, which hands on what is not its own.

Private parts of ``IocpProactor`` that this rests on, checked against CPython 3.13: _iocp, _cache,
_results, _registered, _unregistered, _stopped_serving, _register_with_iocp, _unregister, _poll,
_WaitCancelFuture.
"""

from __future__ import annotations

import sys
import time
import weakref
from typing import Any

assert sys.platform == "win32"  # a type checker of another platform reads no further

import _overlapped  # type: ignore[import-not-found]
from asyncio import IocpProactor, windows_events

from zerio_asyncio.rio.ports import CompletionPort, Kind

WAIT_CANCELLED: Any = windows_events._WaitCancelFuture  # type: ignore[attr-defined]

FORGET = 1
"""Key of the packet that follows the last one that an operation can have."""

PATIENCE = 5.0
"""Seconds that closing waits for operations it has cancelled; the system ends them at once."""


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
                else:
                    future.set_result(value)

    def _unregister(self, ov: Any) -> None:
        """Forget a cancelled operation, once all packets that are on their way have come.

        The address would be another operation's before that, if its memory were let go.
        """
        self._check_closed()  # type: ignore[attr-defined]
        self._unregistered.append(ov)
        _overlapped.PostQueuedCompletionStatus(self._iocp, 0, FORGET, ov.address)

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
