"""Peer: what a program sees of one connection, on either side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from _typeshed import ReadableBuffer

    from zerio_asyncio.messaging.errors import DisconnectReason

STOP_SECONDS = 5.0
"""How long a peer may take to read what was sent to it before the connection is closed."""


class Peer(ABC):
    """One connection: whom it leads to, and why it ended. A later one of the same id is another."""

    id: str | None
    """Its peer id; None until it has introduced itself."""
    reason: DisconnectReason | None
    """Why the connection ended, or is ending; None while it is open."""
    dropped: int
    """How many messages were dropped, or replaced by later ones, because the peer reads slowly."""
    extensions: bool
    """Whether both sides have agreed on requests and pings."""

    @property
    @abstractmethod
    def closing(self) -> bool:
        """Whether the connection is ending or has ended."""

    @property
    @abstractmethod
    def unsent(self) -> int:
        """Bytes that wait to be sent."""

    @abstractmethod
    def send(self, message: ReadableBuffer, *, key: Hashable = None) -> None:
        """Send ``message``, bytes-like, from any thread; you may change it once this returns.

        ``ConnectionClosed`` if the connection has ended or is ending; ``ValueError`` if the message
        is longer than ``max_message_size``. If the peer does not read, ``slow_peer`` decides, and
        with ``"latest"`` a waiting message of the same ``key`` is replaced; a key may be given in
        the loop's thread alone.

        The messages of one thread arrive in the order in which it sent them.
        """

    @abstractmethod
    async def request(self, message: ReadableBuffer, timeout: float | None = None) -> bytes:
        """Send ``message`` and wait for the answer of the other side's ``on_request``.

        ``TimeoutError`` (in Python 3.10 ``asyncio.TimeoutError``) after ``timeout`` seconds;
        ``RequestError`` if the other side cannot answer, with its words; ``ConnectionClosed`` if
        the connection ends first; ``TooManyRequestsError`` if 1,024 are unanswered. A request that
        is cancelled, or whose time is up, is cancelled on the other side, too.
        """

    @abstractmethod
    async def drain(self, timeout: float | None = None) -> None:
        """Wait until the peer has read enough to accept more.

        ``TimeoutError`` (in Python 3.10 ``asyncio.TimeoutError``) after ``timeout`` seconds;
        ``ConnectionClosed`` if the connection ends first.
        """

    @abstractmethod
    def disconnect(self, text: str = "disconnected", patience: float = STOP_SECONDS) -> None:
        """Close the connection once everything sent has left, or ``patience`` seconds have passed.

        ``text`` becomes the reason's text.
        """

    @abstractmethod
    def pause_reading(self, why: str = "program") -> None:
        """Stop reading from the peer, until each ``why`` has been resumed.

        Messages already received are still delivered.
        """

    @abstractmethod
    def resume_reading(self, why: str = "program") -> None:
        """Read again after ``pause_reading``."""
