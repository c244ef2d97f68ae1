"""The measured processes: a server, a generator, a scheduler run, each a child of Python.

Every child is pinned, gets the same environment, prints JSON lines, and is ended by its pid.
Nothing here waits without a limit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import queue
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zerio_asyncio.bench import peers, system
from zerio_asyncio.bench._native import ffi, lib
from zerio_asyncio.bench.results import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).absolute().parent.parent

START_S = 30.0
"""How long to wait for a child's first line: imports on a busy machine."""

SLACK_S = 30.0
"""Beyond the time that a run was asked to take."""


SETTLE_S = 0.05
"""Between checks on a server that has not received all messages yet."""

ONE_WAY_S_MAX = 3600.0
"""A one-way run ends when told to; this is only the generator's own limit."""

BARE = """\
import runpy, sys, types
package = types.ModuleType("zerio_asyncio")
package.__path__ = [sys.argv.pop(1)]
sys.modules["zerio_asyncio"] = package
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
"""Runs a module of the benchmark without importing our loop: other peers' processes contain what
their users' processes contain. This is not for tidiness. asyncio's transports ask for 256 KiB for
every read; whether glibc takes them from fresh pages each time or from its heap depends on what was
allocated and freed before, and our imports alone took asyncio from 28 to 10 us per 1 KiB echo
(measured)."""


class Child:
    """One Python program that answers in JSON lines; a context manager that ends it.

    ``ours``: it needs our loop; the others never import it.
    """

    def __init__(self, module: str, *arguments: object, ours: bool = False) -> None:
        name = f"zerio_asyncio.bench.{module}"
        how = ["-m", name] if ours else ["-c", BARE, str(PACKAGE), name]
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        program, needed = system.interpreter()
        self._process = subprocess.Popen(
            [program, *how, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=peers.environment() | needed,
        )
        # A thread reads, for not every system can wait for a pipe with a limit.
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        """Hand over all lines, and nothing at the end."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def answer(self, timeout_s: float) -> dict[str, Any]:
        """Read the next line; BenchError if it is an error, late, or missing."""
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise BenchError(f"no answer in {timeout_s:.0f} s") from None
        if not line:
            self._lines.put(line)  # the end stays the end
            raise BenchError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError(str(answer["error"]))
        return answer

    def tell(self) -> None:
        """Send an empty line: continue."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchError(self._last_words()) from None

    def cpu_s(self) -> float:
        """CPU time of the process so far; that of a running one may lag by a tick (10 ms)."""
        found = ffi.new("uint64_t *")
        if lib.process_cpu_ns(self._process.pid, found):
            raise BenchError(self._last_words())
        return float(found[0]) / 1e9

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"ended with status {self._process.returncode}"

    def close(self) -> None:
        """End it by SIGTERM, and if it does not react within a second, by SIGKILL."""
        self._process.terminate()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(1)
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def finish(self) -> None:
        """Let it end by itself at the end of its input; wait a minute at most."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(60)

    def __enter__(self) -> Child:  # noqa: PYI034 - nobody inherits
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a server listens, what it runs, and its pid."""

    address: str
    port: int
    pid: int
    ran: str
    provider: str | None


@contextlib.contextmanager
def serving(
    peer: str,
    mode: str,
    core: int | None,
    connections: int,
    size: int = 0,
    certificate: Path | None = None,
) -> Iterator[tuple[Child, Address]]:
    """Run a server in a process of its own that can be asked for its account."""
    arguments: list[object] = ["--peer", peer, "--mode", mode, "--connections", connections]
    arguments += ["--size", size]
    if certificate is not None:
        arguments += ["--certificate", certificate]
    if core is not None:
        arguments += ["--core", core]
    with Child("servers", *arguments, ours=peers.is_ours(peer)) as child:
        yield child, Address(**child.answer(START_S))


@contextlib.contextmanager
def server_of_threads(
    peer: str, cores: list[int], connections: int, loops: int
) -> Iterator[Address]:
    """Run an echo server with a loop in each of ``loops`` threads, on these CPUs together."""
    arguments: list[object] = ["--peer", peer, "--mode", "threads", "--connections", connections]
    arguments += ["--loops", loops]
    for core in cores:
        arguments += ["--core", core]
    with Child("servers", *arguments, ours=peers.is_ours(peer)) as child:
        yield Address(**child.answer(START_S))


@contextlib.contextmanager
def server(
    peer: str,
    mode: str,
    core: int | None,
    connections: int,
    size: int = 0,
    certificate: Path | None = None,
) -> Iterator[Address]:
    """Run a server that is asked nothing; ``size`` of messages, if it must know."""
    with serving(peer, mode, core, connections, size, certificate) as (_, at):
        yield at


def load_arguments(at: Address, core: int | None, **settings: Any) -> list[object]:
    """Command line of the generator; settings are the fields of ``LoadConfig``."""
    arguments: list[object] = ["--address", at.address, "--port", at.port]
    arguments += ["--server-pid", at.pid]
    for name, value in settings.items():
        option = "--" + name.replace("_", "-")
        if value is True:
            arguments.append(option)
        elif value is not False:
            arguments += [option, value]
    if core is not None:
        arguments += ["--core", core]
    return arguments


def run_load(at: Address, core: int | None, **settings: Any) -> dict[str, Any]:
    """Load a server once; return the generator's figures."""
    return _run_generator("load", at, core, settings)


def run_courier(at: Address, core: int | None, **settings: Any) -> dict[str, Any]:
    """Send messages that a server echoes; settings are the fields of ``CourierConfig``."""
    return _run_generator("courier", at, core, settings)


def run_handshakes(at: Address, core: int | None, **settings: Any) -> dict[str, Any]:
    """Open connections over TLS; settings are the fields of ``HandshakesConfig``."""
    return _run_generator("handshakes", at, core, settings)


def _run_generator(
    name: str, at: Address, core: int | None, settings: dict[str, Any]
) -> dict[str, Any]:
    run_s = float(settings.get("warmup_s", 0)) + float(settings.get("measure_s", 0))
    with Child(name, *load_arguments(at, core, **settings)) as child:
        return child.answer(run_s + SLACK_S)


def run_scheduler(
    peer: str, core: int | None, count: int, repeats: int, suite: str
) -> dict[str, float]:
    """Measure a loop's scheduler once; return ns per operation by name."""
    arguments: list[object] = ["--peer", peer, "--count", count, "--repeats", repeats]
    arguments += ["--suite", suite]
    if core is not None:
        arguments += ["--core", core]
    with Child("scheduler", *arguments, ours=peers.is_ours(peer)) as child:
        return dict(child.answer(START_S + SLACK_S * repeats)["ns"])


def run_one_way(
    server: Child, at: Address, core: int | None, warmup_s: float, measure_s: float, **settings: Any
) -> tuple[dict[str, Any], dict[str, Any], float]:
    """Send messages without a pause: the accounts before and after, and the load's CPU (s).

    BenchError unless the server finally received exactly the messages that were sent.
    """
    settings |= {"one_way": True, "warmup_s": 0.0, "measure_s": ONE_WAY_S_MAX}
    _ask(server)  # the first answer pays for one-time setup
    with Child("courier", *load_arguments(at, core, **settings)) as load:
        load.answer(START_S)
        load.tell()
        time.sleep(warmup_s)
        _ask(server)  # what answering leaves in a busy server belongs to the warm-up, too
        first, load_from = _ask(server), load.cpu_s()
        time.sleep(measure_s)
        last, load_to = _ask(server), load.cpu_s()
        load.tell()
        sent = load.answer(SLACK_S)["requests_all"]
        _await_messages(server, sent)
        load.finish()
    return first, last, load_to - load_from


def _await_messages(server: Child, sent: int) -> None:
    deadline = time.monotonic() + SLACK_S
    while (received := _ask(server)["messages"]) != sent:
        if received > sent or time.monotonic() > deadline:
            raise BenchError(f"{sent} messages were sent, {received} were received")
        time.sleep(SETTLE_S)


def _ask(server: Child) -> dict[str, Any]:
    server.tell()
    return server.answer(SLACK_S)


def resident_bytes(pid: int) -> int:
    """Bytes of a process's memory that are in RAM."""
    try:
        return system.resident_bytes(pid)
    except OSError as error:
        raise BenchError(str(error)) from None


def settled_bytes(pid: int, timeout_s: float = 5.0) -> int:
    """Resident memory once it has stopped changing for a while (or the time is up)."""
    deadline = time.monotonic() + timeout_s
    last = resident_bytes(pid)
    while time.monotonic() < deadline:
        time.sleep(0.3)
        now = resident_bytes(pid)
        if now == last:
            break
        last = now
    return last
