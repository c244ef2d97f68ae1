"""The workflows for hosted machines say what is so: what they name exists, and they ask for little.

They cannot run here; that they are valid is all the more to be checked.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from .sources import ROOT

yaml = pytest.importorskip("yaml", reason="needs pyyaml, of the extra test")

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
WINDOWS = (ROOT / "docs" / "windows.md").read_text(encoding="utf-8")


def parsed(path: Any) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.stem}.{name}", job) for path in FILES for name, job in parsed(path)["jobs"].items()
    ]


JOBS = jobs()
COMMANDS = "\n".join(step["run"] for _, job in JOBS for step in job["steps"] if "run" in step)


def test_both_are_there():
    assert [path.stem for path in FILES] == ["tests", "wheels"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_they_may_only_read(path):
    flow = parsed(path)
    assert flow["permissions"] == {"contents": "read"}
    assert flow["concurrency"]["cancel-in-progress"] is True
    assert "secrets." not in path.read_text(encoding="utf-8")
    assert not any("permissions" in job for job in flow["jobs"].values())


@pytest.mark.parametrize("job", [job for _, job in JOBS], ids=[name for name, _ in JOBS])
def test_jobs_end_and_take_actions_of_a_known_major_version(job):
    assert job["timeout-minutes"] <= 60
    for step in job["steps"]:
        assert ("run" in step) != ("uses" in step)
        if "uses" in step:
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])


def paths(text: str) -> set[str]:
    found = re.findall(r"\b(?:tests|examples|docs|zerio_asyncio)[\\/][\w./\\-]*\w", text)
    return {path.replace("\\", "/") for path in found}


def test_what_they_run_exists():
    named = paths(COMMANDS)
    assert len(named) >= 6
    assert [path for path in named if not (ROOT / path).exists()] == []
    modules = set(re.findall(r"python -m ((?:tests|zerio_asyncio)[\w.]*)", COMMANDS))
    assert modules >= {"tests.wine", "tests.cpython", "zerio_asyncio"}
    for module in modules:
        assert (ROOT / module.replace(".", "/") / "__main__.py").exists(), module


def test_the_readmes_line_is_found():
    (pattern,) = re.findall(r"grep -E '(.*?)' README.md", COMMANDS)
    assert len(re.findall(pattern, README, re.MULTILINE)) == 1


def test_they_cover_the_pythons_that_the_package_claims():
    claimed = set(re.findall(r"Python :: (3\.\d+)", PYPROJECT))
    wheels = {f"3.{minor}" for minor in re.findall(r'"cp3(\d+)-\*"', PYPROJECT)}
    free = {f"3.{minor}t" for minor in re.findall(r'"cp3(\d+)t-\*"', PYPROJECT)}
    matrices = [
        set(job["strategy"]["matrix"]["python"])
        for _, job in JOBS
        if "python" in job.get("strategy", {}).get("matrix", {})
    ]
    assert len(matrices) == 3
    assert free in matrices
    matrices.remove(free)
    for matrix in matrices:
        assert matrix == wheels
        assert matrix >= claimed


def test_the_page_about_windows_runs_what_the_workflow_runs():
    """The two commands for one's own machine are the hosted machine's."""
    (windows,) = (job for name, job in JOBS if name == "tests.windows")
    hosted = paths("\n".join(step.get("run", "") for step in windows["steps"]))
    (block,) = re.findall(r"```powershell\n(.*?)```", WINDOWS, re.DOTALL)
    assert paths(block) == hosted
