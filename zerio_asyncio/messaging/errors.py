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
    """The connection broke: reset, unreachable, silent for too long, TLS failed."""
    PROTOCOL = "protocol"
    """The peer sent something that is not a message: its length is negative or over the limit."""
    HANDSHAKE = "handshake"
    """The first message did not come in time, or was not a peer id, or not the answer to one."""
    DUPLICATE = "duplicate"
    """The peer id is taken, or was taken over by another connection."""
    LIMIT = "limit"
    """The server already has ``peers_max`` connections."""
    SLOW = "slow"
    """The peer does not read what is sent to it, and too much waits."""
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

    @property
    def clean(self) -> bool:
        """Whether one side closed it, and no message was cut in two."""
        return self.cause in {DisconnectCause.LOCAL, DisconnectCause.PEER} and self.error is None


class ZerioError(Exception):
    """The base of messaging's exceptions; each also derives from a built-in class."""


class UnknownPeerError(ZerioError, LookupError):
    """No peer with this id is connected."""

    def __init__(self, peer_id: str) -> None:
        super().__init__(f"no peer {peer_id!r} is connected")
        self.peer_id = peer_id


class NotConnectedError(ZerioError, ConnectionError):
    """There is no connection: not yet, no longer, or not again."""


class ConnectionClosed(NotConnectedError):  # noqa: N818  # the name that everybody looks for
    """The connection has ended, or is ending; ``reason`` says why, if there was one at all."""

    def __init__(self, reason: DisconnectReason | None) -> None:
        super().__init__("stopped" if reason is None else reason.text)
        self.reason = reason
        if reason is not None:
            self.__cause__ = reason.error


class HandshakeError(ZerioError, ConnectionError):
    """The server did not answer with the peer id it was sent; ``cause`` if the server said why."""

    def __init__(self, text: str, cause: DisconnectCause = DisconnectCause.HANDSHAKE) -> None:
        super().__init__(text)
        self.cause = cause


class FramingError(ValueError):
    """What a peer sent is not a Zerio message: its length is negative, or over the limit."""

    def __init__(self, text: str, length: int = 0) -> None:
        super().__init__(text)
        self.length = length


class SlowPeerError(ZerioError, BufferError):
    """The peers ``peer_ids`` do not read, and too much waits for them; nothing was sent to them."""

    def __init__(self, peer_ids: tuple[str, ...], text: str) -> None:
        super().__init__(text)
        self.peer_ids = peer_ids


class SendingRingFullError(ZerioError, BufferError):
    """Every slot of the ring holds another thread's message; this one was not taken."""


class RequestError(ZerioError, RuntimeError):
    """The peer answers no requests, or could not answer this one."""


class TooManyRequestsError(ZerioError, BufferError):
    """As many requests as may be are unanswered; this one was not sent."""
