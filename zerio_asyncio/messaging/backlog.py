"""Backlog: messages that are kept from the transport of a slow peer, so that they can be dropped.

What the transport has been given leaves in its order, whatever happens. So while more than the high
water waits there, ``"drop-oldest"`` and ``"latest"`` keep messages here, and hand them on when the
peer has caught up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

MESSAGE_COST = 64
"""Bytes that a message counts in addition to its own: about what Python needs for it."""


class Backlog:
    """Messages in their order, at most one of each key."""

    def __init__(self) -> None:
        self._messages: dict[object, bytes] = {}
        self._numbers = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def append(self, message: bytes) -> None:
        """Keep ``message`` behind the others."""
        self._numbers += 1
        self._put((self._numbers,), message)

    def replace(self, key: Hashable, message: bytes) -> bool:
        """Keep ``message`` in the place of the one of the same key; whether there was one."""
        place = key, "latest"
        before = self._messages.get(place)
        if before is not None:
            self.bytes -= len(before) + MESSAGE_COST
        self._put(place, message)
        return before is not None

    def _put(self, place: object, message: bytes) -> None:
        self._messages[place] = message
        self.bytes += len(message) + MESSAGE_COST

    def pop(self) -> bytes:
        """The oldest message."""
        message = self._messages.pop(next(iter(self._messages)))
        self.bytes -= len(message) + MESSAGE_COST
        return message
