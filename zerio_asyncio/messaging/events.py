"""What happens to connections, as objects: ``on_event`` is called with each."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zerio_asyncio.messaging.errors import DisconnectReason
    from zerio_asyncio.messaging.peer import Peer


@dataclasses.dataclass(frozen=True)
class Connected:
    """A peer has introduced itself, and messages can be sent to it."""

    peer: Peer


@dataclasses.dataclass(frozen=True)
class Disconnected:
    """A connection has ended; ``peer.id`` is None if it was never reported as connected."""

    peer: Peer
    reason: DisconnectReason


@dataclasses.dataclass(frozen=True)
class Connecting:
    """A client that lost its connection tries again, for the ``attempt``-th time in a row."""

    attempt: int


@dataclasses.dataclass(frozen=True)
class ConnectFailed:
    """That attempt has failed; the next follows in ``delay`` seconds, or never if it is None."""

    attempt: int
    error: BaseException
    delay: float | None


Event = Connected | Disconnected | Connecting | ConnectFailed
