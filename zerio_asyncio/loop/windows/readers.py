"""Callbacks for readiness of sockets, on a loop whose base class knows none.

A socket that was closed meanwhile is found by identity; what it had gives way to whoever has its
number now (see descriptors.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any

from zerio_asyncio.loop.descriptors import descriptor_of, has_lost

if TYPE_CHECKING:
    from collections.abc import Callable

BITS = (1, 2)
"""Reading and writing, as the port's masks have them; also the places in a pair of handles."""


class Readers:
    """One callback a socket and direction, called as long as the socket is ready."""

    def __init__(self, loop: Any) -> None:
        self._loop_of = weakref.ref(loop)  # whose part this is: a closed loop is free at once
        self._handles: dict[int, list[asyncio.Handle | None]] = {}
        self._owners: dict[int, Any] = {}

    @property
    def _loop(self) -> Any:
        return self._loop_of()

    def add(self, fd: Any, side: int, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Watch ``fd``; a callback that was there is replaced. ``OSError`` if it is no socket."""
        self._loop._check_closed()
        number = descriptor_of(fd)
        handle = asyncio.Handle(callback, args, self._loop, None)
        known = self._find(fd) is not None
        pair = self._handles[number] if known else [None, None]
        wanted = [*pair]
        wanted[side] = handle
        if self._loop._thread_id not in (None, threading.get_ident()):
            _check_socket(number)  # the port may be asked only after this call
        self._loop._watch(number, _mask(wanted))
        if pair[side] is not None:
            pair[side].cancel()  # type: ignore[union-attr]
        self._handles[number] = wanted
        if not known:
            self._owners[number] = fd

    def remove(self, fd: Any, side: int) -> bool:
        """Stop; whether there was a callback."""
        if self._loop.is_closed():
            return False
        number = self._find(fd)
        if number is None or self._handles[number][side] is None:
            return False
        pair = self._handles[number]
        pair[side].cancel()  # type: ignore[union-attr]
        pair[side] = None
        if not any(pair):
            self._forget(number, self._loop)
        else:
            # Nothing of a closed one: the number may be another socket's by now.
            self._loop._watch(number, 0 if has_lost(fd, number) else _mask(pair))
        return True

    def _find(self, fd: Any) -> int | None:
        """Its number, if it has callbacks; as `PortSelector` finds its keys."""
        try:
            number = descriptor_of(fd)
        except ValueError:
            for number, owner in self._owners.items():
                if owner is fd:
                    return number
            raise
        if number not in self._handles:
            return None
        owner = self._owners[number]
        return number if owner is fd or not has_lost(owner, number) else None

    def _forget(self, number: int, loop: Any) -> None:
        del self._handles[number]
        del self._owners[number]
        with contextlib.suppress(OSError):  # closed meanwhile: the system has forgotten it
            loop._watch(number, 0)

    def ready(self, events: list[tuple[int, int]]) -> None:
        """(descriptor, mask) pairs of the port: their callbacks run in this tick."""
        for number, mask in events:
            for handle, bit in zip(self._handles.get(number, ()), BITS, strict=False):
                if handle is not None and mask & bit:
                    self._loop._add_callback(handle)

    def close(self, loop: Any) -> None:
        """Forget all of them; ``loop`` is ours, which may be in its finalizer."""
        for number in list(self._handles):
            self._forget(number, loop)


def _mask(pair: list[asyncio.Handle | None]) -> int:
    return sum(bit for handle, bit in zip(pair, BITS, strict=True) if handle is not None)


def _check_socket(number: int) -> None:
    """``OSError`` if this is no socket. With a family, Python asks the system for nothing else."""
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, number).detach()
