"""The module graph: who includes, calls or imports whom, and the circles in it.

``python -m tests.tidy.graph`` prints it for the C sources of rio and for the Python and Cython
modules; ``--arrows`` adds every arrow, ``--types`` what Python imports for its types alone. A
folder of C sources to read may be named, for a comparison with another tree.

A C module is a source with its header, named by their stem. One leads to another when it includes
the other's header, or when it names a function or variable that the other defines. The sources are
uniform, so that regular expressions can read them: definitions begin in the first column, and a
function's brace stands alone in the first column of the next line.
"""

from __future__ import annotations

import argparse
import pathlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .sources import PACKAGE, imports, module_of, with_suffix

RIO = PACKAGE / "rio"
GENERATED = "_rio.c"

FUNCTION = re.compile(
    r"^(?!typedef\b|else\b|#)((?:[A-Za-z_]\w*(?:\([^()\n]*\))?[ *\n]+)+)\**(\w+)\(([^;{}]*?)\)\n\{",
    re.MULTILINE,
)
VARIABLE = re.compile(
    r"^(?!typedef\b|extern\b|enum\b[^=;]*\{|struct\b[^=;]*\{)"
    r"((?:[A-Za-z_]\w*(?:\([^()\n]*\))?[ *]+)+)\**(\w+)(?:\[[^]\n]*\])*(?: =[^=]|;)",
    re.MULTILINE,
)
# What a header says that others define: no use of it.
PROTOTYPE = re.compile(
    r"^(?!typedef\b|static\b|#)(?:[A-Za-z_]\w*[ *\n]+)+\**\w+\([^;{}]*?\);|^extern [^;]*;",
    re.MULTILINE,
)
INCLUDE = re.compile(r'^#include "(?:[\w./]*/)?(\w+)\.h"', re.MULTILINE)

Graph = Mapping[str, set[str]]

# The parts of the package, lowest first: an arrow from one to a later one leads up.
LEVELS = ["rio", "core", "loop", "messaging", "bench"]
ROOMS = ["", "table", "linux", "windows"]


def without_comments(text: str) -> str:
    """The same lines, with blanks for comments and the contents of strings."""
    text = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.DOTALL)
    lines = [
        line if line.startswith("#include") else re.sub(r'"(?:\\.|[^"\\\n])*"', '""', line)
        for line in text.split("\n")
    ]
    return "\n".join(lines)


@dataclass
class Unit:
    """One C module: what it defines, private or for others, and what it names."""

    room: str
    name: str
    files: list[pathlib.Path] = field(default_factory=list)
    text: str = ""
    public: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    includes: set[str] = field(default_factory=set)

    def add(self, path: pathlib.Path) -> None:
        text = without_comments(path.read_text(encoding="utf-8"))
        self.files.append(path)
        self.text += text
        self.includes |= set(INCLUDE.findall(text))
        for definition in (FUNCTION, VARIABLE):
            for match in definition.finditer(text):
                hidden = re.match(r"static\b", match[1]) and path.suffix == ".c"
                (self.private if hidden else self.public).add(match[2])

    @property
    def c(self) -> bool:
        """It has a source, not a header alone."""
        return any(path.suffix == ".c" for path in self.files)

    @property
    def words(self) -> set[str]:
        """Names that are no members of a structure."""
        text = re.sub(r"(?:\.|->|\(\*|RIO_CALL \*)\w+", " ", PROTOTYPE.sub("", self.text))
        return set(re.findall(r"\w+", text))


def units(folder: pathlib.Path = RIO) -> dict[str, Unit]:
    """The C modules below a folder, each as ``room/name``."""
    found: dict[str, Unit] = {}
    for path in sorted([*folder.rglob("*.h"), *folder.rglob("*.c")]):
        if path.name == GENERATED:
            continue
        room = path.parent.relative_to(folder).as_posix()
        key = path.stem if room == "." else f"{room}/{path.stem}"
        found.setdefault(key, Unit("" if room == "." else room, path.stem)).add(path)
    return found


def graph_of_c(folder: pathlib.Path = RIO) -> dict[str, set[str]]:
    """Rooms of two systems have files of one name: each means its own, and what is shared."""
    modules = units(folder)

    def may_mean(one: Unit, other: Unit) -> bool:
        return other.room in {one.room, "table", ""} or one.room in {"table", ""}

    graph: dict[str, set[str]] = {}
    for key, unit in modules.items():
        words = unit.words
        graph[key] = {
            other
            for other, goal in modules.items()
            if other != key
            and may_mean(unit, goal)
            and (goal.name in unit.includes or goal.public & words)
        }
    return graph


def graph_of_python(package: str = PACKAGE.name, types: bool = False) -> dict[str, set[str]]:
    """Module by module, a package being its ``__init__``, what it imports, at its top or later."""
    sources: dict[str, list[pathlib.Path]] = {}
    for path in with_suffix(".py", ".pyx", ".pxd", ".pyi", under=f"{package}/"):
        sources.setdefault(module_of(path), []).append(path)
    graph = {}
    for module, paths in sources.items():
        named = {name for path in paths for name in imports(path, types)}
        taken: dict[str, set[str]] = {}
        for name in named:
            taken.setdefault(name.rpartition(".")[0], set()).add(name)
        graph[module] = {
            name
            for name in named & sources.keys() - {module}
            # `from package import module` is about the module, not about the package.
            if name not in taken or taken[name] - sources.keys()
        }
    return graph


def part_of(module: str) -> str:
    """The part of the package that a module is in: ``core``."""
    return module.split(".")[1] if "." in module else ""


def circles(graph: Graph) -> list[list[str]]:
    """Groups of modules that all lead to each other (Tarjan), largest first."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for goal in sorted(graph[node]):
            if goal not in index:
                visit(goal)
                low[node] = min(low[node], low[goal])
            elif goal in stack:
                low[node] = min(low[node], index[goal])
        if low[node] == index[node]:
            place = stack.index(node)
            group = sorted(stack[place:])
            del stack[place:]
            if len(group) > 1:
                found.append(group)

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(found, key=lambda group: (-len(group), group))


def back_up(graph: Graph, levels: list[str], level: re.Pattern[str]) -> list[tuple[str, str]]:
    """Arrows from a lower part to a higher one."""

    def height(module: str) -> int:
        match = level.match(module)
        name = match[1] or "" if match else ""
        return levels.index(name) if name in levels else len(levels)

    return [
        (node, goal)
        for node in sorted(graph)
        for goal in sorted(graph[node])
        if height(node) < height(goal)
    ]


ROOM = re.compile(r"(?:(\w+)/)?\w+$")
PART = re.compile(r"zerio_asyncio\.(\w+)")


def report(title: str, graph: Graph, up: Iterable[tuple[str, str]], arrows: bool) -> str:
    upward = list(up)
    groups = circles(graph)
    count = sum(len(goals) for goals in graph.values())
    lines = [
        f"{title}: {len(graph)} modules, {count} arrows, {len(upward)} up, {len(groups)} circles"
    ]
    lines += [f"  up      {node} -> {goal}" for node, goal in upward]
    lines += [f"  circle  {' <-> '.join(group)}" for group in groups]
    if arrows:
        lines += [f"  {node}: {' '.join(sorted(graph[node])) or '-'}" for node in sorted(graph)]
    return "\n".join(lines)


def main() -> None:
    reader = argparse.ArgumentParser(prog="python -m tests.tidy.graph", description=__doc__)
    reader.add_argument("folder", nargs="?", type=pathlib.Path, default=RIO, help="of C sources")
    reader.add_argument("--arrows", action="store_true", help="print every arrow")
    reader.add_argument("--types", action="store_true", help="imports for types, too")
    chosen = reader.parse_args()
    c = graph_of_c(chosen.folder)
    print(report("C", c, back_up(c, ROOMS, ROOM), chosen.arrows))
    if chosen.folder == RIO:
        python = graph_of_python(types=chosen.types)
        print(report("Python", python, back_up(python, LEVELS, PART), chosen.arrows))


if __name__ == "__main__":
    main()
