"""Draws docs/results/echo.svg from the first table of docs/performance.md: python docs/picture.py.

Each row has a bar for each server. It is plain SVG, so that a difference can be read; a test in
tests/tidy compares the file with what this makes of the page.
"""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PICTURE = HERE / "results" / "echo.svg"

ROWS = (
    "protocol, 1 KiB × 50",
    "protocol, 1 KiB × 500",
    "protocol, 64 KiB × 50",
    "streams, 1 KiB × 50",
    "sock, 1 KiB × 50",
    "datagram, 1 KiB × 50",
    "uvicorn, 13 B × 50",
    "tls, 1 KiB × 50",
)
COLOURS = ("#9a9a9a", "#c8a165", "#1f6feb", "#76a9f5", "#d0d0d0")

WIDTH, LEFT, RIGHT = 760, 170, 60  # pixels
BAR, GAP, TOP = 13, 14, 40


def table() -> tuple[list[str], dict[str, list[str]]]:
    """Read the names of the servers, and each row's figures in µs; an empty cell has none."""
    page = (HERE / "performance.md").read_text(encoding="utf-8")
    lines = [line for line in page.split("\n\n|", 1)[1].split("\n\n", 1)[0].splitlines() if line]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    figures = {}
    for row in cells[2:]:
        figures[row[0]] = [re.sub(r"[^\d.].*", "", cell) for cell in row[1:]]
    return cells[0][1:], figures


def draw() -> str:
    """Return the picture."""
    servers, figures = table()
    scale = (WIDTH - LEFT - RIGHT) / max(float(v or 0) for row in ROWS for v in figures[row])
    parts, y = [], TOP
    for place, server in enumerate(servers):
        x = LEFT + place * 105
        parts.append(f'<rect x="{x}" y="12" width="12" height="12" fill="{COLOURS[place]}"/>')
        parts.append(f'<text x="{x + 18}" y="22">{server}</text>')
    for row in ROWS:
        values = [(place, value) for place, value in enumerate(figures[row]) if value]
        middle = y + BAR * len(values) / 2 + 4
        parts.append(f'<text x="{LEFT - 10}" y="{middle:g}" text-anchor="end">{row}</text>')
        for place, value in values:
            width = round(float(value) * scale, 1)
            parts.append(
                f'<rect x="{LEFT}" y="{y}" width="{width}" height="{BAR - 2}" '
                f'fill="{COLOURS[place]}"/>'
            )
            parts.append(f'<text x="{LEFT + width + 5:g}" y="{y + 10}">{value} µs</text>')
            y += BAR
        y += GAP
    lines = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" '
        f'font-family="sans-serif" font-size="12" fill="#222">\n'
        f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>\n{lines}\n</svg>\n'
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
