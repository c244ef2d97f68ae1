"""The generator of framed messages, as a program of its own.

``python -m zerio_asyncio.bench.courier --port 5555 --connections 10 --delay-us 100 --burst 3``

Round trips (the default) are measured as by ``zerio_asyncio.bench.load``, and reported in one line.
With ``--one-way`` it first reports that it is connected, waits for a line on its input, sends all
that the server takes until the next line, reports how many that were, and stays connected until the
input ends, because the server may not have received the last of them.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from typing import Any, ClassVar, final

from zerio_asyncio.bench._native import ffi, lib
from zerio_asyncio.bench.generator import (
    SIZE_MAX,
    Generator,
    RunConfig,
    check,
    parser_of,
    program,
    tell,
)

BURST_MAX = 65536
DELAY_US_MAX = 500_000


@dataclasses.dataclass(frozen=True)
class CourierConfig(RunConfig):
    """One run. ``size`` is without the four bytes of a message's length.

    ``burst`` messages go together, every ``delay_us`` on each connection, or, if that is 0, as soon
    as all previous ones were answered.
    """

    quota: ClassVar[str] = "bursts_each"

    burst: int = 1
    delay_us: int = 0
    one_way: bool = False
    bursts_each: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check("size", self.size, 0, SIZE_MAX)
        check("burst", self.burst, 1, BURST_MAX)
        check("delay_us", self.delay_us, 0, DELAY_US_MAX)
        if self.one_way and self.delay_us:
            raise ValueError("one way knows no delay: delay_us must be 0")

    def native(self) -> dict[str, Any]:
        """The fields of native.h's structure, except the address."""
        return {
            **super().native(),
            "burst": self.burst,
            "one_way": self.one_way,
            "delay_ns": self.delay_us * 1000,
        }


@final
class Courier(Generator):
    """Peers of one server; connecting includes exchanging names."""

    kind = "courier"

    def stop(self) -> None:
        """From another thread: let the run end now."""
        if self._handle != ffi.NULL:
            lib.courier_stop(self._handle)


def send_until_told(courier: Courier, commands: int) -> dict[str, Any]:
    """Run, and stop when the descriptor ``commands`` has something to read, or ends."""

    def wait() -> None:
        os.read(commands, 1)
        courier.stop()

    # Not joined: if the run ended by itself, that line may never be written.
    threading.Thread(target=wait, daemon=True).start()
    return courier.run()


def send_one_way(courier: Courier) -> None:
    """Send between the first line of the input and the second; stay until it ends."""
    tell({"connected": courier.config.connections})
    os.read(sys.stdin.fileno(), 1)
    tell(send_until_told(courier, sys.stdin.fileno()))
    sys.stdin.read()


def main(arguments: list[str] | None = None) -> int:
    """Run once and print figures; return the exit status."""
    options = vars(parser_of("courier", CourierConfig()).parse_args(arguments))
    one_way = options["one_way"]
    return program(
        Courier,
        CourierConfig,
        options,
        send_one_way if one_way else lambda courier: tell(courier.run()),
    )


if __name__ == "__main__":
    sys.exit(main())
