"""Why a connection ended, and what goes wrong on the way."""

from __future__ import annotations

import dataclasses
import enum


class DisconnectCause(str, enum.Enum):
    """The kind of a ``DisconnectReason``."""

    PEER = "peer"
    """The peer closed the connection."""
    LOCAL = "local"
    """This side did: ``stop``, ``disconnect``."""
    NETWORK = "network"
    """The connection broke: reset, unreachable, TLS failed."""
    PROTOCOL = "protocol"
    """What the peer sent is no message: its length is negative or over the limit."""
    HANDSHAKE = "handshake"
    """The first message did not come in time, or was no peer id, or no answer to one."""
    DUPLICATE = "duplicate"
    """The peer id is taken, or was taken over by another connection."""
    SESSIONS = "sessions"
    """The server has ``session_count`` connections already."""
    SLOW = "slow"
    """The peer does not read what is sent to it, and its sending buffers are full."""
    HANDLER = "handler"
    """A handler of this side raised; the loop's exception handler was told."""


@dataclasses.dataclass(frozen=True)
class DisconnectReason:
    """Why a connection ended; ``str()`` gives the text."""

    cause: DisconnectCause
    text: str
    error: BaseException | None = None

    def __str__(self) -> str:
        return self.text


class ZerioError(Exception):
    """What is particular to messaging; the classes below are also of a built-in kind."""


class UnknownPeerError(ZerioError, LookupError):
    """No peer of this id is connected."""

    def __init__(self, peer_id: str) -> None:
        super().__init__(f"no peer {peer_id!r} is connected")
        self.peer_id = peer_id


class NotConnectedError(ZerioError, ConnectionError):
    """There is no connection now: not yet, no more, or not again."""


class HandshakeError(ZerioError, ConnectionError):
    """The server did not answer with the peer id that it was told."""


class FramingError(ValueError):
    """What a peer sent is no message of Zerio's: its length is negative, or over the limit."""


class SendingBuffersFullError(ZerioError, BufferError):
    """The peers ``peer_ids`` do not read, and what may wait for them waits; nothing was sent."""

    def __init__(self, peer_ids: tuple[str, ...], text: str) -> None:
        super().__init__(text)
        self.peer_ids = peer_ids


class SendingRingFullError(ZerioError, BufferError):
    """The messages of other threads wait in every slot of the ring; this one was not taken."""
