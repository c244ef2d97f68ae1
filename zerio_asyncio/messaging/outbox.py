"""Sending from other threads: through a bounded ring, in the call order of each thread."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from zerio_asyncio.messaging.errors import NotConnectedError, SendingRingFullError
from zerio_asyncio.messaging.sending_ring import FULL, OVER, SendingRing

if TYPE_CHECKING:
    import asyncio

    from _typeshed import ReadableBuffer

    from zerio_asyncio.messaging.framing import MessageWriter
    from zerio_asyncio.messaging.session import Session

MESSAGES_A_TURN = 1024
"""Sent from the ring before callbacks get their turn: takes about as long as a batch of results."""


class Outbox:
    """The ring of one server or client, and those who wait for room in it.

    ``call_soon_threadsafe`` wakes the loop once for all messages that come until it looks, and
    makes a system call only if the loop sleeps.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int, length: int) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._ring = SendingRing(count, length)
        self._room = threading.Condition()
        self._waiting = 0
        self._awaited = False
        self._closed = False

    def put(self, session: Session, message: ReadableBuffer, timeout: float | None) -> None:
        """Have ``session`` send ``message`` on the loop's thread.

        ``SendingRingFullError`` if there is no room within ``timeout`` seconds (None: wait for
        ever); ``NotConnectedError`` once the owner has stopped; ``ValueError`` if the message is
        too long. A peer that does not read is handled as by ``send``.
        """
        if self._closed:
            raise NotConnectedError("stopped")
        taken = self._ring.put(session.writer, message)
        if taken == FULL:
            if threading.get_ident() == self._thread:
                # Nobody else makes room; nor do we from inside something that sending a message
                # calls, such as a logging handler.
                self.flush()
                taken = self._ring.put(session.writer, message)
                if taken == FULL:
                    raise self._full()
            else:
                taken = self._put_when_there_is_room(session.writer, message, timeout)
        if taken == OVER:
            session.overflow_threadsafe()
        else:
            self._wake()

    def _put_when_there_is_room(
        self, writer: MessageWriter, message: ReadableBuffer, timeout: float | None
    ) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        with self._room:
            self._waiting += 1
            try:
                while (taken := self._ring.put(writer, message)) == FULL:
                    left = None if end is None else end - time.monotonic()
                    if left is not None and left <= 0:
                        raise self._full()
                    self._room.wait(left)
                    if self._closed:
                        raise NotConnectedError("stopped")
                return taken
            finally:
                self._waiting -= 1

    def _full(self) -> SendingRingFullError:
        return SendingRingFullError(
            f"all {self._ring.count} slots of {self._ring.slot_length} bytes are taken by messages "
            f"of other threads"
        )

    def _wake(self) -> None:
        if not self._awaited:
            self._awaited = True
            try:
                self._loop.call_soon_threadsafe(self._send)
            except RuntimeError as closed:
                raise NotConnectedError("the loop is closed") from closed

    def _send(self) -> None:
        # Comes first: a message that arrives while the ring is emptied asks for another turn.
        self._awaited = False
        try:
            self._ring.send(MESSAGES_A_TURN)
        finally:
            if not self._ring.empty:
                self._wake()
            if self._waiting:
                with self._room:
                    self._room.notify_all()

    def flush(self) -> None:
        """Send everything queued; on the loop's thread."""
        while self._ring.send(MESSAGES_A_TURN):
            pass

    def close(self) -> None:
        """Drop everything queued; those who wait for room are told."""
        self._closed = True
        self._ring.clear()
        with self._room:
            self._room.notify_all()
