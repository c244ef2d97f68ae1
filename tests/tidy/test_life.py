"""The picture of a transport's life in docs/design.md is the one that its table gives."""

from __future__ import annotations

from .life import PAGE, PLACE, drawn, picture


def test_the_page_shows_what_is_drawn():
    (shown,) = PLACE.findall(PAGE.read_text(encoding="utf-8"))
    assert shown == drawn(), "run python -m tests.tidy.life --write"


def test_an_arrow_beside_the_line():
    assert picture({"A": {"B": "", "C": "why"}, "B": {"C": ""}, "C": {}}) == [
        "A ──▶ B ──▶ C",
        "│           ▲",
        "└── why ────┘",
    ]
