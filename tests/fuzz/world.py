"""A program: one seed, one loop, actors that act at random, and everything that must hold.

Who acts is drawn again and again: the program's own coroutine, a protocol's callback, a timer, a
finalizer, the collector's callback. An action is one public call. Actions may nest, a few deep.

``quiet`` is more than zero while the program keeps its own books: the collector may come there too,
but what it runs then must not act, or the books would be wrong and not the loop. `World.call` makes
the calls that are tested; `callback` is for what the loop calls, `quietly` for the books.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from tests.loop.support import make_loop

from .records import Flow, Reader, quietly

KIB = 1024

FEATURES = (
    "abort", "abrupt", "close", "copies", "cycles", "eof", "exits", "exporters", "growth", "info",
    "keep", "large", "limits", "pause", "protocols", "raise", "release", "sendfile", "stop",
    "writelines",
)  # fmt: skip
"""Classes of actions; each seed switches some off (swarm testing: what is rare alone is common
where the rest is missing)."""

STEPS = (30, 120)
NESTED_MAX = 3
KEPT_MAX = 24
SETTLE = 5.0
"""Seconds in which what was sent must have come, and what was closed must be closed."""

REFUSED = (OSError, RuntimeError)
"""What a call may raise: the connection is gone, the transport does not do that now."""


class Planned(Exception):
    """What callbacks raise on purpose."""


class PlannedExit(SystemExit):
    """What leaves the loop on purpose."""


callback = quietly
"""For a method that the loop calls."""


class Ghost:
    """Lies in a cycle with itself and with what it took along; acts when it is collected."""

    def __init__(self, world: World, things: Any) -> None:
        self.world = world
        self.things = things
        self.me = self

    def __del__(self) -> None:
        if not self.world.quiet:
            self.world.act()


class Choice(NamedTuple):
    """What seeds are run with.

    ``kinds`` are functions that open actors; ``without`` are features that stay off; ``hostile``:
    the collector comes at almost every allocation and acts; ``canary``: a peer flips a bit.
    """

    provider: str
    kinds: list[Callable[[Any], Coroutine[Any, Any, list[Any]]]]
    without: tuple[str, ...] = ()
    hostile: bool = False
    canary: bool = False


class World:
    """One seed's program; `run` runs it, ``faults`` tells what was wrong."""

    def __init__(self, seed: int, choice: Choice) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.provider = choice.provider
        self.canary = choice.canary
        self.hostile = choice.hostile
        # A hostile action may come when a call has just begun: with its arguments, with its frame,
        # which 3.10 allocates where the collector can come, or from 3.12 on before its first
        # instruction.
        self.late = choice.hostile
        self.faults: list[str] = []
        self.trail: list[str] = []
        self.flows: dict[int, Flow] = {}
        self.actors: list[Any] = []
        self.actions: list[tuple[str, Callable[[], None]]] = []
        self.kept: list[tuple[Any, bytes, Any]] = []
        self.exporters: list[tuple[Any, bytes]] = []
        self.handles: list[Any] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self.quiet = 1
        self.depth = 0
        self.main = False  # the program's own coroutine acts, not what it calls
        self.over = False
        self.abrupt = False
        self.loop: Any = None
        likely = self.random.choice((0.3, 0.5, 0.8))
        self.features = {name for name in FEATURES if self.random.random() < likely}
        self.features -= set(choice.without)
        self.budget = self.random.randint(60, 300)
        self.chance = self.random.choice((0.1, 0.3, 0.6))
        self.collector_chance = self.random.choice((0.3, 0.05, 0.01))
        count = min(len(choice.kinds), self.random.choice((1, 1, 2, 3)))
        self.kinds = self.random.sample(choice.kinds, count)

    # ------------------------------------------------------------------- what actors use

    @property
    def world(self) -> World:
        return self

    def tell(self, text: str) -> None:
        """Something is wrong."""
        if len(self.faults) < 20:
            self.faults.append(text)

    def has(self, feature: str) -> bool:
        return feature in self.features

    @quietly
    def new_flow(self, ordered: bool = True) -> Flow:
        flow = Flow(len(self.flows) + 1, self)
        flow.ordered = ordered
        self.flows[flow.number] = flow
        return flow

    def new_reader(self) -> Reader:
        return Reader(self)

    def size(self) -> int:
        """Of a body: small mostly, around the sizes at which the loop decides otherwise, large."""
        kind = self.random.random()
        if kind < 0.6:
            return self.random.randint(0, 300)
        if kind < 0.9 or not self.has("large"):
            edge = self.random.choice((1, 4, 16)) * KIB
            return edge - 12 + self.random.randint(-20, 20)
        return self.random.randint(20_000, 150_000)

    @quietly
    def offer(self, *actions: tuple[str, Callable[[], None]]) -> None:
        """Actions to draw from, each with its feature ("" is always on)."""
        for feature, action in actions:
            if not feature or feature in self.features:
                self.actions.append((feature, action))

    def call(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        allow: Any = REFUSED,
        otherwise: Any = None,
    ) -> Any:
        """Make a call that is tested; ``otherwise`` if it raised what it may."""
        before, self.quiet = self.quiet, 0
        try:
            return function(*arguments)
        except (*allow, Planned, PlannedExit):
            return otherwise
        except Exception:
            self.quiet = 1
            self.tell(f"a call raised: {traceback.format_exc()}")
            return otherwise
        finally:
            self.quiet = before

    def act(self, chance: float = 1.0) -> None:
        """Perhaps do something, whatever is going on."""
        if self.over or self.budget <= 0 or self.depth >= NESTED_MAX or not self.actions:
            return
        before, self.quiet = self.quiet, 1
        self.depth += 1
        try:
            if self.random.random() < chance:
                self.budget -= 1
                action = self.random.choice(self.actions)[1]
                main, self.main = self.main, self.main and self.depth == 1
                self.trail.append(f"{'  ' * self.depth}{action.__qualname__}")
                action()
                self.main = main
        finally:
            self.depth -= 1
            self.quiet = before

    def mischief(self) -> None:
        """From a callback."""
        self.act(self.chance)

    def fail(self) -> None:
        """From a callback, at its end: perhaps raise."""
        if self.over or self.random.random() > 0.05:
            return
        if self.has("raise"):
            self.trail.append("raise")
            raise Planned
        if self.has("exits"):
            self.trail.append("exit")
            raise PlannedExit

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run it as a task; what it may raise, it catches."""
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, (Planned, PlannedExit)):
            text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            self.tell(f"a task raised: {text}")

    # ------------------------------------------------------------------- views

    def show(self, view: memoryview, data: bytes) -> None:
        """A callback was shown ``view``: perhaps keep something of it, perhaps let it go."""
        draw = self.random.random()
        if draw < 0.3 and self.has("keep") and len(self.kept) < KEPT_MAX:
            start = self.random.randint(0, len(data))
            end = self.random.randint(start, len(data))
            part, want = self.random.choice(
                ((view[start:end], data[start:end]), (view[::2], data[::2]), (view, data))
            )
            box: list[Any] = [part]
            if self.has("cycles") and self.random.random() < 0.5:
                box.append(box)
            self.kept.append((part, want, box))
        elif draw < 0.4 and self.has("exporters"):
            self.exporters.append((view.obj, data))
        elif draw < 0.45 and self.has("cycles"):
            box = [view[1:]]
            box.append(box)  # garbage at once
        elif draw < 0.5 and self.has("release"):
            view.release()

    def shown(self, view: memoryview, data: bytes) -> None:
        """The callback has done its mischief: the view must still show what it showed."""
        try:
            now = bytes(view)
        except ValueError:
            return
        if now != data:
            self.tell(f"a view of {data[:24]!r}... changed under its owner to {now[:24]!r}...")

    def check_kept(self) -> None:
        for part, want, _ in self.kept:
            try:
                now = bytes(part)
            except ValueError:
                continue
            if now != want:
                self.tell(f"what was kept of a view, {want[:24]!r}..., became {now[:24]!r}...")
        if not self.main and not self.over:
            return  # something may be being delivered, and an exporter shows that
        for exporter, want in self.exporters:
            try:
                now = bytes(memoryview(exporter))
            except (BufferError, TypeError, ValueError):
                continue
            if want not in now and now:
                self.tell(f"a view's exporter of {want[:24]!r}... shows {now[:24]!r}...")

    def _forget_kept(self) -> None:
        if self.kept:
            del self.kept[self.random.randrange(len(self.kept))]

    def _release_kept(self) -> None:
        if self.kept:
            part, _, _ = self.kept[self.random.randrange(len(self.kept))]
            self.call(part.release, allow=(BufferError, ValueError))

    def _forget_exporter(self) -> None:
        if self.exporters:
            self.exporters.pop(0)

    # ------------------------------------------------------------------- the collector

    def _haunt(self) -> None:
        things = [
            self.random.choice(self.actors) if self.actors else None,
            self.random.choice(self.kept) if self.kept else None,
        ]
        Ghost(self, things)

    def _collect(self) -> None:
        self.call(gc.collect, self.random.randint(0, 2))

    def _collecting(self, phase: str, info: Any) -> None:
        if not self.quiet and phase == "stop":
            self.act(self.collector_chance)

    def _collections(self, on: bool) -> None:
        if not self.hostile:
            return
        if on:
            gc.callbacks.append(self._collecting)
            gc.set_threshold(1, 3, 10)
        else:
            gc.set_threshold(700, 10, 10)
            gc.callbacks.remove(self._collecting)

    # ------------------------------------------------------------------- the run

    def run(self) -> list[str]:
        """All of it; what was wrong."""
        gc.collect()
        before = descriptors()
        hook, show = sys.unraisablehook, warnings.showwarning
        sys.unraisablehook = self._unraisable
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = self._warned
            try:
                self._run()
            except BaseException:
                self.tell(f"the program itself: {traceback.format_exc()}")
            finally:
                self._forget_everything()
                sys.unraisablehook, warnings.showwarning = hook, show
        left = {n: what for n, what in descriptors().items() if before.get(n) != what}
        if left:
            self.tell(f"descriptors left open: {left}")
        return self.faults

    def _options(self) -> dict[str, Any]:
        if self.provider == "std":
            return {}
        slice_size = self.random.choice((4, 4, 16)) * KIB
        return {
            "slice_size": slice_size,
            "slab_size": slice_size * self.random.choice((1, 2, 8)),
            "send_depth": self.random.choice((1, 2, 8)),
            "completion_queue_size": self.random.choice((16, 1024)),
        }

    def _run(self) -> None:
        self.loop = make_loop(self.provider, **self._options())
        self.loop.set_exception_handler(self._unhandled)
        self.offer(
            ("stop", self._stop),
            ("cycles", self._haunt),
            ("cycles", self._collect),
            ("keep", self._forget_kept),
            ("keep", self._release_kept),
            ("keep", self.check_kept),
            ("exporters", self._forget_exporter),
        )
        try:
            self._collections(True)
            try:
                self._drive(self._program())
            finally:
                self._collections(False)
            self.abrupt = self.has("abrupt") and self.random.random() < 0.5
            self.over = True
            if self.abrupt:
                self._drive(self._end_tasks())
            else:
                self._drive(self._settle())
                self._check_empty()
        finally:
            self.over = True
            self._drive(self._end_tasks())
            self.loop.close()
            for actor in self.actors:
                actor.drop()

    def _drive(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """run_until_complete, but a stop or an exit on the way is no end."""
        task = self.loop.create_task(coroutine)
        task.add_done_callback(lambda _: self.loop.stop())
        self.quiet = 0
        while not task.done():
            try:
                self.loop.run_forever()
            except PlannedExit:
                pass
        self.quiet = 1
        task.result()

    async def _program(self) -> None:
        self.quiet = 1
        for kind in self.kinds:
            for actor in await kind(self):
                self.actors.append(actor)
        steps = self.random.randint(*STEPS)
        while self.budget > 0 and steps > 0:
            steps -= 1
            self.main = True
            self.act()
            self.main = False
            draw = self.random.random()
            if draw < 0.5:
                await self.turn(0)
            elif draw < 0.6:
                await self.turn(self.random.random() / 1000)

    async def turn(self, seconds: float = 0) -> None:
        """Let the loop go on."""
        self.quiet = 0
        await asyncio.sleep(seconds)
        self.quiet = 1

    async def until(self, ready: Callable[[], Any], what: Callable[[], str]) -> bool:
        """Wait for it; a fault if it does not come."""
        end = time.monotonic() + SETTLE
        pause = 0.0
        while not ready():
            if time.monotonic() > end:
                self.tell(f"not within {SETTLE} s: {what()}")
                return False
            await self.turn(pause)
            pause = min(pause + 0.0002, 0.01)
        return True

    async def _settle(self) -> None:
        self.quiet = 1
        for actor in self.actors:
            await actor.settle()
        if self.tasks:
            await asyncio.wait(set(self.tasks), timeout=0.5)
        self.check_kept()

    async def _end_tasks(self) -> None:
        self.quiet = 1
        tasks = set(self.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=SETTLE)
            if late:
                self.tell(f"tasks that cannot be cancelled: {late}")
        await self.turn(0)

    def _check_empty(self) -> None:
        self.kept.clear()
        self.exporters.clear()
        gc.collect()
        if not hasattr(self.loop, "rio_stats"):
            return
        end = time.monotonic() + 0.2
        while (left := self._in_use()) and time.monotonic() < end:
            self._drive(self.turn(0.005))
        if left:
            self.tell(f"in use at the end: {left}")

    def _in_use(self) -> str:
        statistics = self.loop.rio_stats()
        if not statistics.slices_in_use and not statistics.connections:
            return ""
        return f"{statistics.slices_in_use} slices, {statistics.connections} connections"

    def _forget_everything(self) -> None:
        self.over = True
        self.kept.clear()
        self.exporters.clear()
        self.actors.clear()
        self.actions.clear()
        self.handles.clear()
        self.flows.clear()
        self.loop = None
        gc.collect()

    # ------------------------------------------------------------------- what is told

    def _stop(self) -> None:
        self.call(self.loop.stop)

    def _unhandled(self, loop: Any, context: dict[str, Any]) -> None:
        before, self.quiet = self.quiet, 1
        error = context.get("exception")
        late = self.abrupt and loop.is_closed()  # what was left open ends as it can
        if not late and not isinstance(error, (Planned, PlannedExit)):
            text = str(context.get("message"))
            if error is not None:
                text += "\n" + "".join(
                    traceback.format_exception(type(error), error, error.__traceback__)
                )
            self.tell(f"exception handler: {text}")
        self.quiet = before

    def _unraisable(self, unraisable: Any) -> None:
        self.tell(f"unraisable: {unraisable.exc_value!r} in {unraisable.object!r}")

    def _warned(self, message: Any, category: Any, *_: Any, **__: Any) -> None:
        if not (self.abrupt and issubclass(category, ResourceWarning)):
            self.tell(f"{category.__name__}: {message}")


def descriptors() -> dict[int, str]:
    """Open descriptors, and what each is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the listing's own
    return found
