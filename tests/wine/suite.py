"""Run files of tests under Wine, several to a process, and count what they say."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.apps import servers

from . import wine
from .batches import Batch, run_batch
from .places import Places, RigError

# One line a file; what is here is known to pass under Wine, and has to. A word with "!" before it
# is in the name of a test that does not.
GREEN = Path(__file__).resolve().parent / "green.txt"
# The same for the provider `winsock` on the Registered I/O of fake_rio.c.
WINSOCK = GREEN.with_name("winsock.txt")

WANTS_POSTGRES = ("tests/loop/test_windows_libraries.py",)

FILES_A_PROCESS = 6
PROCESSES = min(2, os.cpu_count() or 1)


@dataclass
class Outcome:
    """Of one file of tests."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    again: list[str] = field(default_factory=list)
    """What failed at first, and passed when it was run alone."""
    details: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether something ran and nothing failed."""
        return not self.failed and self.passed + self.skipped > 0


def green(names: Path) -> dict[str, list[str]]:
    """The files in ``names``, which are known to pass, each with words of tests that do not."""
    found = {}
    for line in names.read_text().splitlines():
        name, *known = line.partition("#")[0].split() or [""]
        if name:
            found[name] = [word.removeprefix("!") for word in known]
    return found


def files(places: Places, named: list[str]) -> list[str]:
    """Each file of tests that ``named`` (files, folders, or a file with ``::test``) means."""
    found = []
    for one in named:
        path = places.site / one.partition("::")[0]
        if path.is_dir():
            inside = sorted(path.rglob("test_*.py"))
            found += [str(file.relative_to(places.site)) for file in inside]
        elif path.is_file():
            found.append(one)
        else:
            raise RigError(f"{one}: there is no such file of tests")
    return found


def outcomes(batch: Batch) -> list[Outcome]:
    """What the batch came to, by file."""
    found = {name.partition("::")[0]: Outcome(name) for name in batch.names}
    for record in batch.records:
        outcome = found[record.name.partition("::")[0]]
        setattr(outcome, record.outcome, getattr(outcome, record.outcome) + 1)
        if record.runs > 1:
            outcome.again.append(record.name)
            outcome.details.append(f"AT FIRST {record.name}\n{record.detail}")
        if record.outcome == "failed":
            outcome.details.append(f"FAILED {record.name}\n{record.detail}")
    return list(found.values())


def show(shown: list[Outcome]) -> None:
    """Print the table."""
    width = max((len(one.name) for one in shown), default=0)
    print(f"\n{'':{width}}  passed  failed  skipped")
    for one in shown:
        none = "" if one.good or one.failed else "  nothing ran"
        print(f"{one.name:{width}}{one.passed:8}{one.failed:8}{one.skipped:9}{none}")
    total = [sum(getattr(one, key) for one in shown) for key in ("passed", "failed", "skipped")]
    print(f"{'all':{width}}{total[0]:8}{total[1]:8}{total[2]:9}")
    for name in [name for one in shown for name in one.again]:
        print(f"passed when it was run again, alone: {name}")


def batches(names: list[str], known: dict[str, list[str]], options: list[str]) -> list[Batch]:
    """The files in turn, so that neighbours, which are alike, do not meet in one process."""
    number = max(-(-len(names) // FILES_A_PROCESS), min(PROCESSES, len(names)))
    return [
        Batch(names[first::number], {name: known.get(name, []) for name in names}, options)
        for first in range(number)
    ]


@contextlib.contextmanager
def database(names: list[str]) -> Iterator[None]:
    """A PostgreSQL of this system, on loopback, for what asks for one."""
    if not any(name.partition("::")[0] in WANTS_POSTGRES for name in names):
        yield
        return
    try:
        servers.program("initdb", servers.POSTGRES)
    except AssertionError as error:
        raise RigError(f"psycopg wants a server: {error}") from None
    with servers.Postgres() as server:
        os.environ["ZERIO_TEST_POSTGRES"] = (
            f"host=127.0.0.1 port={server.port} user={server.USER} dbname=postgres"
        )
        yield


def run_all(places: Places, named: list[str], options: list[str], fake_rio: bool) -> bool:
    """Run every file; whether all of them are good.

    ``named`` may have lists among its files, each with a name that ends in ``.txt``.
    """
    if not places.site.exists():
        raise RigError(f"nothing is built in {places.cache}: run python -m tests.wine build")
    began = time.monotonic()
    names = GREEN
    os.environ.setdefault("ZERIO_PROVIDER", "overlapped")  # the best one is refused by Wine
    if fake_rio:
        names = WINSOCK
        os.environ["ZERIO_PROVIDER"] = "winsock"
        options = [*options, "-p", "tests.wine.fake_rio"]
    known: dict[str, list[str]] = {}
    for one in named or [str(names)]:
        known.update(green(Path(one)) if one.endswith(".txt") else {one: []})
    work = batches(files(places, list(known)), known, options)
    places.results.mkdir(parents=True, exist_ok=True)

    def run(number: int) -> list[Outcome]:
        run_batch(places, work[number], places.results / f"{number}.log")
        told = outcomes(work[number])
        for one in told:
            print(
                "\n".join([*one.details, f"{one.name}: {one.passed} passed, {one.failed} failed"])
            )
        print(end="", flush=True)
        return told

    with database(list(known)), wine.server(places), ThreadPoolExecutor(PROCESSES) as workers:
        told = [one for some in workers.map(run, range(len(work))) for one in some]
    show(sorted(told, key=lambda one: one.name))
    print(f"in {time.monotonic() - began:.0f} s")
    return all(one.good for one in told)
