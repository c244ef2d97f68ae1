"""What two sides that have agreed on extensions say: requests, replies, pings, subscriptions.

On the wire each is a Zerio message of its own::

    mark (8 bytes) | kind (1 byte) | number (8 bytes, little-endian) | the program's bytes

The side that asks numbers its requests; a reply has the number of its request. A message of the
program that begins with the mark by chance is sent behind the mark and a zero.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any, Protocol

from zerio_asyncio.messaging.errors import (
    ConnectionClosed,
    DisconnectReason,
    RequestError,
    SlowPeerError,
    TooManyRequestsError,
)
from zerio_asyncio.messaging.framing import MARK

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

    from zerio_asyncio.messaging.framing import MessageWriter
    from zerio_asyncio.messaging.handlers import Handlers
    from zerio_asyncio.messaging.peer import Peer

ESCAPED, REQUEST, REPLY, FAILED, CANCEL, PING, PONG, SUBSCRIBE, UNSUBSCRIBE = range(9)

HEAD = struct.Struct(f"<{len(MARK)}sBQ")

OVERHEAD = HEAD.size
"""How much longer than the longest of the program a message may be."""

UNANSWERED_MAX = 1024
"""Requests of one side of a connection that wait for their replies."""

WORDS_MAX = 200
"""Characters of the reason why a request was not answered."""


class Request:
    """A request of the other side; answered by what ``on_request`` returns, or by ``reply``."""

    __slots__ = ("_number", "_requests", "message", "peer")

    def __init__(self, requests: Requests, number: int, peer: Peer, message: bytes) -> None:
        self._requests = requests
        self._number = number
        self.peer = peer
        """Who asks."""
        self.message = message
        """What is asked."""

    @property
    def open(self) -> bool:
        """Whether an answer is still awaited."""
        return self._number in self._requests.asked

    def reply(self, message: ReadableBuffer) -> None:
        """Answer, once; nothing happens if nobody waits for it any more."""
        self._requests.answer(self._number, REPLY, message)

    def refuse(self, text: str) -> None:
        """Have the other side's ``request`` raise ``RequestError(text)``."""
        words = text[:WORDS_MAX].encode("utf-8", "replace")
        self._requests.answer(self._number, FAILED, words)


class Answering(Protocol):
    """Who answers requests: a server or client."""

    @property
    def on_request(self) -> Callable[[Request], Any] | None:
        """Its handler."""

    @property
    def awaits_requests(self) -> bool:
        """Whether that is awaited."""

    @property
    def handlers(self) -> Handlers:
        """Where it runs then."""

    def subscribed(self, peer: Any, pattern: str, wanted: bool) -> None:
        """The other side wants what is published to subjects of ``pattern``, or no longer."""


class Requests:
    """Both directions of one connection."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        peer: Peer,
        writer: MessageWriter,
        answering: Answering,
        report: Callable[[str, BaseException], None],
    ) -> None:
        self._loop = loop
        self._peer = peer
        self._writer = writer
        self._answering = answering
        self._report = report
        self._numbers = 0
        self._replies: dict[int, asyncio.Future[bytes]] = {}
        self.asked: dict[int, asyncio.Task[None] | None] = {}
        """Requests of the other side that have no answer yet, with what works on it."""

    # --------------------------------------------------------------------- our requests

    async def request(self, message: ReadableBuffer, timeout: float | None) -> bytes:
        """Send a request and wait for its reply."""
        if len(self._replies) >= UNANSWERED_MAX:
            raise TooManyRequestsError(f"{UNANSWERED_MAX} requests have no answer yet")
        self._numbers += 1
        number = self._numbers
        if not self._send(REQUEST, number, message):
            peer_id = self._peer.id or ""
            raise SlowPeerError((peer_id,), f"{peer_id!r} does not read: no room for a request")
        reply = self._replies[number] = self._loop.create_future()
        try:
            return await _result(reply, timeout)
        except BaseException:
            if number in self._replies and not self._writer.closed:
                self.send(CANCEL, number)
            raise
        finally:
            self._replies.pop(number, None)

    def send(self, kind: int, number: int = 0) -> None:
        """Send what has no bytes of the program, however much waits."""
        self._writer.send_control(HEAD.pack(MARK, kind, number), True)

    def subscribe(self, pattern: str, wanted: bool) -> None:
        """Tell the other side what is wanted, or no longer."""
        kind = SUBSCRIBE if wanted else UNSUBSCRIBE
        self._writer.send_control(HEAD.pack(MARK, kind, 0) + pattern.encode("utf-8"), True)

    def _send(self, kind: int, number: int, message: ReadableBuffer) -> bool:
        size = memoryview(message).nbytes
        if size > self._writer.length_max:
            raise ValueError(f"a message of {size} bytes: the limit is {self._writer.length_max}")
        whole = HEAD.pack(MARK, kind, number) + memoryview(message).tobytes()
        return self._writer.send_control(whole)

    def end(self, reason: DisconnectReason) -> None:
        """The connection has ended: nobody waits any longer."""
        replies, self._replies = self._replies, {}
        for reply in replies.values():
            if not reply.done():
                reply.set_exception(ConnectionClosed(reason))
                reply.exception()  # if nobody waits for it, nobody needs to be told
        asked, self.asked = self.asked, {}
        for task in asked.values():
            if task is not None and task is not asyncio.current_task(self._loop):
                self._answering.handlers.cancel(task)

    # ------------------------------------------------------------------------- theirs

    def take(self, view: memoryview) -> bytes | None:
        """Take a message with the mark; return what is the program's after all."""
        kind = view[len(MARK)] if len(view) > len(MARK) else PONG
        if kind == ESCAPED:
            return bytes(view[len(MARK) + 1 :])
        if len(view) < OVERHEAD:
            return None
        _, _, number = HEAD.unpack_from(view)
        if kind == REQUEST:
            self._take_request(number, bytes(view[OVERHEAD:]))
        elif kind in {REPLY, FAILED}:
            self._take_reply(kind, number, bytes(view[OVERHEAD:]))
        elif kind == CANCEL:
            task = self.asked.pop(number, None)
            if task is not None:
                self._answering.handlers.cancel(task)
        elif kind == PING:
            self.send(PONG)
        elif kind in {SUBSCRIBE, UNSUBSCRIBE}:
            pattern = str(view[OVERHEAD:], "utf-8", "replace")
            self._answering.subscribed(self._peer, pattern, kind == SUBSCRIBE)
        return None  # of kinds that a later version may know we know nothing

    def _take_reply(self, kind: int, number: int, message: bytes) -> None:
        reply = self._replies.get(number)
        if reply is None or reply.done():
            return
        if kind == REPLY:
            reply.set_result(message)
        else:
            reply.set_exception(RequestError(message.decode("utf-8", "replace")))
            reply.exception()  # its request may have been cancelled in this turn

    def _take_request(self, number: int, message: bytes) -> None:
        request = Request(self, number, self._peer, message)
        self.asked[number] = None
        handler = self._answering.on_request
        if handler is None:
            request.refuse("this side answers no requests: it has no on_request")
        elif len(self.asked) > UNANSWERED_MAX:
            request.refuse(f"{UNANSWERED_MAX} requests have no answer yet")
        elif self._answering.awaits_requests:
            self.asked[number] = self._answering.handlers.spawn(self._answer(request, handler))
        else:
            self._call(request, handler)

    def _call(self, request: Request, handler: Callable[[Request], Any]) -> None:
        try:
            answer = handler(request)
            if answer is not None:
                request.reply(answer)
        except Exception as error:  # noqa: BLE001  # the handler is the program's
            self._fail(request, error)

    async def _answer(self, request: Request, handler: Callable[[Request], Any]) -> None:
        try:
            answer = await self._answering.handlers.in_turn(lambda: handler(request))
            if answer is not None:
                request.reply(answer)
            elif request.open:
                request.refuse("on_request gave no answer")
        except Exception as error:  # noqa: BLE001  # the handler is the program's
            self._fail(request, error)

    def _fail(self, request: Request, error: Exception) -> None:
        if isinstance(error, ConnectionClosed) and self._peer.closing:
            return  # nobody is left to be answered
        self._report(f"Exception in on_request for {self._peer.id!r}", error)
        if not self._peer.closing:
            request.refuse(f"on_request raised {type(error).__name__}: {error}")

    def answer(self, number: int, kind: int, message: ReadableBuffer) -> None:
        """Answer a request that has no answer yet."""
        if number not in self.asked:
            return
        sent = self._send(kind, number, message)
        self.asked.pop(number, None)
        if not sent:
            self._peer.disconnect("it does not read its replies", 0)


async def _result(reply: asyncio.Future[bytes], timeout: float | None) -> bytes:
    done, _ = await asyncio.wait([reply], timeout=timeout)
    if not done:
        raise asyncio.TimeoutError(f"no reply within {timeout:g} s")
    return reply.result()
