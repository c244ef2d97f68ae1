"""Timers and callbacks: storms that make the queues grow, cancelled and called at any moment."""

from __future__ import annotations

from typing import Any

from .world import World, callback

EARLY = 0.002
"""Seconds: asyncio's own clock resolution, and what a delay is rounded to."""


class Due:
    """One callback that was scheduled."""

    def __init__(self, world: World, when: float) -> None:
        self.world = world
        self.when = when
        self.handle: Any = None
        self.ran = self.cancelled = False

    @callback
    def run(self) -> None:
        world = self.world
        if self.ran or (self.cancelled and not world.late):
            world.tell(f"a callback ran {'twice' if self.ran else 'although it was cancelled'}")
        if world.loop.time() < self.when - EARLY:
            world.tell(f"a timer ran {self.when - world.loop.time()} s early")
        self.ran = True
        world.mischief()
        world.fail()


class Storm:
    """Schedules, cancels, and knows what must have run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.due: list[Due] = []
        world.offer(
            ("", self.soon),
            ("", self.later),
            ("", self.cancel),
            ("growth", self.many_soon),
            ("growth", self.many_later),
            ("growth", self.cancel_many),
            ("info", self.ask),
            ("cycles", self.forget),
        )

    def _add(self, later: bool) -> None:
        world, loop = self.world, self.world.loop
        delay = world.random.choice((0, 0.0005, 0.003)) if later else 0
        due = Due(world, loop.time() + delay)
        if later and world.random.random() < 0.3:
            due.handle = world.call(loop.call_at, due.when, due.run, allow=())
        elif later:
            due.handle = world.call(loop.call_later, delay, due.run, allow=())
        elif world.random.random() < 0.3:
            due.handle = world.call(loop.call_soon_threadsafe, due.run, allow=())
        else:
            due.handle = world.call(loop.call_soon, due.run, allow=())
        self.due.append(due)

    def soon(self) -> None:
        self._add(False)

    def later(self) -> None:
        self._add(True)

    def many_soon(self) -> None:
        for _ in range(self.world.random.choice((30, 150))):
            self._add(False)

    def many_later(self) -> None:
        for _ in range(self.world.random.choice((30, 150))):
            self._add(True)

    def _cancel(self, due: Due) -> None:
        if due.handle is not None:
            if not due.ran:
                due.cancelled = True
            self.world.call(due.handle.cancel, allow=())
            if not due.handle.cancelled():
                self.world.tell("a cancelled handle says that it is not")

    def cancel(self) -> None:
        if self.due:
            self._cancel(self.world.random.choice(self.due))

    def cancel_many(self) -> None:
        for due in self.due[:: self.world.random.randint(1, 4)]:
            self._cancel(due)

    def ask(self) -> None:
        for due in self.due[:3]:
            self.world.call(repr, due.handle, allow=())
            self.world.call(hash, due.handle, allow=())
        self.world.call(lambda: (self.world.loop.time(), repr(self.world.loop)), allow=())

    def forget(self) -> None:
        """Handles and what they would call, as garbage in a cycle, still scheduled."""
        due = Due(self.world, 0)
        due.handle = self.world.call(self.world.loop.call_later, 0.001, due.run, allow=())

    def _left(self) -> list[Due]:
        return [due for due in self.due if not due.ran and not due.cancelled]

    async def settle(self) -> None:
        await self.world.until(
            lambda: not self._left(), lambda: f"{len(self._left())} callbacks of {len(self.due)}"
        )

    def drop(self) -> None:
        self.due.clear()


async def scheduling(world: World) -> list[Any]:
    """A storm."""
    return [Storm(world)]
