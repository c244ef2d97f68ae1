"""A loop in each of several threads: ``run_threads``, as ``run`` is for one.

The calling thread runs the first main. If that is the main thread, its loop handles signals, as
with ``run``, and keeps running until the others have ended, so signals are handled until then. No
main starts before every thread has its loop, and no thread is left behind: an exception that ends
one main cancels all others, and every thread is joined before it is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import itertools
import operator
import os
import sys
import threading
from asyncio import events
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from zerio_asyncio.loop.later_arguments import ERROR_GROUP
from zerio_asyncio.loop.policy import new_event_loop, run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from zerio_asyncio.loop.options import LoopOptions

T = TypeVar("T")

JOIN_S = 0.2
"""Time between checks on a thread that has not ended: where waiting for a lock ignores Ctrl-C, it
is noticed this late. Usually all threads have ended before they are joined."""


def run_threads(
    main: Callable[[int], Coroutine[Any, Any, T]],
    threads: int | None = None,
    *,
    options: LoopOptions | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    debug: bool | None = None,
) -> list[T]:
    """Run ``main(number)`` in several threads, each with its own loop; return results in order.

    ``number`` counts from 0, which is the calling thread. ``threads`` is how many; None means one
    per CPU that this process may use. Each main gets a copy of the caller's context variables.
    ``options``, ``loop_factory`` and ``debug`` are those of ``run``, and apply to every loop.

    If a main raises, the others are cancelled, all threads are joined, and that exception is
    raised. If several raise, an ``ExceptionGroup`` of them is raised (on Python 3.10 the first one,
    with the others chained to it). ``KeyboardInterrupt`` and ``SystemExit`` do the same, and are
    raised alone.

    ``RuntimeError`` if a loop is running in this thread, or if no thread can be started;
    ``TypeError`` if ``main`` is not a coroutine function; ``ValueError`` if ``threads`` is less
    than one, or if both options and a factory are given. If a loop cannot be made, the exception is
    raised before any main starts.
    """
    if events._get_running_loop() is not None:
        raise RuntimeError("run_threads() cannot be called from a running event loop")
    if not _makes_coroutines(main):
        raise TypeError(f"main must be a coroutine function, not {main!r}")
    count = cpus() if threads is None else operator.index(threads)
    if count < 1:
        raise ValueError(f"threads must be at least 1, not {count}")
    if loop_factory is None:
        loop_factory = lambda: new_event_loop(options)  # noqa: E731
    elif options is not None:
        raise ValueError("options are for the loops that run_threads() makes, not a loop_factory's")
    return _Crew(main, count, loop_factory, debug).run()


def cpus() -> int:
    """Count the CPUs that this process may use, from its affinity if the system has one."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _makes_coroutines(main: Any) -> bool:
    return inspect.iscoroutinefunction(main) or (
        callable(main) and inspect.iscoroutinefunction(type(main).__call__)
    )


class _Crew(Generic[T]):
    """The threads of one call; the lock guards what several of them touch."""

    def __init__(
        self,
        main: Callable[[int], Coroutine[Any, Any, T]],
        count: int,
        loop_factory: Callable[[], asyncio.AbstractEventLoop],
        debug: bool | None,
    ) -> None:
        self._main, self._loop_factory, self._debug = main, loop_factory, debug
        self._results: list[Any] = [None] * count
        self._contexts = [contextvars.copy_context() for _ in range(count)]
        self._gate = threading.Barrier(count)
        self._lock = threading.Lock()
        self._running: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = {}
        self._stopping = False
        self._failures: list[BaseException] = []
        self._left = 0  # threads other than ours that have not ended
        self._awake: Callable[[], object] | None = None  # tells our loop that one has

    def run(self) -> list[T]:
        """Everything from the start of the first thread to the end of the last."""
        threads: list[threading.Thread] = []
        try:
            for number in range(1, len(self._results)):
                name = f"zerio-loop-{number}"
                thread = threading.Thread(target=self._in_thread, args=(number,), name=name)
                with self._lock:
                    self._left += 1
                try:
                    thread.start()
                except BaseException:  # the system has none left
                    with self._lock:
                        self._left -= 1
                    raise
                threads.append(thread)
            self._contexts[0].run(self._work, 0)
        except BaseException as failure:  # noqa: BLE001  # raised at the end
            self._gate.abort()
            self._failed(failure)
        for thread in threads:
            self._join(thread)
        if self._failures:
            try:
                raise _one_of(self._failures)
            finally:
                self._failures.clear()  # they refer to frames, and those to us
        return self._results

    def _join(self, thread: threading.Thread) -> None:
        while thread.is_alive():
            try:
                thread.join(JOIN_S)
            except KeyboardInterrupt as interrupt:  # noqa: PERF203  # once more, by an impatient user
                self._failed(interrupt, again=True)

    def _in_thread(self, number: int) -> None:
        try:
            self._contexts[number].run(self._work, number)
        finally:
            with self._lock:
                self._left -= 1
                awake = self._awake
            if awake is not None:
                with contextlib.suppress(RuntimeError):  # our loop ended first
                    awake()

    def _work(self, number: int) -> None:
        """One thread's part; raises only what comes between its own lines."""
        try:
            loop = self._loop_factory()
            try:
                self._gate.wait()
            except BaseException:
                loop.close()
                raise
        except threading.BrokenBarrierError:
            return  # another has no loop, and reports why
        except BaseException as failure:  # noqa: BLE001  # raised by run
            self._gate.abort()
            self._failed(failure)
            return
        try:
            part = self._part(number) if number else self._first()
            self._results[number] = run(part, loop_factory=lambda: loop, debug=self._debug)
        except BaseException as failure:  # noqa: BLE001  # raised by run
            self._failed(failure)

    async def _part(self, number: int) -> T:
        """One main, which others may cancel while it runs."""
        task = asyncio.current_task()
        assert task is not None
        try:
            with self._lock:
                if self._stopping:
                    raise asyncio.CancelledError  # noqa: TRY301  # as if it had come just after
                self._running[number] = asyncio.get_running_loop(), task
            return await self._main(number)
        except BaseException as failure:
            self._failed(failure, number)
            raise
        finally:
            with self._lock:
                self._running.pop(number, None)

    async def _first(self) -> T:
        """The caller's own main; its loop runs, and handles signals, until all have ended."""
        try:
            return await self._part(0)
        finally:
            if not isinstance(sys.exc_info()[1], GeneratorExit):
                await self._others()

    async def _others(self) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        with self._lock:
            self._awake = lambda: loop.call_soon_threadsafe(ended.set)
        cancelled: asyncio.CancelledError | None = None
        while self._left:
            ended.clear()
            if not self._left:
                break
            try:
                await ended.wait()
            except asyncio.CancelledError as cancel:  # Ctrl-C, or whoever has our task
                cancelled = cancel
                self._failed(cancel, again=True)
        if cancelled is not None:
            raise cancelled

    def _failed(
        self, failure: BaseException, number: int | None = None, *, again: bool = False
    ) -> None:
        """Record why a main ended, unless it was merely told to, and tell the others to end.

        Only once, or another's failure would cancel what a main does at its end; ``again``: for
        callers who are asked to hurry.
        """
        with self._lock:
            if number is not None:
                self._running.pop(number, None)
            told = self._stopping and isinstance(failure, asyncio.CancelledError)
            if not told and not any(failure is other for other in self._failures):
                self._failures.append(failure)
            running = list(self._running.values()) if again or not self._stopping else []
            self._stopping = True
        for loop, task in running:
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                loop.call_soon_threadsafe(task.cancel)


def _one_of(failures: list[BaseException]) -> BaseException:
    """What to raise for all of them, given in the order in which they came."""
    for failure in failures:
        if isinstance(failure, (KeyboardInterrupt, SystemExit)):
            return failure
    real = [failure for failure in failures if isinstance(failure, Exception)]
    if len(real) < 2:
        return real[0] if real else failures[0]
    if ERROR_GROUP is not None:
        group: BaseException = ERROR_GROUP("several threads failed", real)
        return group
    for failure, other in itertools.pairwise(real):
        _chain(failure, other)
    return real[0]


def _chain(failure: BaseException, other: BaseException) -> None:
    """Make the traceback of one show the other, too."""
    while failure.__context__ is not None:
        failure = failure.__context__
    if failure is not other:
        failure.__context__ = other
