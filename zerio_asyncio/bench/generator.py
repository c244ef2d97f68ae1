"""What the native generators have in common: settings, runs, and the program around them.

Each of these programs prints one JSON object per line. Latencies come as a HdrHistogram in its
usual text form (``hdr``), so that rounds can be added up and other programs can read them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any, ClassVar

from zerio_asyncio.bench._native import ffi, lib
from zerio_asyncio.bench.latencies import figures_of
from zerio_asyncio.bench.system import pin, raise_descriptor_limit, words_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

CONNECTIONS_MAX = 100_000
SIZE_MAX = 64 * 1024 * 1024
SECONDS_MAX = 3600.0


class LoadError(RuntimeError):
    """The run is not a measurement: a wrong byte, a closed connection, silence, a system error."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One run of any generator. Sizes are in bytes, times as their names say.

    ``address`` is a numeric IPv4 or IPv6 address, or the path of a Unix socket.
    """

    quota: ClassVar[str]
    """The field that bounds a run by count; 0 means only by time."""

    address: str = "127.0.0.1"
    port: int = 0
    connections: int = 1
    size: int = 64
    spin: bool = False
    server_pid: int = 0
    warmup_s: float = 0.5
    measure_s: float = 1.5
    stall_s: float = 5.0

    def __post_init__(self) -> None:
        check("connections", self.connections, 1, CONNECTIONS_MAX)
        check("port", self.port, 0, 65535)
        check(self.quota, getattr(self, self.quota), 0, 1 << 40)
        check("warmup_s", self.warmup_s, 0, SECONDS_MAX)
        check("measure_s", self.measure_s, 0.001, SECONDS_MAX)
        check("stall_s", self.stall_s, 0.001, SECONDS_MAX)
        if getattr(self, self.quota) and self.warmup_s:
            raise ValueError(f"{self.quota} counts from the beginning: warmup_s must be 0")

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return False

    def texts(self) -> dict[str, bytes]:
        """The strings of native.h's structure, except the address."""
        return {}

    def native(self) -> dict[str, Any]:
        """The fields of native.h's structure, except the strings."""
        return {
            "port": self.port,
            "connections": self.connections,
            "size": self.size,
            "spin": self.spin,
            "server_pid": self.server_pid,
            "quota": getattr(self, self.quota),
            "warmup_ns": round(self.warmup_s * 1e9),
            "measure_ns": round(self.measure_s * 1e9),
            "stall_ns": round(self.stall_s * 1e9),
        }


def check(name: str, value: float, least: float, most: float) -> None:
    """ValueError unless a setting is within its range."""
    if not least <= value <= most:
        raise ValueError(f"{name} must be {least} to {most}, not {value}")


class Generator:
    """A set of connections to one server; a context manager that closes them."""

    kind: ClassVar[str]
    """The prefix of its functions in native.h."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._check()
        texts = {"address": config.address.encode(), **config.texts()}
        self._texts = {name: ffi.new("char[]", text) for name, text in texts.items()}
        self._c_config = ffi.new(f"{self.kind}_config *", {**self._texts, **config.native()})
        self._handle = self._call("new", self._c_config)
        if self._handle == ffi.NULL:
            raise MemoryError("no memory or descriptor for the generator")

    def _check(self) -> None:
        """LoadError if this system cannot run it."""
        if self.config.secure and lib.tls_version() == ffi.NULL:
            raise LoadError("no OpenSSL is found here")

    def _call(self, name: str, *arguments: Any) -> Any:
        return getattr(lib, f"{self.kind}_{name}")(*arguments)

    def connect(self) -> None:
        """Open all connections; OSError if one fails."""
        status = self._call("connect", self._handle)
        if status:
            raise OSError(-status, f"connect: {words_of(-status)}")

    def run(self) -> dict[str, Any]:
        """Warm up, measure, drain; LoadError unless everything came back correctly and in time."""
        result = ffi.new("load_result *")
        if self._call("run", self._handle, result) != lib.LOAD_OK:
            raise LoadError(explain(result))
        return figures_of(result, self._call("counts", self._handle))

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        handle, self._handle = self._handle, ffi.NULL
        self._call("free", handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def explain(result: Any) -> str:
    """Say what went wrong, and where."""
    where = f"connection {result.fail_connection}, message {result.fail_message}"
    spot = f"{where}, byte {result.fail_offset}"
    if result.status == lib.LOAD_SYSTEM:
        return f"{where}: {words_of(result.error)}"
    if result.status == lib.LOAD_MISMATCH:
        return f"{spot}: {result.fail_got:#04x} came back for {result.fail_expected:#04x}"
    words = {
        lib.LOAD_EXCESS: f"{where}: more bytes came back than were sent",
        lib.LOAD_CUT: f"{where}: a datagram of another size came back",
        lib.LOAD_ANEW: f"{where}: its session was not to be resumed and was, or the reverse",
        lib.LOAD_CLOSED: f"{spot}: the server closed the connection",
    }
    return words.get(result.status, "the server went silent")


def tell(answer: dict[str, Any]) -> None:
    """Write one line of JSON."""
    print(json.dumps(answer), flush=True)


def parser_of(program: str, defaults: RunConfig) -> argparse.ArgumentParser:
    """An option for every field of a configuration, and one for the CPU."""
    parser = argparse.ArgumentParser(prog=f"python -m zerio_asyncio.bench.{program}")
    for field in dataclasses.fields(defaults):
        default = getattr(defaults, field.name)
        option = "--" + field.name.replace("_", "-")
        if isinstance(default, bool):
            parser.add_argument(option, action="store_true")
        else:
            parser.add_argument(option, type=type(default), default=default)
    parser.add_argument("--core", type=int, help="pin the generator to this CPU")
    return parser


def program(
    kind: type[Generator],
    config: type[RunConfig],
    options: dict[str, Any],
    run: Callable[[Any], None],
) -> int:
    """Connect, ``run`` with the generator; return 1 and print ``{"error": ...}`` on failure."""
    lib.process_die_with_parent(os.getppid())
    pin(options.pop("core"))
    try:
        settings = config(**options)
        raise_descriptor_limit(settings.connections)
        with kind(settings) as generator:
            generator.connect()
            run(generator)
    except (LoadError, OSError, ValueError, MemoryError) as error:
        tell({"error": str(error)})
        return 1
    return 0
