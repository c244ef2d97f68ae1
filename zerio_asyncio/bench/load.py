"""The native load generator as a program of its own: one JSON object per run on its output.

``python -m zerio_asyncio.bench.load --port 5555 --connections 50 --size 1024 --core 1``

Latencies come as a HdrHistogram in its usual text form (``hdr``), so rounds can be added up and
other programs can read them.

With ``--hold`` it opens the connections and stays: every line on its standard input makes each
connection exchange one message, and the end of the input closes them. That is the client side of
the memory benchmark: ten thousand connections for the price of ten thousand descriptors.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from typing import Any, TextIO, final

from zerio_asyncio.bench._native import ffi, lib
from zerio_asyncio.bench.latencies import figures_of
from zerio_asyncio.bench.limits import pin, raise_descriptor_limit

CONNECTIONS_MAX = 100_000
SIZE_MAX = 64 * 1024 * 1024
DATAGRAM_MAX = 65507  # what IPv4 and UDP leave of 64 KiB
DEPTH_MAX = 1024
SECONDS_MAX = 3600.0


class LoadError(RuntimeError):
    """The run is no measurement: a wrong byte, a closed connection, silence, a system error."""


@dataclasses.dataclass(frozen=True)
class LoadConfig:
    """One run. Sizes in bytes, times in seconds; ``requests_each`` 0 means: by time only.

    ``address`` is a numeric IPv4 or IPv6 address, or the path of a Unix socket.
    """

    address: str = "127.0.0.1"
    port: int = 0
    connections: int = 50
    size: int = 1024
    depth: int = 1
    datagrams: bool = False
    spin: bool = False
    server_pid: int = 0
    requests_each: int = 0
    warmup_s: float = 0.5
    measure_s: float = 1.5
    stall_s: float = 5.0

    def __post_init__(self) -> None:
        check("connections", self.connections, 1, CONNECTIONS_MAX)
        check("size", self.size, 1, DATAGRAM_MAX if self.datagrams else SIZE_MAX)
        check("depth", self.depth, 1, DEPTH_MAX)
        check("port", self.port, 0, 65535)
        check("requests_each", self.requests_each, 0, 1 << 40)
        check("warmup_s", self.warmup_s, 0, SECONDS_MAX)
        check("measure_s", self.measure_s, 0.001, SECONDS_MAX)
        check("stall_s", self.stall_s, 0.001, SECONDS_MAX)
        if self.requests_each and self.warmup_s:
            raise ValueError("requests_each counts from the first request: warmup_s must be 0")


def check(name: str, value: float, least: float, most: float) -> None:
    """ValueError unless a setting is in its range."""
    if not least <= value <= most:
        raise ValueError(f"{name} must be {least} to {most}, not {value}")


@final
class Load:
    """A set of connections to one server; a context manager that closes them."""

    def __init__(self, config: LoadConfig) -> None:
        self.config = config
        self._address = ffi.new("char[]", config.address.encode())
        self._c_config = ffi.new(
            "load_config *",
            {
                "address": self._address,
                "port": config.port,
                "connections": config.connections,
                "size": config.size,
                "depth": config.depth,
                "datagrams": config.datagrams,
                "spin": config.spin,
                "server_pid": config.server_pid,
                "quota": config.requests_each,
                "warmup_ns": round(config.warmup_s * 1e9),
                "measure_ns": round(config.measure_s * 1e9),
                "stall_ns": round(config.stall_s * 1e9),
            },
        )
        self._load = lib.load_new(self._c_config)
        if self._load == ffi.NULL:
            raise MemoryError("no memory or descriptor for the load generator")

    def connect(self) -> None:
        """Open all connections; OSError if one fails."""
        status = lib.load_connect(self._load)
        if status:
            raise OSError(-status, f"connect: {os.strerror(-status)}")

    def run(self) -> dict[str, Any]:
        """Warm up, measure, drain; LoadError unless every byte came back right and in time."""
        result = ffi.new("load_result *")
        if lib.load_run(self._load, result) != lib.LOAD_OK:
            raise LoadError(explain(result))
        return figures_of(result, lib.load_counts(self._load))

    def close(self) -> None:
        """Close the connections; again does nothing."""
        load, self._load = self._load, ffi.NULL
        lib.load_free(load)

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def explain(result: Any) -> str:
    """Say what went wrong, and where."""
    where = f"connection {result.fail_connection}, message {result.fail_message}"
    spot = f"{where}, byte {result.fail_offset}"
    if result.status == lib.LOAD_SYSTEM:
        return f"{where}: {os.strerror(result.error)}"
    if result.status == lib.LOAD_MISMATCH:
        return f"{spot}: {result.fail_got:#04x} came back for {result.fail_expected:#04x}"
    if result.status == lib.LOAD_EXCESS:
        return f"{where}: more bytes came back than were sent"
    if result.status == lib.LOAD_CUT:
        return f"{where}: a datagram of another size came back"
    if result.status == lib.LOAD_CLOSED:
        return f"{spot}: the server closed the connection"
    return "the server went silent"


def hold(config: LoadConfig, commands: TextIO) -> None:
    """Keep connections open; one exchange on each for every line of ``commands``."""
    with Load(config) as load:
        load.connect()
        tell({"connected": config.connections})
        for _ in commands:
            tell(load.run())


def tell(answer: dict[str, Any]) -> None:
    """Write one line of JSON."""
    print(json.dumps(answer), flush=True)


def add_fields(parser: argparse.ArgumentParser, defaults: Any) -> None:
    """Make an option of every field of a configuration, and one for the CPU."""
    for field in dataclasses.fields(defaults):
        default = getattr(defaults, field.name)
        option = "--" + field.name.replace("_", "-")
        if isinstance(default, bool):
            parser.add_argument(option, action="store_true")
        else:
            parser.add_argument(option, type=type(default), default=default)
    parser.add_argument("--core", type=int, help="pin the generator to this CPU")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m zerio_asyncio.bench.load")
    add_fields(parser, LoadConfig())
    parser.add_argument("--hold", action="store_true", help="open, wait for lines, exchange")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run once (or hold) and print figures as JSON; 1 and ``{"error": ...}`` if it failed."""
    options = vars(parse(arguments))
    core, holding = options.pop("core"), options.pop("hold")
    lib.process_die_with_parent()
    pin(core)
    try:
        config = LoadConfig(**options)
        raise_descriptor_limit(config.connections)
        if holding:
            hold(config, sys.stdin)
            return 0
        with Load(config) as load:
            load.connect()
            tell(load.run())
    except (LoadError, OSError, ValueError, MemoryError) as error:
        tell({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
