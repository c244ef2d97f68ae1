"""Draws the life of a transport from its table, for docs/design.md.

    python -m tests.tidy.life           shows it
    python -m tests.tidy.life --write   puts it where the page has it

The states of a table that follow each other stand in one line; arrows that leave some out go below
it, and what brings each arrow about follows.
"""

from __future__ import annotations

import re
import sys

from zerio_asyncio.core.life import LIFE, READING

from .sources import ROOT

PAGE = ROOT / "docs" / "design.md"
BEGIN = "<!-- drawn by python -m tests.tidy.life -->\n```\n"
PLACE = re.compile(re.escape(BEGIN) + r"(.*?)```\n", re.DOTALL)

Table = dict[str, dict[str, str]]

ARROW = " ──▶ "


def middle_of(states: list[str]) -> dict[str, int]:
    """The columns of the states' middles, in one line."""
    columns, start = {}, 0
    for state in states:
        columns[state] = start + len(state) // 2
        start += len(state) + len(ARROW)
    return columns


def picture(table: Table) -> list[str]:
    states = list(table)
    columns = middle_of(states)
    beside = [
        (state, other)
        for state, others in table.items()
        for other in others
        if states.index(other) != states.index(state) + 1
    ]
    lines = [ARROW.join(states)]
    if beside:
        (target,) = {other for _, other in beside}  # one place that is jumped to is what there is
        end = columns[target]
        left = [columns[state] for state, _ in beside]
        lines.append(
            "".join("▲" if n == end else "│" if n in left else " " for n in range(end + 1))
        )
        for state, _ in reversed(beside):
            left.remove(columns[state])
            line = ["│" if n in left else " " for n in range(columns[state])]
            label = f"└── {table[state][target]} "
            stroke = "─" * (end - columns[state] - len(label))
            lines.append("".join(line) + label + stroke + ("┤" if left else "┘"))
    return lines


def causes(table: Table) -> list[str]:
    steps = [(f"{a} ─▶ {b}", why) for a, others in table.items() for b, why in others.items()]
    width = max(len(step) for step, _ in steps)
    return [f"{step:{width}}   {why}" for step, why in steps]


def drawn() -> str:
    parts = []
    for table in (LIFE, READING):
        parts += [*picture(table), "", *causes(table), ""]
    return "".join(f"   {line}".rstrip() + "\n" for line in parts[:-1])


def main() -> None:
    if "--write" in sys.argv:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(PLACE.sub(lambda _: f"{BEGIN}{drawn()}```\n", text), encoding="utf-8")
    print(drawn(), end="")


if __name__ == "__main__":
    main()
