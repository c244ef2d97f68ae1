"""What ``loop._ready`` and ``loop._scheduled`` show: the engine's queues under asyncio's names.

On the standard loop one is a deque of handles, the other a list of timers that heapq maintains.
Many programs read them (what is left to run?), and some change them: nest_asyncio makes whole turns
of the loop with ``popleft``, ``append`` and ``heapq.heappop``. Our queues are in memory that no
Python object shares, so these are views: they have the same types and are live, and what is done to
them is done to the queues.

``heapq`` accepts only lists, and bypasses all methods to reach what a list holds. So a `TimerList`
holds the timers, put there whenever somebody looks; if there are many, only the earliest. What is
missing the next time is removed from the timers, what is new is added. The engine checks in each
turn, too, as long as somebody has the list.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

READING = (
    "__contains__",
    "__eq__",
    "__ge__",
    "__getitem__",
    "__gt__",
    "__iter__",
    "__le__",
    "__lt__",
    "__mul__",
    "__ne__",
    "__reversed__",
    "__rmul__",
    "__add__",
    "copy",
    "count",
    "index",
)
"""Methods of both types that change nothing: applied to a copy."""

EDITING = (
    "__delitem__",
    "__iadd__",
    "__imul__",
    "__setitem__",
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "remove",
    "reverse",
)
"""Methods of both types that change something: applied to a copy, then to the queue."""

HELD_MAX = 64
"""Up to this many timers, a list holds them all: sorting and copying takes microseconds."""

Method = Callable[..., Any]


def reading(name: str) -> Method:
    """Make the method ``name`` of a view."""

    def method(self: Any, *args: Any) -> Any:
        return getattr(self.snapshot(), name)(*(_plain(each) for each in args))

    method.__name__ = name
    return method


def editing(name: str) -> Method:
    """Make the method ``name`` of a view, which also changes what it shows."""

    def method(self: Any, *args: Any, **options: Any) -> Any:
        before = self.snapshot()
        after = before.copy()
        answer = getattr(after, name)(*args, **options)
        self.change(before, after)
        return self if answer is after else answer

    method.__name__ = name
    return method


def _plain(value: Any) -> Any:
    return value.snapshot() if isinstance(value, (ReadyQueue, TimerList)) else value


class ReadyQueue(deque):  # type: ignore[type-arg]  # of any handle
    """The handles that are ready to run, the next one first."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Any) -> None:
        super().__init__()
        self._engine = engine

    def snapshot(self) -> deque[Any]:
        """Return a plain deque of the same handles."""
        return deque(self._engine._ready_list())

    def change(self, before: deque[Any], after: deque[Any]) -> None:
        """Replace ``before`` with ``after``; what other threads have added stays."""
        self._engine._ready_replace(len(before), list(after))

    def __len__(self) -> int:
        total: int = self._engine._ready_total()
        return total

    def __bool__(self) -> bool:  # a deque has its own before 3.11
        return len(self) > 0

    def append(self, handle: Any) -> None:
        """Run a handle in the next turn; a timer's handle leaves the timers."""
        self._engine._ready_add(handle)

    def popleft(self) -> Any:
        """Remove and return the next one; ``IndexError`` if there is none."""
        return self._engine._ready_first()

    def __repr__(self) -> str:
        return repr(self.snapshot())

    def __reduce__(self) -> Any:
        return (deque, (list(self.snapshot()),))


class TimerList(list):  # type: ignore[type-arg]  # of timer handles
    """The timers, the earliest first."""

    __slots__ = ("__weakref__", "_engine", "_shown")

    def __init__(self, engine: Any) -> None:
        super().__init__()
        self._engine = engine
        self._shown: list[Any] = []
        self.settle()

    def __del__(self) -> None:
        self.settle()

    def settle(self) -> None:
        """Apply to the timers what heapq has done to this list, and show them anew."""
        held = list(list.__iter__(self))
        shown, self._shown = self._shown, []
        list.__init__(self)
        self._carry_over(shown, held)
        first = self._engine._timers_first()
        if first is not None:
            few = self._engine._timers_total() <= HELD_MAX
            self._shown = self._engine._timers_list() if few else [first]
            list.__init__(self, self._shown)

    def _carry_over(self, before: list[Any], after: list[Any]) -> None:
        """Remove what is missing in ``after``, and add what is new in it."""
        if len(before) == len(after) and all(map(operator.is_, before, after)):
            return
        kept = {id(handle) for handle in after}
        known = {id(handle) for handle in before}
        for handle in before:
            if id(handle) not in kept:
                self._engine._timers_remove(handle)
        for handle in after:
            if id(handle) not in known:
                self._engine._timers_add(handle)

    def snapshot(self) -> list[Any]:
        """Return a plain list of the same handles."""
        self.settle()
        handles: list[Any] = self._engine._timers_list()
        return handles

    def change(self, before: list[Any], after: list[Any]) -> None:
        """Turn it from ``before`` into ``after``."""
        self._carry_over(before, after)
        self.settle()

    def __len__(self) -> int:
        self.settle()
        total: int = self._engine._timers_total()
        return total

    def __getitem__(self, place: Any) -> Any:
        if place == 0:  # asked for in every turn
            self.settle()
            if self._shown:
                return self._shown[0]
        return self.snapshot()[place]

    def sort(self, **options: Any) -> None:
        """Do nothing: they are in order."""

    def __repr__(self) -> str:
        return repr(self.snapshot())

    def __reduce__(self) -> Any:
        return (list, (self.snapshot(),))


def _complete(view: Any, extra_reading: Iterable[str], extra_editing: Iterable[str]) -> None:
    for names, make in (
        ([*READING, *extra_reading], reading),
        ([*EDITING, *extra_editing], editing),
    ):
        for name in names:
            if name not in vars(view):
                setattr(view, name, make(name))


_complete(ReadyQueue, ["__copy__"], ["appendleft", "extendleft", "rotate"])
_complete(TimerList, [], [])
