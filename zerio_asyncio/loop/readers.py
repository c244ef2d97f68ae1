"""Callbacks for readiness of sockets, on a loop whose base class knows none."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any

from zerio_asyncio.loop.selector import descriptor_of

if TYPE_CHECKING:
    from collections.abc import Callable

BITS = (1, 2)
"""Reading and writing, as the port's masks have them; also the places in a pair of handles."""


class Readers:
    """One callback a socket and direction, called as long as the socket is ready."""

    def __init__(self, loop: Any) -> None:
        self._loop_of = weakref.ref(loop)  # whose part this is: a closed loop is free at once
        self._handles: dict[int, list[asyncio.Handle | None]] = {}

    @property
    def _loop(self) -> Any:
        return self._loop_of()

    def add(self, fd: Any, side: int, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Watch ``fd``; a callback that was there is replaced. ``OSError`` if it is no socket."""
        self._loop._check_closed()
        number = descriptor_of(fd)
        handle = asyncio.Handle(callback, args, self._loop, None)
        pair = self._handles.get(number, [None, None])
        wanted = [*pair]
        wanted[side] = handle
        self._loop._watch(number, _mask(wanted))
        if pair[side] is not None:
            pair[side].cancel()  # type: ignore[union-attr]
        self._handles[number] = wanted

    def remove(self, fd: Any, side: int) -> bool:
        """Stop; whether there was a callback."""
        if self._loop.is_closed():
            return False
        number = descriptor_of(fd)
        pair = self._handles.get(number)
        if pair is None or pair[side] is None:
            return False
        pair[side].cancel()  # type: ignore[union-attr]
        pair[side] = None
        if not any(pair):
            del self._handles[number]
        self._loop._watch(number, _mask(pair))
        return True

    def ready(self, events: list[tuple[int, int]]) -> None:
        """(descriptor, mask) pairs of the port: their callbacks run in this tick."""
        for number, mask in events:
            for handle, bit in zip(self._handles.get(number, ()), BITS, strict=False):
                if handle is not None and mask & bit:
                    self._loop._add_callback(handle)

    def close(self) -> None:
        """Forget all of them."""
        for number in list(self._handles):
            self._loop._watch(number, 0)
        self._handles.clear()


def _mask(pair: list[asyncio.Handle | None]) -> int:
    return sum(bit for handle, bit in zip(pair, BITS, strict=True) if handle is not None)
