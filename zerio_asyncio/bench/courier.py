"""The generator of framed messages as a program of its own: JSON lines on its output.

``python -m zerio_asyncio.bench.courier --port 5555 --connections 10 --delay-us 100 --burst 3``

Round trips (the default) are measured as by ``zerio_asyncio.bench.load``, and told in one line.
With ``--one-way`` it first tells that it is connected, waits for a line on its input, sends all
that the server takes until the next line, tells how many that were, and stays connected until the
input ends, for the server may not have had the last of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import threading
from typing import Any, final

from zerio_asyncio.bench._native import ffi, lib
from zerio_asyncio.bench.latencies import figures_of
from zerio_asyncio.bench.limits import pin, raise_descriptor_limit
from zerio_asyncio.bench.load import (
    CONNECTIONS_MAX,
    SECONDS_MAX,
    SIZE_MAX,
    LoadError,
    add_fields,
    check,
    explain,
    tell,
)

BURST_MAX = 65536
DELAY_US_MAX = 500_000


@dataclasses.dataclass(frozen=True)
class CourierConfig:
    """One run. ``size`` in bytes, without the four of its length; times as their names say.

    ``burst`` messages go together, every ``delay_us`` on each connection, or, when that is 0, as
    soon as all before were answered. ``bursts_each`` 0 means: by time only.
    """

    address: str = "127.0.0.1"
    port: int = 0
    connections: int = 1
    size: int = 64
    burst: int = 1
    delay_us: int = 0
    one_way: bool = False
    spin: bool = False
    server_pid: int = 0
    bursts_each: int = 0
    warmup_s: float = 0.5
    measure_s: float = 1.5
    stall_s: float = 5.0

    def __post_init__(self) -> None:
        check("connections", self.connections, 1, CONNECTIONS_MAX)
        check("size", self.size, 0, SIZE_MAX)
        check("burst", self.burst, 1, BURST_MAX)
        check("delay_us", self.delay_us, 0, DELAY_US_MAX)
        check("port", self.port, 0, 65535)
        check("bursts_each", self.bursts_each, 0, 1 << 40)
        check("warmup_s", self.warmup_s, 0, SECONDS_MAX)
        check("measure_s", self.measure_s, 0.001, SECONDS_MAX)
        check("stall_s", self.stall_s, 0.001, SECONDS_MAX)
        if self.bursts_each and self.warmup_s:
            raise ValueError("bursts_each counts from the first burst: warmup_s must be 0")
        if self.one_way and self.delay_us:
            raise ValueError("one way knows no delay: delay_us must be 0")


@final
class Courier:
    """A set of peers of one server; a context manager that closes their connections."""

    def __init__(self, config: CourierConfig) -> None:
        self.config = config
        self._address = ffi.new("char[]", config.address.encode())
        self._c_config = ffi.new(
            "courier_config *",
            {
                "address": self._address,
                "port": config.port,
                "connections": config.connections,
                "size": config.size,
                "burst": config.burst,
                "one_way": config.one_way,
                "spin": config.spin,
                "server_pid": config.server_pid,
                "delay_ns": config.delay_us * 1000,
                "quota": config.bursts_each,
                "warmup_ns": round(config.warmup_s * 1e9),
                "measure_ns": round(config.measure_s * 1e9),
                "stall_ns": round(config.stall_s * 1e9),
            },
        )
        self._courier = lib.courier_new(self._c_config)
        if self._courier == ffi.NULL:
            raise MemoryError("no memory or descriptor for the generator")

    def connect(self) -> None:
        """Open all connections and exchange names; OSError if one fails."""
        status = lib.courier_connect(self._courier)
        if status:
            raise OSError(-status, f"connect: {os.strerror(-status)}")

    def run(self) -> dict[str, Any]:
        """Run once to the end; LoadError unless all came back right and in time."""
        result = ffi.new("load_result *")
        if lib.courier_run(self._courier, result) != lib.LOAD_OK:
            raise LoadError(explain(result))
        return figures_of(result, lib.courier_counts(self._courier))

    def stop(self) -> None:
        """From another thread: let the run come to its end now."""
        if self._courier != ffi.NULL:
            lib.courier_stop(self._courier)

    def close(self) -> None:
        """Close the connections; again does nothing."""
        courier, self._courier = self._courier, ffi.NULL
        lib.courier_free(courier)

    def __enter__(self) -> Courier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def send_until_told(courier: Courier, commands: int) -> dict[str, Any]:
    """Run, and stop it when something can be read from the descriptor ``commands``, or its end."""

    def wait() -> None:
        os.read(commands, 1)
        courier.stop()

    # Not waited for: where the run ended by itself, nobody may ever write that line.
    threading.Thread(target=wait, daemon=True).start()
    return courier.run()


def main(arguments: list[str] | None = None) -> int:
    """Run once and print figures as JSON; 1 and ``{"error": ...}`` if it failed."""
    parser = argparse.ArgumentParser(prog="python -m zerio_asyncio.bench.courier")
    add_fields(parser, CourierConfig())
    options = vars(parser.parse_args(arguments))
    lib.process_die_with_parent()
    pin(options.pop("core"))
    try:
        config = CourierConfig(**options)
        raise_descriptor_limit(config.connections)
        with Courier(config) as courier:
            courier.connect()
            if config.one_way:
                tell({"connected": config.connections})
                os.read(sys.stdin.fileno(), 1)
                tell(send_until_told(courier, sys.stdin.fileno()))
                sys.stdin.read()
            else:
                tell(courier.run())
    except (LoadError, OSError, ValueError, MemoryError) as error:
        tell({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
