"""Steps, and how they are run so that none can hurt another.

The steps of one group run one after the other in a child process (child.py), which says on its
standard output when each begins and how it ended. A step that takes too long is ended with its
process, a crash has ended its process already: both are what became of that step, and a new process
goes on behind it. No step builds on an earlier one.
"""

from __future__ import annotations

import enum
import json
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

STEP_SECONDS = 15.0
"""A step's limit. Its own waits are shorter (`provider_steps.PATIENCE`), so this one ends what
hangs in a system call."""

START_SECONDS = 60.0
"""Until a process has begun its first step: Python's start on a busy machine, or under Wine."""

CHILD = (sys.executable, "-m", "zerio_asyncio.doctor.child")
"""The command line of a child, without its arguments."""

_TOLD_MAX = 2000  # characters of what a crashed process wrote


class Status(str, enum.Enum):
    """How a step ended."""

    OK = "ok"
    FAILED = "failed"
    HUNG = "hung"
    CRASHED = "crashed"
    REFUSED = "refused"
    """The system does not have it, or forbids it; the steps behind this one are left out."""
    AGREES = "agrees"
    DIFFERS = "differs"
    UNTRIED = "untried"
    """A fact that this machine could not be asked for."""


BAD = frozenset({Status.FAILED, Status.HUNG, Status.CRASHED})


@dataclass(frozen=True)
class Finding:
    """What a step found out, where that is more than that all went well."""

    status: Status
    told: str = ""


@dataclass(frozen=True)
class Step:
    """One thing to try. ``run`` returns what is worth telling, and raises if it fails."""

    name: str
    run: Callable[[], str | Finding]


@dataclass(frozen=True)
class Outcome:
    """What became of a step."""

    name: str
    status: Status
    told: str
    ms: float


@dataclass
class Group:
    """Steps that belong together, by the function that makes them.

    ``steps`` is ``module:function``, called with ``argument``; it is called in each child, so the
    list it returns must always be the same one.
    """

    name: str
    steps: str
    argument: str = ""
    outcomes: list[Outcome] = field(default_factory=list)


def run(
    group: Group,
    *,
    child: Sequence[str] | None = None,
    step_seconds: float = STEP_SECONDS,
    start_seconds: float = START_SECONDS,
) -> Iterator[Outcome]:
    """Run a group's steps and yield each outcome as it comes; they are also kept in the group."""
    first = 0
    more = True
    while more:
        command = [*(child or CHILD), group.steps, group.argument, str(first)]
        with _Process(command) as process:
            for outcome in process.outcomes(step_seconds, start_seconds):
                first += 1
                group.outcomes.append(outcome)
                yield outcome
            more = process.cut_short


@final
class _Process:
    """A child, and its lines as they come."""

    def __init__(self, command: Sequence[str]) -> None:
        self.cut_short = False
        """Whether a step has ended the process, so that another one can go on behind it."""
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(  # noqa: S603 - this Python itself
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self, stream: IO[str]) -> None:
        self._errors.extend(stream)

    def outcomes(self, step_seconds: float, start_seconds: float) -> Iterator[Outcome]:
        """Yield an outcome for each step, until the last one or one that ends the process."""
        name, seconds = "start of the process", start_seconds
        while True:
            try:
                line = self._lines.get(timeout=seconds)
            except queue.Empty:
                yield Outcome(name, Status.HUNG, f"ended after {seconds:g} s", seconds * 1000)
                return
            if line is None:
                yield Outcome(name, Status.CRASHED, self._last_words(), 0.0)
                return
            said = _parse(line)
            if said is None:
                continue  # a library's print
            if "end" in said:
                self.cut_short = False
                return
            if "status" in said:
                yield Outcome(name, Status(said["status"]), said["told"], said["ms"])
            else:
                name, seconds = said["begin"], step_seconds
                self.cut_short = True

    def _last_words(self) -> str:
        status = self._process.wait()
        self._readers[1].join()
        lines = "".join(self._errors).strip().splitlines()
        return f"the process ended with {status}: {' | '.join(lines)[-_TOLD_MAX:]}"

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()


def _parse(line: str) -> dict[str, Any] | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None
