"""Judges one kind of loop by the modules of a test package.

What fails is run once more, alone, and then once with the standard loop: so a record tells apart
what fails always, what fails sometimes, and what this machine makes fail. What is excluded is run,
too: an exclusion of a test that passes is a mistake.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import fnmatch
import importlib.util
import pathlib
from collections.abc import Callable, Iterable

from tests.cpython.child import Job
from tests.cpython.exclusions import HERE, Exclusion
from tests.cpython.processes import BAD, THIS_PYTHON, Interpreter, Module, Record, run_tests

EXCLUDED_LIMIT = 10.0
"""Seconds for an excluded test: it is only asked whether it passes."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to run, and on what."""

    kind: str = "zerio"
    """zerio, asyncio, uvloop or winloop"""
    provider: str | None = None
    package: str = "test.test_asyncio"
    limit: float = 30.0
    """Seconds for one test."""
    jobs: int = 2
    """Processes at the same time."""
    interpreter: Interpreter = THIS_PYTHON
    exclusions: tuple[Exclusion, ...] = HERE.exclusions
    collapsed: tuple[str, ...] = HERE.collapsed
    loopless: frozenset[str] = HERE.loopless

    def job(self, module: str, **changes: object) -> Job:
        job = Job(self.package, module, self.kind, self.provider, self.limit)
        return dataclasses.replace(job, **changes)  # type: ignore[arg-type]


@dataclasses.dataclass
class Verdict:
    """The modules, and what is wrong apart from single tests."""

    modules: list[Module]
    complaints: list[str]

    @property
    def records(self) -> list[Record]:
        return [record for module in self.modules for record in module.records]

    @property
    def about(self) -> dict[str, str]:
        """Versions of the Python and of the loop, and the system, as the first process told."""
        told = (module.about for module in self.modules if module.about)
        return next(told, dict.fromkeys(("python", "version", "system"), "unknown"))

    @property
    def good(self) -> bool:
        return not self.complaints and not any(r.outcome in BAD for r in self.records)


def modules_of(package: str) -> list[str]:
    """The test modules of a package, the long ones first; ``LookupError`` if it is not there."""
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"this Python has no package {package}")
    return modules_in(pathlib.Path(folder) for folder in spec.submodule_search_locations)


def modules_in(folders: Iterable[pathlib.Path]) -> list[str]:
    """The test modules in these folders, the long ones first."""
    found = {path.stem for folder in folders for path in folder.glob("test_*.py")}
    slow = ["test_ssl", "test_events", "test_subprocess", "test_sslproto", "test_tasks"]
    return sorted(found, key=lambda name: (slow.index(name) if name in slow else 9, name))


def judge(
    settings: Settings,
    modules: Iterable[str],
    finished: Callable[[Module], None] = lambda module: None,
) -> Verdict:
    """Run the modules; ``finished`` is told of each, in the order in which they end."""
    verdict = Verdict([], [])
    with concurrent.futures.ThreadPoolExecutor(settings.jobs) as pool:
        runs = [pool.submit(_judge_module, settings, module) for module in modules]
        for run in concurrent.futures.as_completed(runs):
            module = run.result()
            finished(module)
            verdict.modules.append(module)
            verdict.complaints += _complaints(settings, module)
    verdict.modules.sort(key=lambda module: module.name)
    return verdict


def _judge_module(settings: Settings, module: str) -> Module:
    patterns = [exclusion.pattern for exclusion in settings.exclusions]
    job = settings.job(module, left_out=[*patterns, *settings.collapsed])
    result = run_tests(job, settings.interpreter)
    for record in result.records:
        if record.outcome in BAD and record.name in result.found:
            _try_again(settings, module, record)
    result.records += _excluded(settings, result)
    return result


def _try_again(settings: Settings, module: str, record: Record) -> None:
    """Alone, and if that fails on the standard loop; changes the record accordingly."""

    def passes(kind: str) -> bool:
        job = settings.job(module, kind=kind, chosen=[record.name])
        again = run_tests(job, settings.interpreter).records
        return [one.outcome for one in again if one.name == record.name] == ["passed"]

    if passes(settings.kind):
        record.outcome, record.runs = "passed", 2
    elif settings.kind != "asyncio" and not passes("asyncio"):
        record.outcome = "baseline"


def _excluded(settings: Settings, result: Module) -> list[Record]:
    reasons = {
        name: exclusion.reason
        for exclusion in settings.exclusions
        for name in result.found
        if fnmatch.fnmatchcase(name, exclusion.pattern)
    }
    if not reasons:
        return []
    records = {name: Record(name, "excluded", detail=reason) for name, reason in reasons.items()}
    if settings.kind == "zerio":
        limit = min(EXCLUDED_LIMIT, settings.limit)
        job = settings.job(result.name, chosen=list(reasons), limit=limit)
        for record in run_tests(job, settings.interpreter).records:
            if record.name in records and record.outcome not in BAD:
                records[record.name].outcome = f"excluded, but {record.outcome}"
    return list(records.values())


def _complaints(settings: Settings, module: Module) -> list[str]:
    found = [
        f"{record.name} is excluded without need: it {record.outcome.rpartition(' ')[2]}"
        for record in module.records
        if record.outcome.startswith("excluded, but")
    ]
    if module.skipped is None:
        made = sum(record.loops for record in module.records)
        if not made and module.name not in settings.loopless:
            found.append(f"{module.name} never made a loop of {settings.kind}")
        if not any(record.outcome == "passed" for record in module.records):
            found.append(f"{module.name} has no test that passed")
    return found
