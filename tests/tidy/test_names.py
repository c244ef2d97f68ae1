"""One hop from a name of C to its file: the rule of names in rio, held.

- A function or variable of C is named after its file: ``ring_open`` stands in ``ring.c`` or
  ``ring.h``. Where two files could be meant (``uring.c``, ``uring_watch.c``), the longer name is.
- ``ring__map``, with two underscores, is private: static, and used in ``ring.c`` alone. Whatever is
  static in a source is named so.
- What rio.h declares has the contract's prefix, ``rio_``, wherever it is defined.
- Files of different systems have the same name where they have the same role.
- No module of C leads in a circle to itself, and none to a room above it.
"""

from __future__ import annotations

import re

import pytest

from . import graph
from .sources import PACKAGE

UNITS = graph.units()
CONTRACT = set(re.findall(r"\b(rio_\w+)\(", (PACKAGE / "rio" / "rio.h").read_text()))
MODULES = sorted(key for key in UNITS if key != "rio")


def home(unit: graph.Unit, name: str) -> str:
    """The file that a name is of, among those that this one's room knows."""
    known = {other.name for other in UNITS.values() if other.room in {unit.room, "table", "rio"}}
    owners = [stem for stem in known if name == stem or name.startswith(f"{stem}_")]
    return max(owners, key=len, default="")


@pytest.mark.parametrize("module", MODULES)
def test_names_are_their_files(module):
    unit = UNITS[module]
    strangers = {name: home(unit, name) for name in unit.public - CONTRACT}
    assert {name: stem for name, stem in strangers.items() if stem != unit.name} == {}


@pytest.mark.parametrize("module", MODULES)
def test_private_names_are_their_files_and_nobody_elses(module):
    unit = UNITS[module]
    assert {name for name in unit.private if not name.startswith(f"{unit.name}__")} == set()
    assert {name for name in unit.public if "__" in name} == set(), "to be static"
    theirs = {name for other in UNITS.values() if other is not unit for name in other.private}
    assert theirs & unit.words - unit.private == set()


def test_the_readers_find_names():
    """A reader that sees nothing would let everything pass."""
    ring = UNITS["linux/ring"]
    assert {"ring_open", "ring_next", "ring_thread"} <= ring.public
    assert {"ring__map", "ring__ladder"} <= ring.private
    assert {"uring_provider"} <= UNITS["linux/uring"].public
    assert {"winsock_table", "winsock_table_replace"} <= UNITS["windows/winsock_table"].public
    assert {"fork__era", "fork__mark"} <= UNITS["linux/fork"].private
    assert {"rio_errno", "rio_providers"} <= CONTRACT
    assert all(unit.public or unit.private for unit in UNITS.values() if unit.c)


def test_systems_have_the_same_files_for_the_same_roles():
    roles = {
        system: {unit.name for unit in UNITS.values() if unit.room == system}
        for system in ("linux", "windows")
    }
    assert {"providers", "sockets", "entries"} <= roles["linux"] & roles["windows"]
    for role in ("accept", "connect", "watch"):
        assert role in roles["linux"], "what both providers share"
        for owner in ("linux/epoll", "linux/uring", "windows/iocp"):
            module = f"{owner}_{role}"
            assert module.rpartition("/")[2] in UNITS[module].public, "the entry of the port"


def test_c_has_no_circles():
    assert graph.circles(graph.graph_of_c()) == []


def test_arrows_of_c_lead_down():
    assert graph.back_up(graph.graph_of_c(), graph.ROOMS, graph.ROOM) == []


def test_circles_are_found():
    ring = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert graph.circles(ring) == [["a", "b", "c"]]
    assert graph.circles({**ring, "c": set()}) == []
    assert graph.back_up({"core.x": {"loop.y"}}, ["core", "loop"], re.compile(r"(\w+)\.")) != []


def test_uses_are_found(tmp_path):
    """By a call, by an include; not by a prototype, a member's name, a comment."""
    texts = {
        "low.h": "#include <stdint.h>\n\nint low_a(void);\nint high_b(void);\n",
        "low.c": '#include "low.h"\n\nint low_a(void)\n{\n    return x.high_b; /* high_b */\n}\n',
        "high.c": '#include "low.h"\n\nint high_b(void)\n{\n    return low_a();\n}\n',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert graph.graph_of_c(tmp_path) == {"low": set(), "high": {"low"}}
    (tmp_path / "low.c").write_text("int low_a(void)\n{\n    return high_b();\n}\n")
    assert graph.circles(graph.graph_of_c(tmp_path)) == [["high", "low"]]
