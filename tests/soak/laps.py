"""The soak itself: laps of all loads at once, and between them a look at what is still held.

A lap ends by itself: loads stop when its time is over, everything they opened is closed. Then
descriptors, slices, tasks, threads and children must be what they were before the first lap, and
memory must not grow from lap to lap once the first ones have filled the caches.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import faulthandler
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from . import system
from .ground import PATIENCE, Ground, Tls
from .state import State, open_descriptors, read

Load = Callable[[Ground], Awaitable[None]]

WARM_LAPS = 2
"""Laps before memory is compared: executors' threads, free lists and imports come with them."""

BLOCKS_A_LAP = 300
"""Python's memory blocks that a lap may add on average: what the interpreter caches in its own
time. A leaked connection is some twenty, a lap has hundreds of connections."""

RESIDENT_A_LAP = 256 * 1024
"""Bytes, likewise."""

SETTLE = 5.0
"""Seconds for the last things to end: an executor's thread, a child's exit, a peer's close."""


@dataclasses.dataclass
class Report:
    """What happened: a state after each lap, counts, and what went wrong (empty if nothing)."""

    provider: str
    seconds: float = 0.0
    before: State | None = None
    laps: list[State] = dataclasses.field(default_factory=list)
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    faults: list[str] = dataclasses.field(default_factory=list)


class Soak:
    """Runs laps on one loop: for so many seconds, and at least so many laps.

    ``seed`` makes the loads' choices, ``lap_s`` is a lap's length. ``beside`` makes the loops of as
    many threads more: each runs a lap of its own beside each lap, of the loads that can.
    """

    def __init__(
        self,
        loop: Any,
        loads: Sequence[Load],
        seconds: float,
        lap_s: float,
        seed: int,
        least_laps: int = 1,
        beside: Sequence[Callable[[], Any]] = (),
    ) -> None:
        self._loop = loop
        self._loads = loads
        self._seconds = seconds
        self._lap_s = lap_s
        self._seed = seed
        self._least_laps = least_laps
        self._beside = beside
        self.report = Report(getattr(loop, "provider", "asyncio"))

    def run(self, tell: Callable[[str], None] = lambda _: None) -> Report:
        """All laps; the loop is closed at the end."""
        began = time.monotonic()
        self._loop.set_exception_handler(self._unhandled)
        faulthandler.dump_traceback_later(self._seconds + 4 * PATIENCE, exit=True)
        try:
            with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
                warnings.simplefilter("always", ResourceWarning)
                warnings.showwarning = self._warned  # type: ignore[assignment]
                self._laps(Path(folder), tell)
                self._loop.run_until_complete(self._loop.shutdown_default_executor())
                self._loop.close()
        finally:
            faulthandler.cancel_dump_traceback_later()
        self.report.seconds = time.monotonic() - began
        self._compare()
        return self.report

    def _laps(self, folder: Path, tell: Callable[[str], None]) -> None:
        tls = Tls(folder)
        self.report.before = self._settled(None)
        end = time.monotonic() + self._seconds
        while not self.report.laps or not self.report.faults:
            lap = len(self.report.laps)
            if lap >= self._least_laps and time.monotonic() >= end:
                break
            self._lap_of_all(self._seed + lap, folder, tls)
            self.report.laps.append(self._settled(self.report.before))
            tell(f"lap {lap + 1}: {self.report.laps[-1]}")

    def _lap_of_all(self, seed: int, folder: Path, tls: Tls) -> None:
        grounds, threads = [Ground(seed, self._lap_s, folder, tls)], []
        for number, make in enumerate(self._beside, 1):
            own = folder / str(number)
            own.mkdir(exist_ok=True)
            grounds.append(Ground(seed + 1000 * number, self._lap_s, own, tls))
            threads.append(threading.Thread(target=self._lap_beside, args=(make, grounds[-1])))
        for thread in threads:
            thread.start()
        self._loop.run_until_complete(self._lap(grounds[0], self._loads))
        for thread in threads:
            thread.join()
        for ground in grounds:
            self.report.counts += ground.counts

    def _lap_beside(self, make: Callable[[], Any], ground: Ground) -> None:
        """In a thread of its own."""
        try:
            loop = make()
            loop.set_exception_handler(self._unhandled)
            loads = [load for load in self._loads if load not in system.OF_THE_MAIN_THREAD]
            try:
                loop.run_until_complete(self._lap(ground, loads))
                loop.run_until_complete(loop.shutdown_default_executor())
            finally:
                loop.close()
        except Exception:
            self._fault(f"beside: {traceback.format_exc()}")

    async def _lap(self, ground: Ground, loads: Sequence[Load]) -> None:
        async def guarded(load: Load) -> None:
            try:
                await load(ground)
            except Exception:
                ground.end = 0
                self._fault(f"{load.__name__}: {traceback.format_exc()}")

        tasks = [asyncio.ensure_future(guarded(load)) for load in loads]
        _, late = await asyncio.wait(tasks, timeout=self._lap_s + 2 * PATIENCE)
        for task in late:
            self._fault(f"still running: {task!r}")
            task.cancel()

    def _settled(self, wanted: State | None) -> State:
        """The state when it is what is wanted, or after a while what it is."""
        deadline = time.monotonic() + SETTLE
        while True:
            self._loop.run_until_complete(asyncio.sleep(0.05))
            state = read(self._loop)
            if wanted is None or state.exact() == wanted.exact() or time.monotonic() > deadline:
                return state

    def _unhandled(self, _: Any, context: dict[str, Any]) -> None:
        text = str(context.get("message"))
        if (error := context.get("exception")) is not None:
            text += "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self._fault(f"exception handler: {text}")

    def _warned(self, message: Any, category: Any, *_: object, **__: object) -> None:
        self._fault(f"{category.__name__}: {message}")

    def _fault(self, text: str) -> None:
        self.report.faults.append(text)

    def _compare(self) -> None:
        """Turn what is held at the end, and was not before, into faults."""
        report = self.report
        assert report.before is not None
        before = report.before.exact()
        for number, state in enumerate(report.laps, 1):
            for name, count in state.exact().items():
                if count > before[name]:
                    self._fault(f"lap {number} left {count - before[name]} {name}")
                    if name == "descriptors":
                        self._fault(f"descriptors after closing: {open_descriptors()}")
        instances = max(state.instances for state in report.laps)
        if instances > report.before.instances + 1:
            self._fault(f"{instances} epoll instances, {report.before.instances} before")
        warm = report.laps[WARM_LAPS:]
        half = len(warm) // 2
        if not half:
            return
        limits = {"blocks": BLOCKS_A_LAP}
        if not self._beside:  # the memory of threads that have ended is used again at some time
            limits["resident"] = RESIDENT_A_LAP
        for name, most in limits.items():
            # The least of each half: caches that happen to be full only add.
            first, last = (
                min(getattr(s, name) for s in part) for part in (warm[:half], warm[half:])
            )
            if last - first > most * max(half, 4):
                self._fault(f"{name} grew by {last - first} in {half} laps")
