"""The life of a transport and of its reading: the states, and which may follow which.

Transports check each step against this table (``Transport._turn``), the tests walk every arrow, and
the picture in docs/design.md is drawn from it (``python -m tests.tidy.life``).

Not covered here: whether a transport has a request queue (``attached``). It has one from before it
is OPEN until it is RETIRED, unless its loop is closed first: that takes the queue and leaves the
life as it is.
"""

from __future__ import annotations

LIFE: dict[str, dict[str, str]] = {
    "NEW": {
        "OPEN": "made",
        "RETIRED": "making it failed",
    },
    "OPEN": {
        "CLOSING": "close, abort, an error, the peer's end",
        "RETIRED": "making it failed",
    },
    "CLOSING": {
        "LOST": "all is sent, or nobody waits for it",
    },
    "LOST": {
        "RETIRED": "connection_lost",
    },
    "RETIRED": {},
}
"""State, the states that may follow, and what causes each transition.

NEW       not yet made: what is written is dropped
OPEN      the protocol receives what arrives, and may write
CLOSING   nothing more is received; what was written is still sent
LOST      connection_lost is on its way; what is written is dropped, and counted
RETIRED   the request queue is gone; outstanding results only return memory
"""

READING: dict[str, dict[str, str]] = {
    "UNBEGUN": {"BEGUN": "connection_made"},
    "BEGUN": {"ENDED": "the peer sends no more"},
    "ENDED": {},
}
"""The same for reading. Pausing is separate: a program may pause and resume at any time."""


def masks(table: dict[str, dict[str, str]]) -> list[int]:
    """For each state, the bits of those that may follow, by their position in the table."""
    places = {state: place for place, state in enumerate(table)}
    return [sum(1 << places[other] for other in others) for others in table.values()]
