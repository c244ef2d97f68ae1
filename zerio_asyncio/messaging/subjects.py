"""Subjects: which messages a client wants, and who wants a message that is published.

A subject is words with dots between them, such as ``prices.fx.EURUSD``. A client subscribes to
patterns of them: ``*`` stands for any one word, and ``>`` at the end for one or more. On the wire a
subscription is an extension (requests.py); what is published is a message like any other, without
its subject, so that a program finds its messages in one place.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zerio_asyncio.messaging.session import Session

SUBJECT_MAX = 255
"""Bytes of a subject or pattern in UTF-8."""

SUBSCRIPTIONS_MAX = 1024
"""Patterns of one client: the server keeps them for it."""

KNOWN_MAX = 4096
"""Subjects of which the server remembers who wants them."""


def check_subject(subject: str, what: str = "subject") -> str:
    """The subject; ``TypeError`` or ``ValueError`` if it is none."""
    if not isinstance(subject, str):
        raise TypeError(f"a {what} is a str, not {subject!r}")
    if len(subject.encode()) > SUBJECT_MAX:
        raise ValueError(f"a {what} has at most {SUBJECT_MAX} bytes, unlike {subject[:300]!r}")
    words = subject.split(".")
    if not all(words) or re.search(r"\s", subject):
        raise ValueError(f"a {what} is words with dots between them, unlike {subject!r}")
    if what == "subject" and not {"*", ">"}.isdisjoint(words):
        raise ValueError(f"{subject!r} is a pattern: publish to one subject")
    return subject


def check_pattern(pattern: str) -> str:
    """The same for a pattern."""
    check_subject(pattern, "pattern of subjects")
    if ">" in pattern.split(".")[:-1]:
        raise ValueError(f"'>' is the last word of a pattern, unlike in {pattern!r}")
    return pattern


def _compiled(pattern: str) -> re.Pattern[str]:
    kinds = {"*": r"[^.]+", ">": r".+"}
    words = pattern.split(".")
    return re.compile(r"\.".join(kinds.get(word) or re.escape(word) for word in words), re.DOTALL)


class Subscriptions:
    """Who wants what, on a server."""

    def __init__(self) -> None:
        self._wanting: dict[str, tuple[re.Pattern[str], dict[Session, None]]] = {}
        self._patterns: dict[Session, set[str]] = {}
        self._known: dict[str, tuple[Session, ...]] = {}

    def add(self, session: Session, pattern: str) -> None:
        """``session`` wants what ``pattern`` tells; ``ValueError`` if that is none, or too many."""
        check_pattern(pattern)
        patterns = self._patterns.setdefault(session, set())
        if pattern not in patterns and len(patterns) >= SUBSCRIPTIONS_MAX:
            raise ValueError(f"more than {SUBSCRIPTIONS_MAX} subscriptions")
        patterns.add(pattern)
        if pattern not in self._wanting:
            self._wanting[pattern] = _compiled(pattern), {}
        self._wanting[pattern][1][session] = None
        self._known.clear()

    def remove(self, session: Session, pattern: str) -> None:
        """It does not want that any more."""
        patterns = self._patterns.get(session, set())
        if pattern in patterns:
            patterns.remove(pattern)
            self._forget(session, [pattern])
            if not patterns:
                del self._patterns[session]

    def end(self, session: Session) -> None:
        """It is gone."""
        self._forget(session, self._patterns.pop(session, ()))

    def _forget(self, session: Session, patterns: Iterable[str]) -> None:
        for pattern in patterns:
            wanting = self._wanting[pattern][1]
            del wanting[session]
            if not wanting:
                del self._wanting[pattern]
            self._known.clear()

    def wanting(self, subject: str) -> tuple[Session, ...]:
        """Who wants what is published to ``subject``, each once."""
        known = self._known.get(subject)
        if known is None:
            check_subject(subject)
            known = tuple(
                dict.fromkeys(
                    session
                    for pattern, sessions in self._wanting.values()
                    if pattern.fullmatch(subject)
                    for session in sessions
                )
            )
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[subject] = known
        return known
