"""Handlers that are awaited: how many run at once, and what becomes of them at the end."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine


def is_async(handler: object) -> bool:
    """Whether calling ``handler`` gives something to await."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if inspect.iscoroutinefunction(handler):
        return True
    return inspect.iscoroutinefunction(getattr(type(handler), "__call__", None))  # noqa: B004


def check_handler(name: str, handler: object) -> None:
    """``TypeError`` if ``handler`` cannot be called."""
    if handler is not None and not callable(handler):
        raise TypeError(f"{name} must be callable, not {handler!r}")


class Handlers:
    """Runs coroutines of handlers, at most ``most`` at once, each a task of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self._loop = loop
        self._turns = asyncio.Semaphore(most)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping: set[asyncio.Task[Any]] = set()

    async def turn(self) -> None:
        """Wait until one more may run; ``run`` must follow, or ``give_back``."""
        await self._turns.acquire()

    def give_back(self) -> None:
        """Not run one after all."""
        self._turns.release()

    def run(self, handler: Coroutine[Any, Any, None]) -> None:
        """Run one, whose turn it is."""
        self.spawn(handler).add_done_callback(lambda _: self._turns.release())

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work``, which takes its turn itself if it needs one; it raises nothing."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def in_turn(self, handler: Callable[[], Awaitable[Any]]) -> Any:
        """Wait for a turn, then for the handler."""
        async with self._turns:
            return await handler()

    def spare(self) -> bool:
        """Whether a handler calls this: it stops what it handles, and is not ended by that."""
        task = asyncio.current_task()
        if task is None or task not in self._tasks:
            return task in self._stopping
        self._tasks.discard(task)
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
        return True

    def cancel(self, task: asyncio.Task[None]) -> None:
        """Cancel a handler, unless it is spared."""
        if task in self._tasks:
            task.cancel()

    async def finish(self, patience: float) -> None:
        """Wait until all have ended, or ``patience`` seconds have passed; then cancel the rest."""
        end = self._loop.time() + patience
        try:
            while self._tasks and (left := end - self._loop.time()) > 0:
                # Who takes messages begins more of them meanwhile.
                await asyncio.wait(self._tasks.copy(), timeout=left)
        finally:
            for task in self._tasks:
                task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks.copy())
