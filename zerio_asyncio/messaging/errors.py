"""Why a connection ended, and what can go wrong."""

from __future__ import annotations

import dataclasses
import enum


class DisconnectCause(str, enum.Enum):
    """The kind of a ``DisconnectReason``."""

    PEER = "peer"
    """The peer closed the connection."""
    LOCAL = "local"
    """This side closed it: ``stop``, ``disconnect``."""
    NETWORK = "network"
    """The connection broke: reset, unreachable, TLS failed."""
    PROTOCOL = "protocol"
    """The peer sent something that is not a message: its length is negative or over the limit."""
    HANDSHAKE = "handshake"
    """The first message did not come in time, or was not a peer id, or not the answer to one."""
    DUPLICATE = "duplicate"
    """The peer id is taken, or was taken over by another connection."""
    SESSIONS = "sessions"
    """The server already has ``session_count`` connections."""
    SLOW = "slow"
    """The peer does not read what is sent to it, and its sending buffers are full."""
    HANDLER = "handler"
    """A handler on this side raised; the loop's exception handler was called."""


@dataclasses.dataclass(frozen=True)
class DisconnectReason:
    """Why a connection ended; ``str()`` returns the text."""

    cause: DisconnectCause
    text: str
    error: BaseException | None = None

    def __str__(self) -> str:
        return self.text


class ZerioError(Exception):
    """The base of messaging's exceptions; each also derives from a built-in class."""


class UnknownPeerError(ZerioError, LookupError):
    """No peer with this id is connected."""

    def __init__(self, peer_id: str) -> None:
        super().__init__(f"no peer {peer_id!r} is connected")
        self.peer_id = peer_id


class NotConnectedError(ZerioError, ConnectionError):
    """There is no connection: not yet, no longer, or not again."""


class HandshakeError(ZerioError, ConnectionError):
    """The server did not answer with the peer id it was sent."""


class FramingError(ValueError):
    """What a peer sent is not a Zerio message: its length is negative, or over the limit."""


class SendingBuffersFullError(ZerioError, BufferError):
    """The peers ``peer_ids`` do not read, and their sending buffers are full; nothing was sent."""

    def __init__(self, peer_ids: tuple[str, ...], text: str) -> None:
        super().__init__(text)
        self.peer_ids = peer_ids


class SendingRingFullError(ZerioError, BufferError):
    """Every slot of the ring holds another thread's message; this one was not taken."""
