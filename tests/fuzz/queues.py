"""``zerio_asyncio.rio`` by itself: queues, regions and a pool, used and closed in any order."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from zerio_asyncio.rio import (
    BufferPool,
    CompletionPort,
    CompletionQueue,
    Flag,
    Region,
    RequestQueue,
)

from .streams import Peer

if TYPE_CHECKING:
    from .world import World

MAY_RAISE = (OSError, ValueError, MemoryError)


class Line(Peer):
    """A request queue, and the plain socket at its other end, whose actions this has, too."""

    def __init__(self, world: World, owner: Queues) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(world, theirs)
        ours.setblocking(False)
        self.owner = owner
        self.ours = ours
        self.sent_flow = world.new_flow()
        self.received = world.new_reader()
        self.received.expect(self.flow)
        self.reader.expect(self.sent_flow)
        self.queue: Any = world.call(
            RequestQueue, ours, owner.results, None, 2, 2, self, allow=MAY_RAISE
        )
        world.offer(
            ("", self.post_receive),
            ("", self.post_receive),
            ("", self.post_send),
            ("", self.post_send),
            ("large", self.now),
            ("growth", self.resize),
            ("close", self.close_queue),
            ("info", self.ask),
        )

    def post_receive(self) -> None:
        if self.queue is None:
            return
        part = self.owner.take()
        if part is None:
            return
        context = "receive", part
        refused = self.world.call(
            self.queue.receive, part, context, allow=MAY_RAISE, otherwise=False
        )
        if refused is False:
            self.owner.give(part)

    def post_send(self) -> None:
        if self.queue is None or self.queue.closed:
            return
        part = self.owner.take()
        if part is None:
            return
        number, data = self.sent_flow.take(self.world.random.randint(0, part.length - 12), False)
        part.memory[: len(data)] = data
        flags = Flag.DEFER if self.world.random.random() < 0.2 else 0
        whole = part.part(0, len(data))
        self.sent_flow.inside += 1
        refused = self.world.call(
            self.queue.send, whole, ("send", part), flags, allow=MAY_RAISE, otherwise=False
        )
        self.sent_flow.inside -= 1
        if refused is False:
            self.sent_flow.withdraw(number)
            self.owner.give(part)
        elif flags:
            self.world.call(self.queue.commit_sends, allow=MAY_RAISE)

    def now(self) -> None:
        """Without a request, and so out of order with one: only while none is outstanding."""
        if self.queue is None:
            return
        room = bytearray(100)
        self.sent_flow.unsure = self.received.flow.unsure = True  # type: ignore[union-attr]
        self.world.call(self.queue.receive_now, room, allow=MAY_RAISE)
        self.world.call(self.queue.send_now, b"now", allow=MAY_RAISE)

    def resize(self) -> None:
        if self.queue is not None:
            sizes = self.world.random.randint(0, 4), self.world.random.randint(0, 4)
            self.world.call(self.queue.resize, *sizes, allow=MAY_RAISE)

    def close_queue(self) -> None:
        if self.queue is not None:
            self.world.call(self.queue.close, allow=MAY_RAISE)
            self.spoil()
            self.sent_flow.broken = self.received.spoiled = True

    def ask(self) -> None:
        self.world.call(repr, self.queue, allow=())

    def drop(self) -> None:
        super().drop()
        self.ours.close()


class Queues:
    """A port, its completion queue, memory of both kinds, and the lines that use them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.port = CompletionPort(world.provider)
        self.results = CompletionQueue(world.random.choice((8, 64)), self.port)
        self.region = Region(self.port.provider, 64 * 1024)
        self.pool = BufferPool(self.port.provider, 4096, 16 * 1024, slabs_max=2)
        self.next = 0
        self.turning = False
        self.lines = [Line(world, self) for _ in range(world.random.randint(1, 2))]
        world.offer(
            ("", self.turn),
            ("", self.turn),
            ("", self.turn),
            ("growth", self.resize),
            ("cycles", self.forget),
            ("abort", self.close_region),
            ("abort", self.close_pool),
            ("abrupt", self.close_results),
            ("abrupt", self.close_port),
            ("info", self.ask),
        )

    def take(self) -> Any:
        """Memory for a request: the pool's, or a part of the region that no other has."""
        if self.world.random.random() < 0.7 or self.next >= 16:
            return self.world.call(self.pool.take, allow=MAY_RAISE)
        self.next += 1
        return self.region.slice((self.next - 1) * 4096, 4096)

    def give(self, part: Any) -> None:
        if part.region is not self.region:
            self.world.call(self.pool.give, part, allow=MAY_RAISE)

    def turn(self) -> None:
        """Wait without waiting, and look at the results."""
        if self.turning:
            return  # who fetches results inside a fetch, mixes their order up
        self.turning = True
        try:
            self._turn()
        finally:
            self.turning = False

    def _turn(self) -> None:
        self.world.call(self.results.notify, allow=MAY_RAISE)
        self.world.call(self.port.wait, 0, allow=MAY_RAISE)
        most = self.world.random.choice((1, 64))
        for result in self.world.call(self.results.dequeue, most, allow=MAY_RAISE) or ():
            what, part = result.context
            line = result.socket_context
            if what == "receive" and result.status == 0:
                line.received.feed(bytes(part.memory[: result.transferred]))
            self.give(part)

    def resize(self) -> None:
        size = self.world.random.choice((1, 4, 16, 100))
        self.world.call(self.results.resize, size, allow=MAY_RAISE)

    def forget(self) -> None:
        """A queue without a port, as garbage."""
        self.world.call(CompletionQueue, 4, None, allow=MAY_RAISE)

    def close_region(self) -> None:
        if self.world.random.random() < 0.2:
            self.next = 16
            self.world.call(self.region.close, allow=MAY_RAISE)

    def close_pool(self) -> None:
        if self.world.random.random() < 0.2:
            self.world.call(self.pool.close, allow=MAY_RAISE)

    def _doubt(self) -> None:
        for line in self.lines:
            line.spoil()
            line.sent_flow.broken = line.received.spoiled = True

    def close_results(self) -> None:
        if self.world.random.random() < 0.1:
            self._doubt()
            self.world.call(self.results.close, allow=MAY_RAISE)

    def close_port(self) -> None:
        if self.world.random.random() < 0.1:
            self._doubt()
            self.world.call(self.port.close, allow=MAY_RAISE)

    def ask(self) -> None:
        self.world.call(self.pool.statistics, allow=MAY_RAISE)
        self.world.call(self.port.statistics, allow=MAY_RAISE)
        self.world.call(self.port.pending, allow=MAY_RAISE)

    async def settle(self) -> None:
        for line in self.lines:
            line.receive_all()
            line.close_queue()
        for _ in range(50):
            if self.port.closed or self.results.closed or not self.results.outstanding:
                break
            self.turn()
            await self.world.turn(0.001)
        else:
            self.world.tell(f"{self.results.outstanding} requests without a result")
        for line in self.lines:
            line.received.finish()
        self.drop()

    def drop(self) -> None:
        for line in self.lines:
            if line.queue is not None:
                self.world.call(line.queue.close, allow=MAY_RAISE)
        self.world.call(self.results.close, allow=MAY_RAISE)
        self.world.call(self.port.close, allow=MAY_RAISE)
        for line in self.lines:
            line.drop()
        self.region.close()
        self.pool.close()


async def queues(world: World) -> list[Any]:
    """One port with all that hangs on it."""
    return [Queues(world)]
