"""How a loop waits for work: it sleeps, it polls, or it polls before it sleeps.

``block``      sleeps until the kernel wakes it. Costs nothing while there is nothing to do.
``spin``       never sleeps. It sees an event at once, and always uses a whole core.
``hybrid(µs)`` polls for that many microseconds after the last event, then sleeps. For traffic that
               comes in bursts; ``hybrid`` alone means `HYBRID_US`.

While polling, the thread does not hold the GIL; it checks for signals every millisecond.
"""

from __future__ import annotations

import os
import re

ENVIRONMENT = "ZERIO_WAIT"
"""The environment variable that names the strategy if the program does not."""

BLOCK = "block"

HYBRID_US = 50
"""About two wake-ups: polling longer than that costs more than sleeping would have."""

HYBRID_US_MAX = 1_000_000
"""A second; for longer times use ``spin``."""

_HYBRID = re.compile(r"hybrid(?:\((\d+)\))?", re.ASCII)
_FORMS = f"'block', 'spin' or 'hybrid(µs)' with 1 to {HYBRID_US_MAX} µs"


def spin_seconds(strategy: str) -> float:
    """How many seconds a port with this strategy polls after an event (``CompletionPort(spin=…)``).

    ``ValueError`` for an unknown strategy, ``TypeError`` for anything but a string.
    """
    if not isinstance(strategy, str):
        raise TypeError(f"wait must be {_FORMS}, not {strategy!r}")
    if strategy == BLOCK:
        return 0.0
    if strategy == "spin":
        return float("inf")
    hybrid = _HYBRID.fullmatch(strategy)
    microseconds = int(hybrid[1] or HYBRID_US) if hybrid else 0
    if not 1 <= microseconds <= HYBRID_US_MAX:
        raise ValueError(f"wait must be {_FORMS}, not {strategy!r}")
    return microseconds / 1e6


def choose(strategy: str | None) -> tuple[str, float]:
    """Return ``strategy``, else that of ``ZERIO_WAIT``, else ``block``; with its seconds."""
    if strategy is not None:
        return strategy, spin_seconds(strategy)
    wanted = os.environ.get(ENVIRONMENT) or BLOCK
    try:
        return wanted, spin_seconds(wanted)
    except ValueError as error:
        raise ValueError(f"{ENVIRONMENT}: {error}") from None
