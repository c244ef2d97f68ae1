"""How sure a ratio is: its interval by bootstrap over the rounds.

A round measures every peer once, so two peers' samples of a round belong together: what disturbed
one may have disturbed the other. The rounds are drawn again with replacement, a thousand times,
and each drawing has a ratio of medians; of these the middle 95 % are the interval. The draws are
the same each time, so equal samples have equal intervals.
"""

from __future__ import annotations

import random
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DRAWS = 1000
SHARE = 0.95
"""Of the drawn ratios, in the interval."""

FEWEST = 3
"""Rounds from which on there is an interval."""

Interval = tuple[float, float]


def drawn_ratios(mine: Sequence[float], other: Sequence[float]) -> list[float] | None:
    """Ratios of medians of rounds drawn again; None if there are too few, or not as many."""
    rounds = len(mine)
    if rounds != len(other) or rounds < FEWEST or min(other) <= 0:
        return None
    draw = random.Random(rounds)  # not a secret
    ratios = []
    for _ in range(DRAWS):
        chosen = draw.choices(range(rounds), k=rounds)
        above = statistics.median(mine[index] for index in chosen)
        ratios.append(above / statistics.median(other[index] for index in chosen))
    return ratios


def middle(values: Sequence[float]) -> Interval:
    """The middle `SHARE` of the values."""
    ordered = sorted(values)
    outside = round(len(ordered) * (1 - SHARE) / 2)
    return ordered[outside], ordered[-1 - outside]


def of_ratio(mine: Sequence[float], other: Sequence[float]) -> Interval | None:
    """The interval of the ratio of two peers' medians, from samples of the same rounds."""
    ratios = drawn_ratios(mine, other)
    return None if ratios is None else middle(ratios)
