"""What programs send: records. Each tells whose it is, and each of its bytes tells its place.

So whoever receives can say at once that a byte was changed, lost, doubled, or is another's.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any

HEADER = struct.Struct("<HHII")
"""Magic, number of the flow, number of the record, bytes of its body."""

MAGIC = 0x5A52
PERIOD = 65_521
BODY_MAX = 4 * PERIOD
BYTES = bytes((n * n + n // 251) % 256 for n in range(PERIOD)) * 5


def quietly(function: Callable[..., Any]) -> Callable[..., Any]:
    """For a method of an object with a ``world``: the collector may come, and must not act."""

    @functools.wraps(function)
    def called(self: Any, *arguments: Any, **named: Any) -> Any:
        world = self.world
        before, world.quiet = world.quiet, 1
        try:
            return function(self, *arguments, **named)
        finally:
            world.quiet = before

    return called


def record(flow: int, number: int, length: int) -> bytes:
    """Record ``number`` of a flow, its header before a body of ``length`` bytes."""
    start = (flow * 7919 + number * 104_729) % PERIOD
    return HEADER.pack(MAGIC, flow, number, length) + BYTES[start : start + length]


class Flow:
    """The records of one sender, and what has come of them.

    ``broken``: its end was lost on purpose, so what was sent last may never come. ``unsure``: what
    comes is not defined. ``sure``: records that must come unless it is broken. ``inside``: writes
    under way; a record that is taken meanwhile may overtake the one that is being written.
    """

    def __init__(self, number: int, world: Any) -> None:
        self.number = number
        self.world = world
        self.tell = world.tell
        self.taken = 0
        self.inside = 0
        self.broken = self.unsure = False
        self.ordered = True
        self.reader: Reader | None = None
        self.sure: set[int] = set()
        self.loose: set[int] = set()
        self.withdrawn: set[int] = set()
        self.seen: set[int] = set()
        self.last = -1

    @quietly
    def take(self, length: int, sure: bool = True) -> tuple[int, bytes]:
        """The next record, and its number; whether it must come."""
        number = self.taken
        self.taken += 1
        if sure:
            self.sure.add(number)
        if self.inside:
            self.loose.add(number)
        return number, record(self.number, number, length)

    def withdraw(self, number: int) -> None:
        """It was refused as a whole: now it must not come."""
        self.sure.discard(number)
        self.withdrawn.add(number)

    def doubt(self, number: int) -> None:
        """It may come or not, but whole."""
        self.sure.discard(number)

    @quietly
    def arrived(self, number: int) -> None:
        """A whole record came, and its bytes were right."""
        if self.unsure:
            return
        if number in self.seen:
            self.tell(f"flow {self.number}: record {number} came twice")
        elif number >= self.taken or number in self.withdrawn:
            self.tell(f"flow {self.number}: record {number} came and was never sent")
        elif self.ordered and number not in self.loose:
            if number < self.last:
                self.tell(f"flow {self.number}: record {number} came after {self.last}")
            self.last = number
        self.seen.add(number)

    @property
    def missing(self) -> set[int]:
        """What must come and has not."""
        reader = self.reader
        if self.broken or self.unsure or reader is None or reader.spoiled:
            return set()
        return self.sure - self.seen


class Reader:
    """Cuts a stream into records and compares them; ``flow`` is whose they must be, if known."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.flows: dict[int, Flow] = world.flows
        self.tell = world.tell
        self.flow: Flow | None = None
        self.rest = bytearray()
        self.spoiled = False
        self.bytes = 0

    def expect(self, flow: Flow) -> None:
        """All that comes is this flow's."""
        self.flow = flow
        flow.reader = self

    @quietly
    def feed(self, data: bytes) -> None:
        """Take what has come."""
        if self.flow is not None and self.flow.unsure:
            return
        self.bytes += len(data)
        self.rest += data
        while len(self.rest) >= HEADER.size and self._head():
            _, number, length = self._fields()
            end = HEADER.size + length
            if len(self.rest) < end:
                return
            self._compare(end)
            del self.rest[:end]
            if self.flow is not None:
                self.flow.arrived(number)

    def _fields(self) -> tuple[int, int, int]:
        _, flow, number, length = HEADER.unpack_from(self.rest)
        return flow, number, length

    def _head(self) -> bool:
        """Whether what lies in front can be a record; if not, nothing more is read."""
        magic, number, record_number, length = HEADER.unpack_from(self.rest)
        flow = self.flows.get(number)
        what = f"at byte {self.bytes - len(self.rest)}: {bytes(self.rest[:32])!r}"
        if magic != MAGIC or flow is None or length > BODY_MAX:
            return self._wrong(f"no record {what}")
        if self.flow is None:
            if flow.reader is not None:
                return self._wrong(f"flow {number} shows on two connections {what}")
            self.expect(flow)
        elif self.flow is not flow:
            return self._wrong(f"flow {self.flow.number} shows flow {number} {what}")
        if record_number >= flow.taken:
            return self._wrong(f"flow {number}: no record {record_number} yet {what}")
        return True

    def _wrong(self, text: str) -> bool:
        self.tell(text)
        self.rest.clear()
        if self.flow is not None:
            self.flow.unsure = True
        return False

    def _compare(self, end: int) -> None:
        flow, number, length = self._fields()
        want, have = record(flow, number, length), bytes(self.rest[:end])
        if want[: len(have)] != have:
            at = next(n for n, (a, b) in enumerate(zip(want, have, strict=False)) if a != b)
            self.tell(f"flow {flow}: record {number} of {length} bytes differs at byte {at}")

    @quietly
    def finish(self) -> None:
        """Nothing more comes: compare the part of a record that did."""
        unsure = self.flow is not None and self.flow.unsure
        if not unsure and len(self.rest) >= HEADER.size and self._head():
            self._compare(len(self.rest))


def check_whole(data: bytes, flows: dict[int, Flow], tell: Callable[[str], None]) -> Flow | None:
    """``data`` is one record, all of it: a message, a datagram. Whose it is."""
    if len(data) < HEADER.size:
        tell(f"no record: {data!r}")
        return None
    magic, number, record_number, length = HEADER.unpack_from(data)
    flow = flows.get(number)
    if magic != MAGIC or flow is None or length > BODY_MAX:
        tell(f"no record: {data[:32]!r}")
        return None
    if data != record(number, record_number, length):
        tell(f"flow {number}: record {record_number} of {length} bytes came as {data[:32]!r}")
        return None
    return flow if not flow.unsure else None
