"""What a newcomer is told to do can be done: commands name what exists, pictures are of today."""

from __future__ import annotations

import importlib.util
import re
import subprocess

import pytest

from .sources import ROOT

CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
CI = ROOT / ".ci" / "run"


def ci(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(CI), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


@pytest.fixture(scope="module")
def steps() -> dict[str, str]:
    done = ci("--list")
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert len({name for name, _ in lines}) == len(lines), "a name is one step's"
    return dict(lines)


def test_all_steps_of_ci_can_be_named(steps):
    """What begins beside others begins by its name; of other Pythons there may be several."""
    text = CI.read_text(encoding="utf-8").partition("- run\n")[2]
    begun = re.findall(r"^ *(step|beside) ", text, re.MULTILINE)
    assert begun.count("beside") == 1
    assert begun.count("step") + begun.count("beside") == len(steps)
    assert {"readme", "others", "ruff", "docs"} <= set(steps)


def test_a_step_that_is_none_is_refused():
    done = ci("ruff", "no-such-step")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no-such-step" in done.stderr
    assert "--list" in done.stderr


def test_the_guide_names_steps_of_ci(steps):
    named = set(re.findall(r"\.ci/run ([a-z][a-z-]*)", CONTRIBUTING))
    assert named <= set(steps)
    assert named


def test_the_guides_commands_name_what_exists():
    paths = set(re.findall(r"\b(?:tests|docs|examples)/[\w./]*\w", CONTRIBUTING))
    assert [path for path in paths if not (ROOT / path).exists()] == []
    modules = set(re.findall(r"python -m ((?:tests|zerio_asyncio)[\w.]*)", CONTRIBUTING))
    assert modules
    for module in modules:
        assert (ROOT / module.replace(".", "/") / "__main__.py").exists(), module


def test_the_guide_names_ten_things():
    assert re.findall(r"^\| (\d+) \|", CONTRIBUTING, re.MULTILINE) == [
        str(number) for number in range(1, 11)
    ]


def test_the_picture_shows_the_figures_of_its_page():
    spec = importlib.util.spec_from_file_location("picture", ROOT / "docs" / "picture.py")
    assert spec is not None
    assert spec.loader is not None
    picture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(picture)
    assert picture.PICTURE.read_text(encoding="utf-8") == picture.draw()
