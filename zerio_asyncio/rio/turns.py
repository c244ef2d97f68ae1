"""One thread at a time: rule 10 of rio.h, kept where Python's threads could break it.

cffi lets the GIL go in each call of the table, so while one thread sleeps in a port's ``wait``
another may close that very port, or a finalizer that the collector runs there may close one of its
queues. The providers take no locks. So each port has a `Turn`, which every call takes that touches
the port or what hangs on it:

- a call that finds another thread inside is refused. To wait for it could be to wait for ever;
- a finalizer cannot be refused: what it has to do is left to the thread that is inside, which does
  it when it comes out;
- the same thread may enter again (a signal's handler, a finalizer): between two calls of the table
  nothing is half done, and a handle that was closed meanwhile is refused (rule 13).

Queues that are only polled have no port until a request queue joins them. None of their calls
sleeps, so all of these share one turn and wait for it.

What stands for something of the system's is made once and never copied: `Unique`.
"""

from __future__ import annotations

import collections
import os
import threading
import weakref
from typing import TYPE_CHECKING, NoReturn, final

if TYPE_CHECKING:
    from collections.abc import Callable

_turns: weakref.WeakSet[Turn] = weakref.WeakSet()


@final
class Turn:
    """Whose turn it is to call the provider. A context manager around each call.

    ``waits``: whether a call waits for another thread's call; otherwise RuntimeError refuses it.
    """

    __slots__ = ("__weakref__", "_left", "_lock", "_waits")

    def __init__(self, *, waits: bool = False) -> None:
        self._lock = threading.RLock()
        self._left: collections.deque[Callable[[], None]] = collections.deque()
        self._waits = waits
        _turns.add(self)

    def __enter__(self) -> Turn:
        if not self._lock.acquire(blocking=self._waits):
            raise RuntimeError(
                "another thread is in a call of this port, or of a queue that belongs to it; "
                "only post() may be called meanwhile"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if self._left:
            self._finish()

    def leave(self, action: Callable[[], None]) -> None:
        """Have ``action`` done now, or by the thread that is inside when it comes out."""
        self._left.append(action)
        self._finish()

    def _finish(self) -> None:
        # Whoever is inside looks again after it has let go, so nothing is left for ever.
        while self._left and self._lock.acquire(blocking=False):
            try:
                while self._left:
                    self._left.popleft()()
            finally:
                self._lock.release()

    def _forked(self) -> None:
        """Give the child a lock of its own if a thread is inside that the child has not."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()


def _forked() -> None:
    for turn in list(_turns):
        turn._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

POLLED = Turn(waits=True)
"""Of all queues that have no port."""


class Unique:
    """One object for one thing of the system's: ``__init__`` runs once, copies are refused."""

    __slots__ = ()

    def _begin(self, first: str) -> None:
        """Refuse a second ``__init__``; ``first`` is an attribute that the first one sets."""
        if hasattr(self, first):
            raise TypeError(f"this {type(self).__name__} has already been made")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """TypeError: what copy and pickle ask for."""
        raise TypeError(f"a {type(self).__name__} can be neither copied nor pickled")
