"""Session: one connection between two peers, from its handshake to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from zerio_asyncio.core.protocols import RegisteredProtocol
from zerio_asyncio.messaging.errors import (
    DisconnectCause,
    DisconnectReason,
    FramingError,
    NotConnectedError,
    SendingBuffersFullError,
)
from zerio_asyncio.messaging.framing import MessageFramer, MessageWriter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from zerio_asyncio.messaging.configuration import ZerioConfiguration
    from zerio_asyncio.messaging.inbox import Inbox

STOP_SECONDS = 5.0
"""How long a peer may take to read what was sent to it before the connection is closed."""

PEER_ID_LENGTH_MAX = 255
"""Bytes of a peer id: enough for a host name (RFC 1035), and the limit until a peer is known."""


class Owner(Protocol):
    """What a session needs of its server or client."""

    @property
    def config(self) -> ZerioConfiguration:
        """Its choices."""

    @property
    def inbox(self) -> Inbox:
        """Keeps messages that no handler takes."""

    def session_opened(self, session: Session) -> None:
        """Report that the transport exists; the handshake may begin."""

    def session_introduced(self, session: Session, peer_id: str) -> None:
        """Take the first message."""

    def session_closed(self, session: Session, reason: DisconnectReason) -> None:
        """Report the end, once, even if there was no handshake."""


def check_peer_id(peer_id: str) -> bytes:
    """The peer id in its form on the wire; ``ValueError`` if it cannot be sent."""
    if not isinstance(peer_id, str):
        raise TypeError(f"a peer id is a str, not {peer_id!r}")
    if not peer_id or len(peer_id) > PEER_ID_LENGTH_MAX or not peer_id.isascii():
        raise ValueError(
            f"a peer id has 1 to {PEER_ID_LENGTH_MAX} ASCII characters, unlike {peer_id[:300]!r}"
        )
    return peer_id.encode("ascii")


class Session(RegisteredProtocol):
    """Frames what arrives, sends messages, knows why the connection ends."""

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._config = owner.config
        self._framer = MessageFramer(self._first_message, PEER_ID_LENGTH_MAX)
        self._timer: asyncio.TimerHandle | None = None
        self.reason: DisconnectReason | None = None
        self._writable_waiters: list[asyncio.Future[None]] = []
        self._writing_paused = False
        self._reading_paused_by: set[str] = set()
        self._transport: Any = None
        self.ended = loop.create_future()
        self.writer: MessageWriter
        self.peer_id: str | None = None
        self.inbox_bytes = 0

    # ------------------------------------------------------- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Prepare to send, and expect the handshake."""
        config = self._config
        self._transport = transport
        self._transport.set_write_buffer_limits(config.sending_high_water, config.sending_low_water)
        self.writer = MessageWriter(
            transport,
            self._overflow,
            config.framing_buffer_length,
            config.unsent_max,
            config.max_conflated_send_request_count,
        )
        self._timer = self._loop.call_later(config.handshake_timeout, self._too_late)
        self._owner.session_opened(self)

    def view_received(self, view: memoryview) -> None:
        """Cut messages out of ``view`` and pass them on."""
        try:
            self._framer.feed(view)
        except (SystemExit, KeyboardInterrupt):
            # They leave the loop, not the connection: when it is run again, the rest is delivered.
            if self._framer.left_over:
                self._loop.call_soon(self._feed_left_over)
            raise
        except FramingError as error:
            self._fail_framing(error)
        except BaseException as error:  # noqa: BLE001  # the handler is the program's
            self._fail_handler(error)

    def _feed_left_over(self) -> None:
        if self._framer.left_over:
            self.view_received(memoryview(b""))

    def pause_writing(self) -> None:
        """More than the high water waits; ``drain`` will wait."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """No more than the low water waits."""
        self._writing_paused = False
        self._wake_drains(None)

    def eof_received(self) -> None:
        """Close once everything sent has left; a peer that does not read gets no extra time."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(STOP_SECONDS, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, and anyone who waits."""
        if self._transport is None or self.ended.done():
            return
        self.finish(self.reason or self._reason_of(exc))

    # ----------------------------------------------------------------- the handshake

    def _first_message(self, view: memoryview) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            peer_id = str(view, "ascii")
        except UnicodeDecodeError:
            self.abort(DisconnectCause.HANDSHAKE, "the peer id is not ASCII")
            return
        if not peer_id:
            self.abort(DisconnectCause.HANDSHAKE, "the peer id is empty")
            return
        self._owner.session_introduced(self, peer_id)

    def _too_late(self) -> None:
        begun = self._framer.pending
        self.abort(
            DisconnectCause.HANDSHAKE,
            f"no peer id within {self._config.handshake_timeout:g} s"
            + (f", only {begun} bytes of its message" if begun else ""),
        )

    def establish(self, peer_id: str, handler: Callable[..., object] | None, first: Any) -> None:
        """The handshake is done: pass messages to ``handler``, or to the inbox if it is None."""
        self.peer_id = peer_id
        length_max = self._config.framing_buffer_length
        if handler is None:
            self._framer.set_handler(self._keep, length_max)
        else:
            self._framer.set_handler(handler, length_max, first)

    def _keep(self, view: memoryview) -> None:
        self._owner.inbox.put(self, bytes(view))

    # ---------------------------------------------------------------- back-pressure

    def pause_reading(self, why: str) -> None:
        """Pause the peer until every ``why`` has been resumed."""
        if not self._reading_paused_by:
            self._transport.pause_reading()
        self._reading_paused_by.add(why)

    def resume_reading(self, why: str) -> None:
        """End one ``why`` of ``pause_reading``."""
        if why in self._reading_paused_by:
            self._reading_paused_by.remove(why)
            if not self._reading_paused_by and not self.ended.done():
                self._transport.resume_reading()

    async def drain(self) -> None:
        """Wait while more than the high water is unsent; ``NotConnectedError`` at the end."""
        if self.ended.done():
            raise NotConnectedError(str(self.reason))
        if self._writing_paused:
            waiter = self._loop.create_future()
            self._writable_waiters.append(waiter)
            await waiter

    def _wake_drains(self, error: Exception | None) -> None:
        waiters, self._writable_waiters = self._writable_waiters, []
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    def _overflow(self, unsent: int) -> None:
        if self._config.slow_peer == "raise":
            raise self._too_slow(unsent)
        self.abort(DisconnectCause.SLOW, str(self._too_slow(unsent)))

    def overflow_threadsafe(self) -> None:
        """The same for a message from another thread."""
        unsent = self.writer.unsent
        if self._config.slow_peer == "raise":
            raise self._too_slow(unsent)
        self._loop.call_soon_threadsafe(self._overflow, unsent)

    def _too_slow(self, unsent: int) -> SendingBuffersFullError:
        text = f"{self.peer_id!r} does not read: {unsent} bytes wait in its sending buffers"
        return SendingBuffersFullError((self.peer_id or "",), text)

    # ------------------------------------------------------------------------ ending

    @property
    def closing(self) -> bool:
        """Whether the connection is ending or has ended."""
        return self.reason is not None or self.ended.done() or self._transport.is_closing()

    def close(self, cause: DisconnectCause, text: str, patience: float) -> None:
        """End once all sent data has left, or after ``patience`` seconds; receive no more."""
        self._end(cause, text, None)
        self._timer = self._loop.call_later(patience, self._transport.abort)
        self._transport.close()

    def abort(self, cause: DisconnectCause, text: str, error: BaseException | None = None) -> None:
        """End at once; drop what waits to be sent."""
        self._end(cause, text, error)
        self._transport.abort()

    def _end(self, cause: DisconnectCause, text: str, error: BaseException | None) -> None:
        self._framer.stop()
        self.writer.close()
        if self._timer is not None:
            self._timer.cancel()
        if self.reason is None:
            self.reason = DisconnectReason(cause, text, error)

    def finish(self, reason: DisconnectReason) -> None:
        """Report the end, once; the transport is aborted if it is still there."""
        self.reason = reason
        self._end(reason.cause, reason.text, reason.error)
        self.ended.set_result(reason)
        self._transport.abort()
        self._wake_drains(NotConnectedError(reason.text))
        try:
            self._owner.session_closed(self, reason)
        except Exception as error:  # noqa: BLE001  # the handler is the program's
            self._report("Exception when a connection had ended", error)

    def _reason_of(self, exc: Exception | None) -> DisconnectReason:
        begun = self._framer.pending
        if exc is None:
            text = "the peer closed the connection"
            if begun:
                text += f" in the middle of a message, {begun} bytes of which had come"
            elif self.peer_id is None:
                text += " before it gave its peer id"
            return DisconnectReason(DisconnectCause.PEER, text)
        return DisconnectReason(DisconnectCause.NETWORK, f"the connection broke: {exc}", exc)

    def _fail_framing(self, error: FramingError) -> None:
        cause = DisconnectCause.PROTOCOL if self.peer_id else DisconnectCause.HANDSHAKE
        self.abort(cause, str(error), error)

    def _fail_handler(self, error: BaseException) -> None:
        self._report(f"Exception in a handler of messages from {self.peer_id!r}", error)
        self.abort(DisconnectCause.HANDLER, f"a handler raised {error!r}", error)

    def _report(self, message: str, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {
                "message": message,
                "exception": error,
                "protocol": self,
                "transport": self._transport,
            }
        )
