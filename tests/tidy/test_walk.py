"""The walks of docs/design.md lead through files and functions that are there."""

from __future__ import annotations

import re

import pytest

from .sources import PACKAGE, ROOT

PAGE = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
WALK = PAGE[PAGE.index("\n## A walk\n") : PAGE.index("\n## Words\n")]
STATIONS = re.findall(r"^\| `([\w./]+)` \| (`[^|]*) \|", WALK, re.MULTILINE)


def text_of(name: str) -> str:
    if "." in name:
        return (PACKAGE / name).read_text(encoding="utf-8")
    paths = [PACKAGE / "core" / f"{name}.{suffix}" for suffix in ("pyx", "pxd")]
    return "".join(path.read_text(encoding="utf-8") for path in paths if path.exists())


@pytest.mark.parametrize(("file", "functions"), STATIONS)
def test_a_station_is_there(file, functions):
    text = text_of(file)
    for function in re.findall(r"`(?:\w+\.)?(\w+)`", functions):
        assert re.search(rf"^[ \t]*\w.*\b{function}\(", text, re.MULTILINE), function


def test_none_is_visited_twice():
    for walk in re.split(r"^\*\*", WALK, flags=re.MULTILINE)[1:]:
        stations = re.findall(r"^\| `([\w./]+)` \| (`[^|]*) \|", walk, re.MULTILINE)
        seen = [
            (file, name) for file, names in stations for name in re.findall(r"`([\w.]+)`", names)
        ]
        assert len(seen) == len(set(seen)) > 4
