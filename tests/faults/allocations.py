"""Runs a scenario again and again, each time with another allocation that fails.

``python -m tests.faults.allocations MODULE uring plain 100``: so many runs, spread evenly over the
allocations that the scenario makes. Every run is a child of its own, forked from a process in which
the scenario has run well. A run is right if it ends in time, alive, and its loop can be used and
closed afterwards. If the scenario did not go through, somebody must have been told: an exception
came out, the exception handler was called, or the interpreter told of one that nobody could have.

Prints a line for each wrong run, then counts; the last line is the number of wrong runs.
"""

from __future__ import annotations

import asyncio
import collections
import faulthandler
import gc
import logging
import os
import signal
import sys
import traceback
import warnings
from typing import Any

from tests.loop.support import make_loop

from .failing import load
from .scenarios import SCENARIOS

PATIENCE = 0.1
"""Seconds until a scenario of which somebody was told need not come to its end."""

SILENCE = 5.0
"""Seconds in which it must have come to its end if nobody was told of anything."""

LIMIT = 20
"""Seconds until a run hangs."""


ALLOWED = (MemoryError, OSError, asyncio.TimeoutError, SystemError)
LOCK = "can't allocate lock"
"""What may come out of a scenario; CPython itself forgets an exception here and there, and says so
by SystemError, with its own loop, too. A lock that is refused is a RuntimeError."""


class Run:
    """One run in this process."""

    def __init__(self, failing: Any, kind: str, scenario: str, number: int) -> None:
        self.failing = failing
        self.kind = kind
        self.over = False
        self.number = number
        self.told: list[str] = []
        self.loop = make_loop(kind)
        self.loop.set_exception_handler(self._handle)
        sys.unraisablehook = self._unraisable
        self.scenario = SCENARIOS[scenario]()

    def _handle(self, _: Any, context: dict[str, Any]) -> None:
        self.told.append("handler")

    def _unraisable(self, _: Any) -> None:
        self.told.append("unraisable")

    def run(self) -> tuple[int, str]:
        """How many allocations there were, and what came of it."""
        loop = self.loop
        task = loop.create_task(self.scenario())
        task.add_done_callback(self._stop)
        limit = loop.call_later(PATIENCE, loop.stop)
        self.failing.failing_begin(self.number)
        try:
            loop.run_forever()
        except MemoryError:
            self.told.append("run_forever")
        finally:
            count = self.failing.failing_end()
        # CPython's own run_forever does not bear every failure at its beginning and end.
        asyncio._set_running_loop(None)
        loop._thread_id = None
        limit.cancel()
        if not task.done():
            patient = not self.told and self.kind != "std"
            limit = loop.call_later(SILENCE if patient else PATIENCE, loop.stop)
            loop.run_forever()
            limit.cancel()
        self.over = True
        outcome = self._outcome(task)
        self._end()
        return count, outcome

    def _stop(self, _: Any) -> None:
        if not self.over:
            self.loop.stop()

    def _outcome(self, task: asyncio.Task[None]) -> str:
        if not task.done():
            # The standard loop tells nobody of a connection that its server could not make.
            told = self.told or self.kind == "std"
            return "stalled, told" if told else "WRONG: stalled, and nobody was told"
        error = None if task.cancelled() else task.exception()
        if error is None:
            return "went through"
        cause = error.__cause__ or error.__context__
        if isinstance(error, ALLOWED) or isinstance(cause, MemoryError) or self.told:
            return "ended with an error"
        if str(error) == LOCK:
            return "ended with an error"
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return f"WRONG: an error of another kind: {text}"

    def _end(self) -> None:
        """The loop is whole: it runs, and closes."""
        loop = self.loop
        tasks = asyncio.all_tasks(loop)
        for left in tasks:
            left.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=PATIENCE))
        ran: list[int] = []
        loop.call_soon(ran.append, 1)
        loop.call_later(0, ran.append, 2)
        loop.run_until_complete(asyncio.sleep(0.001))
        assert ran == [1, 2], ran
        loop.close()
        gc.collect()


def child(failing: Any, kind: str, scenario: str, number: int) -> tuple[str, int]:
    """Fork, run there; what came of it, and how many allocations there were."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.dup2(writer, 2)
        faulthandler.enable()
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        try:
            count, outcome = Run(failing, kind, scenario, number).run()
            os.write(writer, f"{count} {outcome}".encode())
        except BaseException:
            failing.failing_end()
            os.write(writer, f"0 WRONG: {traceback.format_exc()}".encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return f"WRONG: {signal.Signals(os.WTERMSIG(status)).name}\n{said}", 0
    if status:
        return f"WRONG: ended with {os.WEXITSTATUS(status)}\n{said}", 0
    count, _, outcome = said.partition(" ")
    return outcome, int(count)


def main(path: str, kind: str, scenario: str, runs: int) -> int:
    """All runs; how many were wrong."""
    failing = load(path)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    failing.failing_install()
    for _ in range(2):  # imports, caches, free lists
        Run(failing, kind, scenario, -1).run()
    gc.collect()
    gc.freeze()
    outcome, total = child(failing, kind, scenario, -1)
    assert outcome == "went through", outcome
    counts: collections.Counter[str] = collections.Counter()
    wrong = 0
    for number in range(0, total, max(1, total // runs)):
        outcome, _ = child(failing, kind, scenario, number)
        counts[outcome.partition("\n")[0]] += 1
        if outcome.startswith("WRONG"):
            wrong += 1
            print(f"allocation {number} of {total}: {outcome}", flush=True)
    print(dict(counts))
    print(wrong)
    return wrong


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
