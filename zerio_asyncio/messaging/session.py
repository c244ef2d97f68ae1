"""Session: one connection between two peers, from its handshake to its end."""

from __future__ import annotations

import asyncio
import struct
import threading
from typing import TYPE_CHECKING, Any, Protocol

from zerio_asyncio.core.protocols import RegisteredProtocol
from zerio_asyncio.messaging.backlog import Backlog
from zerio_asyncio.messaging.errors import (
    ConnectionClosed,
    DisconnectCause,
    DisconnectReason,
    FramingError,
    RequestError,
    SlowPeerError,
)
from zerio_asyncio.messaging.framing import MessageFramer, MessageWriter
from zerio_asyncio.messaging.introduction import guess
from zerio_asyncio.messaging.liveness import TICKS, hold_little, keep_alive
from zerio_asyncio.messaging.peer import STOP_SECONDS, Peer
from zerio_asyncio.messaging.requests import OVERHEAD, PING, Requests

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from _typeshed import ReadableBuffer

    from zerio_asyncio.messaging.configuration import SlowPeer, ZerioConfiguration
    from zerio_asyncio.messaging.framing import UnsentTotal
    from zerio_asyncio.messaging.inbox import Inbox
    from zerio_asyncio.messaging.outbox import Outbox
    from zerio_asyncio.messaging.requests import Answering

KEEPING = ("drop-oldest", "latest")
"""Kinds of ``slow_peer`` that keep messages from the transport, to be able to drop them."""


class Owner(Protocol):
    """What a session needs of its server or client."""

    @property
    def config(self) -> ZerioConfiguration:
        """Its choices."""

    @property
    def inbox(self) -> Inbox:
        """Keeps messages that no handler takes at once."""

    @property
    def outbox(self) -> Outbox:
        """Takes what other threads send."""

    @property
    def total(self) -> UnsentTotal | None:
        """What waits for all peers."""

    @property
    def answering(self) -> Answering:
        """Who answers requests."""

    def session_opened(self, session: Session) -> None:
        """Report that the transport exists; the handshake may begin."""

    def session_introduced(self, session: Session, message: bytes) -> None:
        """Take the first message."""

    def session_closed(self, session: Session, reason: DisconnectReason) -> None:
        """Report the end, once, even if there was no handshake."""


class Session(Peer, RegisteredProtocol):
    """Frames what arrives, sends messages, knows why the connection ends."""

    def __init__(self, owner: Owner, loop: Any, introduction_max: int) -> None:
        self._owner = owner
        self._loop = loop
        self._config = owner.config
        self._framer = MessageFramer(self._first_message, introduction_max)
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._silent = 0
        self._seen = (0, 0)
        self.reason: DisconnectReason | None = None
        self._writable_waiters: dict[asyncio.Future[None], None] = {}
        self._writing_paused = False
        self._reading_paused_by: set[str] = set()
        self._transport: Any = None
        self._doomed = False
        self._backlog: Backlog | None = None
        self._counted = 0  # of its bytes, in the owner's total
        self._asked: tuple[Hashable, SlowPeer | None] = None, None
        self._handler: tuple[Callable[..., object], Any] | None = None
        self.requests: Requests | None = None
        self.ended = loop.create_future()
        self.writer: MessageWriter
        self.id: str | None = None
        self.dropped = 0
        self.extensions = False
        self.inbox_bytes = 0

    def __repr__(self) -> str:
        state = f"ended: {self.reason}" if self.reason else "open"
        return f"<Peer {self.id!r} {state}>"

    # ------------------------------------------------------- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Prepare to send, and expect the handshake."""
        config = self._config
        self._transport = transport
        self._transport.set_write_buffer_limits(config.high_water, config.low_water)
        if config.keepalive is not None:
            keep_alive(self._transport.get_extra_info("socket"), config.keepalive)
        if config.slow_peer == "latest":
            hold_little(self._transport.get_extra_info("socket"), config.high_water)
        self.writer = MessageWriter(
            transport,
            self._overflow,
            config.max_message_size,
            self._unsent_max,
            self._owner.total,
        )
        self.writer.lenient = self._lenient
        self.writer.elsewhere = self.send_threadsafe
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
            self.fail_handler(error)

    def _feed_left_over(self) -> None:
        if self._framer.left_over:
            self.view_received(memoryview(b""))

    def pause_writing(self) -> None:
        """More than the high water waits; ``drain`` will wait."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """No more than the low water waits."""
        self._writing_paused = False
        if self._backlog is not None:
            self._hand_on(self._backlog)
        if not self._writing_paused:
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
        self._owner.session_introduced(self, bytes(view))

    def _too_late(self) -> None:
        begun = self._framer.pending
        self.abort(
            DisconnectCause.HANDSHAKE,
            f"no peer id within {self._config.handshake_timeout:g} s"
            + (f", only {begun} bytes of its message" if begun else ""),
        )

    def establish(
        self, peer_id: str, handler: Callable[..., object] | None, first: Any, extensions: bool
    ) -> None:
        """The handshake is done: pass messages to ``handler``, or to the inbox if it is None."""
        self.id = peer_id
        self.extensions = extensions
        length_max = self._config.max_message_size
        if handler is None:
            handler, first = self._keep, None
        if extensions:
            self._handler = handler, first
            length_max = min(length_max + OVERHEAD, 2**31 - 1)
            self.requests = Requests(
                self._loop, self, self.writer, self._owner.answering, self.report
            )
            self.writer.mark()
            self._framer.set_control(self._take_control)
            self._tick()
        self._framer.set_handler(handler, length_max, first)

    def _keep(self, view: memoryview) -> None:
        self._owner.inbox.put(self, bytes(view))

    # ------------------------------------------------------------------- extensions

    def _take_control(self, view: memoryview) -> None:
        if self.requests is None or self._handler is None:
            return
        message = self.requests.take(view)
        if message is None:
            return
        handler, first = self._handler
        with memoryview(message) as whole:
            handler(*([whole] if first is None else [first, whole]))

    async def request(self, message: ReadableBuffer, timeout: float | None = None) -> bytes:
        """Send a request and wait for its reply."""
        if self.closing:
            raise ConnectionClosed(self.reason)
        if self.requests is None:
            raise RequestError(
                "the two sides have not agreed on requests: the client connects with "
                "extensions=True"
            )
        return await self.requests.request(message, timeout)

    def _tick(self) -> None:
        """Look for a sign of life; give one if there was none, or if we do not read."""
        if self._config.keepalive is None or self.requests is None or self.closing:
            return
        seen = self._framer.messages, self._framer.pending
        if seen != self._seen or self._reading_paused_by:
            self._silent = 0
        self._seen = seen
        if self._silent >= TICKS:
            text = f"no sign of life for {self._config.keepalive:g} s"
            self.abort(DisconnectCause.NETWORK, text, TimeoutError(text))
            return
        if self._silent or self._reading_paused_by:
            self.requests.send(PING)
        self._silent += 1
        self._watch = self._loop.call_later(self._config.keepalive / TICKS, self._tick)

    # ------------------------------------------------------------------------ sending

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return self.writer.unsent + (self._backlog.bytes if self._backlog is not None else 0)

    def send(self, message: ReadableBuffer, *, key: Hashable = None) -> None:
        """Send ``message``; with a ``key``, in the place of a waiting one that has the same."""
        if key is None:
            self.writer.send(message)
        else:
            self.send_as(message, key, None)

    def send_as(self, message: ReadableBuffer, key: Hashable, slow: SlowPeer | None) -> None:
        """Send ``message``; if the peer is slow, as ``slow`` says, or else the configuration."""
        if self._loop._thread_id not in {None, threading.get_ident()}:
            raise RuntimeError("key= and slow= are for the loop's own thread; others call send()")
        if self.closing:
            raise ConnectionClosed(self.reason)
        self._asked = key, slow
        try:
            if slow in KEEPING and (self._writing_paused or self._backlog):
                self._overflow(self.writer.unsent, memoryview(message).tobytes())
            else:
                self.writer.send(message)
        finally:
            self._asked = None, None

    def send_threadsafe(self, message: ReadableBuffer, timeout: float | None = None) -> None:
        """Send from any thread."""
        self._owner.outbox.put(self, message, timeout)

    # ---------------------------------------------------------------- slow consumers

    @property
    def _lenient(self) -> bool:
        """Whether what other threads send is measured only when the loop takes it."""
        return self._config.slow_peer not in {"disconnect", "raise"}

    @property
    def _unsent_max(self) -> int:
        """What may wait in the transport."""
        if self._config.slow_peer in KEEPING:
            return self._config.high_water
        return self._config.unsent_limit

    def _overflow(self, unsent: int, message: bytes) -> None:
        """There is no room for ``message``, or it has to wait behind others."""
        key, slow = self._asked
        slow = slow or self._config.slow_peer
        total = self._owner.total
        full = total is not None and total.full
        if slow in KEEPING and not full:
            self._keep_back(message, key if slow == "latest" else None, slow)
        elif self._backlog and not full and self.unsent + len(message) <= self._config.unsent_limit:
            self._keep_back(message, None, slow)
        elif slow == "raise":
            raise self._too_slow(unsent)
        elif slow == "disconnect":
            self._end_slow(unsent)
        else:
            self.dropped += 1

    def _end_slow(self, unsent: int) -> None:
        self.abort(DisconnectCause.SLOW, str(self._too_slow(unsent)))

    def _keep_back(self, message: bytes, key: Hashable, slow: SlowPeer) -> None:
        if not self._writing_paused and not self._backlog:
            self.writer.send_over(message)  # passes the high water, so that we shall be resumed
            return
        backlog = self._backlog
        if backlog is None:
            backlog = self._backlog = Backlog()
        if slow == "latest":
            self.dropped += backlog.replace(key, message)
        else:
            backlog.append(message)
        while len(backlog) > 1 and backlog.bytes > self._config.unsent_limit:
            backlog.pop()
            self.dropped += 1
        self._count()
        # All that follows comes here, too, until these have left.
        self.writer.unsent_max = 0
        self.writer.lenient = True

    def _hand_on(self, backlog: Backlog) -> None:
        while backlog and not self._writing_paused and self._backlog is backlog:
            self.writer.send_over(backlog.pop())
        self._count()
        if not backlog:
            self.writer.unsent_max = self._unsent_max
            self.writer.lenient = self._lenient

    def _count(self) -> None:
        """Tell the total what is kept now, whatever was done since it was last told."""
        total, backlog = self._owner.total, self._backlog
        if total is not None:
            before = self._counted
            self._counted = 0 if backlog is None or self.reason is not None else backlog.bytes
            total.held += self._counted - before

    def overflow_threadsafe(self) -> None:
        """The same for a message from another thread, which is told."""
        unsent = self.writer.unsent
        if self._config.slow_peer == "raise":
            raise self._too_slow(unsent)
        if not self._doomed:  # once: threads may send a great deal before the loop turns
            self._doomed = True
            self._loop.call_soon_threadsafe(self._end_slow, unsent)
        text = str(self._too_slow(unsent))
        raise ConnectionClosed(self.reason or DisconnectReason(DisconnectCause.SLOW, text))

    def _too_slow(self, unsent: int) -> SlowPeerError:
        text = f"{self.id!r} does not read: {unsent} bytes wait to be sent to it"
        return SlowPeerError((self.id or "",), text)

    # ---------------------------------------------------------------- back-pressure

    def pause_reading(self, why: str = "program") -> None:
        """Pause the peer until every ``why`` has been resumed."""
        if not self._reading_paused_by:
            self._transport.pause_reading()
        self._reading_paused_by.add(why)

    def resume_reading(self, why: str = "program") -> None:
        """End one ``why`` of ``pause_reading``."""
        if why in self._reading_paused_by:
            self._reading_paused_by.remove(why)
            if not self._reading_paused_by and not self.ended.done():
                self._transport.resume_reading()

    @property
    def ready(self) -> bool:
        """Whether ``drain`` would return at once, or raise because the connection is ending."""
        return self.closing or not (self._writing_paused or self._backlog)

    async def drain(self, timeout: float | None = None) -> None:
        """Wait while more than the high water is unsent; ``ConnectionClosed`` at the end."""
        if self.ended.done():
            raise ConnectionClosed(self.reason)
        if not self._writing_paused and not self._backlog:
            return
        waiter = self._loop.create_future()
        self._writable_waiters[waiter] = None
        try:
            done, _ = await asyncio.wait([waiter], timeout=timeout)
            if not done:
                raise asyncio.TimeoutError(f"{self.id!r} has not read enough within {timeout:g} s")
            waiter.result()
        finally:
            self._writable_waiters.pop(waiter, None)

    def _wake_drains(self, error: Exception | None) -> None:
        waiters, self._writable_waiters = self._writable_waiters, {}
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
                waiter.exception()  # its drain may have been cancelled in this turn

    # ------------------------------------------------------------------------ ending

    @property
    def closing(self) -> bool:
        """Whether the connection is ending or has ended."""
        return self.reason is not None or self.ended.done() or self._transport.is_closing()

    def disconnect(self, text: str = "disconnected", patience: float = STOP_SECONDS) -> None:
        """Close once everything sent has left."""
        self.close(DisconnectCause.LOCAL, text, patience)

    def close(self, cause: DisconnectCause, text: str, patience: float) -> None:
        """End once all sent data has left, or after ``patience`` seconds; receive no more."""
        self._owner.outbox.finish(self.writer)
        self._end(DisconnectReason(cause, text))
        self._timer = self._loop.call_later(patience, self._transport.abort)
        self._transport.close()

    def abort(self, cause: DisconnectCause, text: str, error: BaseException | None = None) -> None:
        """End at once; drop what waits to be sent."""
        self._end(DisconnectReason(cause, text, error))
        self._transport.abort()

    def _end(self, reason: DisconnectReason) -> None:
        if self.reason is None:
            self.reason = reason
        self._framer.stop()
        backlog, self._backlog = self._backlog, None
        if backlog is not None:
            self._count()
            if self.reason.cause is DisconnectCause.LOCAL:
                while backlog:
                    self.writer.send_over(backlog.pop())
        self.writer.close(self.reason)
        self._handler = None
        for timer in (self._timer, self._watch):
            if timer is not None:
                timer.cancel()

    def finish(self, reason: DisconnectReason) -> None:
        """Report the end, once; the transport is aborted if it is still there."""
        self.reason = reason
        self._end(reason)
        self.ended.set_result(reason)
        self._transport.abort()
        self._wake_drains(ConnectionClosed(reason))
        if self.requests is not None:
            self.requests.end(reason)
        try:
            self._owner.session_closed(self, reason)
        except Exception as error:  # noqa: BLE001  # the handler is the program's
            self.report("Exception when a connection had ended", error)

    def _reason_of(self, exc: Exception | None) -> DisconnectReason:
        begun = self._framer.pending
        error: Exception | None = exc
        if exc is None:
            text = "the peer closed the connection"
            if begun:
                text += f" in the middle of a message, {begun} bytes of which had come"
                error = EOFError(text)
            elif self.id is None:
                text += " before it gave its peer id"
            return DisconnectReason(DisconnectCause.PEER, text, error)
        return DisconnectReason(DisconnectCause.NETWORK, f"the connection broke: {exc}", exc)

    def _fail_framing(self, error: FramingError) -> None:
        if self.id is None:
            text = str(error) + guess(struct.pack("<i", error.length))
            self.abort(DisconnectCause.HANDSHAKE, text, error)
        else:
            self.abort(DisconnectCause.PROTOCOL, str(error), error)

    def fail_handler(self, error: BaseException) -> None:
        """A handler of messages has raised."""
        self.report(f"Exception in a handler of messages from {self.id!r}", error)
        self.abort(DisconnectCause.HANDLER, f"a handler raised {error!r}", error)

    def report(self, message: str, error: BaseException) -> None:
        """Tell the loop's exception handler."""
        self._loop.call_exception_handler(
            {
                "message": message,
                "exception": error,
                "protocol": self,
                "transport": self._transport,
            }
        )
