"""Sending from other threads: through a bounded ring, in the call order of each thread."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from zerio_asyncio.messaging.errors import ConnectionClosed, SendingRingFullError
from zerio_asyncio.messaging.sending_ring import CLOSED, FULL, OVER, SendingRing

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from zerio_asyncio.messaging.errors import DisconnectReason
    from zerio_asyncio.messaging.framing import MessageWriter

MESSAGES_A_TURN = 1024
"""Sent from the ring before callbacks get their turn: takes about as long as a batch of results."""

SLOT = 256
"""Bytes: most messages take one slot."""

SLOTS = 16384
"""4 MiB: enough for what threads send while the loop is busy for some milliseconds."""

RECORD_MAX = 64
"""More than the ring needs before each message."""


class Sending(Protocol):
    """Whose message it is, a session: what the outbox needs of it."""

    writer: MessageWriter
    reason: DisconnectReason | None

    def overflow_threadsafe(self) -> None:
        """There is no room for a message of another thread; raises."""


class Outbox:
    """The ring of one server or client, made when it is first used, and who waits for room in it.

    ``call_soon_threadsafe`` wakes the loop once for all messages that come until it looks, and
    makes a system call only if the loop sleeps.
    """

    def __init__(self, loop: Any, message_max: int) -> None:
        self._loop = loop
        self._slots = max(SLOTS, 2 * ((message_max + RECORD_MAX) // SLOT + 1))
        self._ring: SendingRing | None = None
        self._making = threading.Lock()
        self._room = threading.Condition()
        self._waiting = 0
        self._awaited = False
        self._closed = False

    def _made(self) -> SendingRing:
        with self._making:
            if self._ring is None:
                self._ring = SendingRing(self._slots, SLOT)
                if self._closed:
                    self._ring.close()
            return self._ring

    def put(self, session: Sending, message: ReadableBuffer, timeout: float | None) -> None:
        """Have ``session`` send ``message`` on the loop's thread.

        ``SendingRingFullError`` if there is no room within ``timeout`` seconds (None: wait for
        ever); ``ConnectionClosed`` if the connection is ending, or the owner stopping;
        ``ValueError`` if the message is too long. A peer that does not read is handled as by
        ``send``, but that this raises if it is disconnected for it.
        """
        if self._loop._thread_id == threading.get_ident():
            self._put_here(session, message)
            return
        ring = self._ring or self._made()
        taken = ring.put(session.writer, message)
        if taken == FULL:
            taken = self._put_when_there_is_room(ring, session.writer, message, timeout)
        self._answer(session, taken)
        self._wake()

    def _put_here(self, session: Sending, message: ReadableBuffer) -> None:
        """On the loop's thread: nobody else makes room, and what waits goes first.

        From inside something that sending a message calls, such as a logging handler, it cannot go
        first: then this one waits its turn, too.
        """
        ring = self._ring
        if ring is None or not ring.sending:
            self.flush()
            session.writer.settle()
            session.writer.send(message)
            return
        taken = ring.put(session.writer, message)
        if taken == FULL:
            raise self._full(ring)
        self._answer(session, taken)

    def _answer(self, session: Sending, taken: int) -> None:
        if taken == CLOSED:
            raise ConnectionClosed(session.reason)
        if taken == OVER:
            session.overflow_threadsafe()

    def _put_when_there_is_room(
        self,
        ring: SendingRing,
        writer: MessageWriter,
        message: ReadableBuffer,
        timeout: float | None,
    ) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        with self._room:
            self._waiting += 1
            try:
                while (taken := ring.put(writer, message)) == FULL:
                    left = None if end is None else end - time.monotonic()
                    if left is not None and left <= 0:
                        raise self._full(ring)
                    self._wake()
                    self._room.wait(left)
                return taken
            finally:
                self._waiting -= 1

    def _full(self, ring: SendingRing) -> SendingRingFullError:
        return SendingRingFullError(
            f"all {ring.count} slots of {ring.slot_length} bytes are taken by messages of other "
            f"threads"
        )

    def _wake(self) -> None:
        if not self._awaited:
            self._awaited = True
            try:
                self._loop.call_soon_threadsafe(self._send)
            except RuntimeError as closed:
                raise ConnectionClosed(None) from closed

    def _send(self) -> None:
        # Comes first: a message that arrives while the ring is emptied asks for another turn.
        self._awaited = False
        ring = self._ring
        if ring is None:
            return
        try:
            ring.send(MESSAGES_A_TURN)
        finally:
            if not ring.empty:
                self._wake()
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        if self._waiting:
            with self._room:
                self._room.notify_all()

    def flush(self) -> None:
        """Send everything that is queued now; on the loop's thread."""
        if self._ring is None:
            return
        left = self._ring.count
        while left:
            try:
                self._ring.send(left)
                break
            except Exception as error:  # noqa: BLE001  # of one message; the others follow
                left -= 1
                message = "Exception when a message of another thread was sent"
                self._loop.call_exception_handler({"message": message, "exception": error})
        self._tell_waiting()

    def finish(self, writer: MessageWriter) -> None:
        """Take no more for ``writer``, and send what was taken."""
        with self._making:
            if self._ring is None:
                writer.shut = True
                return
        self._ring.shut(writer)
        self.flush()

    def shut(self) -> None:
        """Take no more, and send what was taken; those who wait for room are told."""
        with self._making:
            self._closed = True
            if self._ring is not None:
                self._ring.close()
        self.flush()
        with self._room:
            self._room.notify_all()

    def close(self) -> None:
        """The same, and drop what could not be sent."""
        self.shut()
        if self._ring is not None:
            self._ring.clear()
