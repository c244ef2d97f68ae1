"""ZerioClient: a peer of one server."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from zerio_asyncio.messaging.configuration import Reconnect, ZerioClientConfiguration, choose
from zerio_asyncio.messaging.errors import (
    ConnectionClosed,
    DisconnectCause,
    DisconnectReason,
    HandshakeError,
    NotConnectedError,
)
from zerio_asyncio.messaging.events import Connected, ConnectFailed, Connecting, Disconnected
from zerio_asyncio.messaging.introduction import (
    ANSWER_MAX,
    check_answer,
    check_pair,
    check_peer_id,
    question,
)
from zerio_asyncio.messaging.node import Node
from zerio_asyncio.messaging.peer import STOP_SECONDS, Peer
from zerio_asyncio.messaging.session import Session
from zerio_asyncio.messaging.subjects import SUBSCRIPTIONS_MAX, check_pattern

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import Callable, Hashable

    from _typeshed import ReadableBuffer
    from typing_extensions import Self

    from zerio_asyncio.messaging.events import Event
    from zerio_asyncio.messaging.requests import Request


class ZerioClient(Node):
    """Exchanges messages with the ``ZerioServer`` at ``address``, a (host, port) pair.

    ``peer_id`` is the name under which the server knows it. ``async with`` connects, and closes.

    ``on_message(message)`` is called with each message. ``message`` is read-only and valid only
    during the call: it is in the registered memory that received it, and using it later raises
    ``ValueError``. An async ``on_message`` is awaited, and gets ``bytes``; at most ``concurrency``
    of them run at once. If the handler raises, the loop's exception handler is called and the
    connection ends. Without ``on_message``, take messages by ``receive`` or ``async for message in
    client``.

    ``on_request(request)``, plain or async, returns the answer to a `Request` of the server.
    ``on_event(event)`` is called with each `Connected`, `Disconnected`, `Connecting` and
    `ConnectFailed`.

    ``ssl`` is the client's context for TLS; ``server_hostname`` is the name in the server's
    certificate, if it is not the host. All other choices are fields of `ZerioClientConfiguration`,
    in ``config`` or as arguments here.
    """

    def __init__(
        self,
        address: tuple[str, int],
        peer_id: str,
        config: ZerioClientConfiguration | None = None,
        *,
        on_message: Callable[[Any], Any] | None = None,
        on_event: Callable[[Event], object] | None = None,
        on_request: Callable[[Request], Any] | None = None,
        concurrency: int = 64,
        ssl: tls.SSLContext | None = None,
        server_hostname: str | None = None,
        **choices: Any,
    ) -> None:
        self._address = check_pair(address)
        self.peer_id = check_peer_id(peer_id)
        self.config = choose(ZerioClientConfiguration, config, choices)
        self.total = None
        self.reason: DisconnectReason | None = None
        self._server_hostname = server_hostname
        self._session: Session | None = None
        self._answered: asyncio.Future[None] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._coming_back: asyncio.Task[None] | None = None
        self._stopping = False
        self._patterns: dict[str, None] = {}
        self._since = 0.0
        self._delay = 0.0
        super().__init__(ssl, on_message, on_event, on_request, concurrency)

    @property
    def answering(self) -> Self:
        """Who answers requests."""
        return self

    # ------------------------------------------------------------------- start and stop

    async def start(self) -> None:
        """Connect, send the peer id, and wait for the answer.

        ``OSError`` if the connection fails; ``HandshakeError`` if the server does not answer in
        time, or ends the connection; ``NotConnectedError`` if ``stop`` is called meanwhile;
        ``RuntimeError`` on any loop but zerio_asyncio's. This is tried once: ``reconnect`` is for
        connections that are lost.
        """
        self._set_up(self.config)
        self._stopping = False
        self.reason = None
        connecting = self._connecting = self._loop.create_task(self._connect())
        try:
            await asyncio.wait([connecting])
        except BaseException:  # cancelled itself, even if stop() is called as well
            try:
                await _give_up(connecting)
            finally:
                if self._connecting is connecting:
                    if self._session is not None:
                        self._session.abort(DisconnectCause.LOCAL, "gave up connecting")
                    self._tear_down()
            raise
        try:
            connecting.result()
        except BaseException as error:
            if self._connecting is not connecting:  # stop() has ended it, and cleaned up
                raise NotConnectedError("stopped while it was connecting") from error
            self._tear_down()
            raise

    async def stop(self, patience: float = STOP_SECONDS) -> None:
        """Close once everything sent has left, or when ``patience`` seconds have passed."""
        if self._loop is None:
            return
        self.handlers.spare()
        self._stopping = True  # a connection that ends by itself meanwhile is not made again
        try:
            tasks = [task for task in (self._connecting, self._coming_back) if task is not None]
            self._connecting = self._coming_back = None
            await _give_up(*tasks)
            sessions = () if self._session is None else (self._session,)
            await self._close_sessions(sessions, patience)
        finally:
            if self.reason is None:
                self.reason = DisconnectReason(DisconnectCause.LOCAL, "stopped")
            self._tear_down()

    def _tear_down(self) -> None:
        for task in (self._connecting, self._coming_back):
            if task is not None:
                task.cancel()
        self._connecting = self._coming_back = None
        if self._session is not None:  # the stop was cancelled
            self._session.abort(DisconnectCause.LOCAL, "stopped")
        super()._tear_down()

    @property
    def is_connected(self) -> bool:
        """Whether messages can be sent now."""
        session = self._session
        return session is not None and session.id is not None and not session.closing

    @property
    def peer(self) -> Peer:
        """The connection; ``ConnectionClosed`` or ``NotConnectedError`` if there is none."""
        return self._connected()

    async def _connect(self) -> None:
        """``OSError`` if there is no connection within ``handshake_timeout``."""
        host, port = self._address
        loop = self._loop  # stop() forgets it, and this may still be opening then
        answered = self._answered = loop.create_future()
        options: dict[str, Any] = {}
        limit = self.config.handshake_timeout
        if self._ssl is not None:
            options["server_hostname"] = self._server_hostname or host
            options["ssl_handshake_timeout"] = limit
        opening = loop.create_task(
            loop.create_connection(
                lambda: Session(self, loop, ANSWER_MAX), host, port, ssl=self._ssl, **options
            )
        )
        end = loop.time() + limit
        try:
            try:
                await _result(opening, limit, f"no connection to {host}:{port} within {limit:g} s")
            except (ConnectionResetError, ConnectionAbortedError, BrokenPipeError) as error:
                if self._ssl is None:
                    raise
                text = f"{host}:{port} ended the connection during TLS's handshake: is TLS there?"
                raise HandshakeError(text) from error
            left = max(0.0, end - loop.time())
            await _result(answered, left, f"no answer to the peer id within {limit:g} s")
        except BaseException:
            if self._session is not None:
                self._session.abort(DisconnectCause.LOCAL, "gave up connecting")
            opening.add_done_callback(_let_go)
            raise
        finally:
            # First, because what follows waits, and may be cancelled itself.
            if self._answered is answered:
                self._answered = None
            if answered.done() and not answered.cancelled():
                answered.exception()  # what is raised here reports it
            opening.add_done_callback(_hear)
            if not opening.done():
                await _give_up(opening)

    async def _come_back(self, how: Reconnect) -> None:
        """Try again until it succeeds, or as often as may be."""
        attempt = 0
        while True:
            attempt += 1
            shorter = random.uniform(0.5, 1.0)  # noqa: S311  # not a secret
            await asyncio.sleep(self._next_delay(how) * shorter)
            self._tell_of_attempt(Connecting(attempt))
            try:
                await self._connect()
                if self._session is None:  # lost before anybody looked
                    raise ConnectionClosed(self.reason)
            except OSError as error:
                if how.attempts is not None and attempt >= how.attempts:
                    self._tell_of_attempt(ConnectFailed(attempt, error, None))
                    break
                self._tell_of_attempt(ConnectFailed(attempt, error, self._peek(how)))
            else:
                return
        self.inbox.close()

    def _tell_of_attempt(self, event: Event) -> None:
        try:
            self._tell(event)
        except Exception as error:  # noqa: BLE001  # the handler is the program's
            message = f"Exception in on_event for {type(event).__name__}"
            self._loop.call_exception_handler({"message": message, "exception": error})

    def _next_delay(self, how: Reconnect) -> float:
        delay = self._peek(how)
        self._delay = delay
        return delay

    def _peek(self, how: Reconnect) -> float:
        return min(2 * self._delay, how.delay_max) if self._delay else how.delay_min

    # -------------------------------------------------------------------------- sending

    def send(self, message: ReadableBuffer, *, key: Hashable = None) -> None:
        """Send ``message`` to the server, as `Peer.send` does.

        ``NotConnectedError`` if there is no connection: ``ConnectionClosed``, with the reason, if
        there was one.
        """
        session = self._session
        if session is None or session.id is None:
            raise self._no_connection()
        if key is None:
            session.writer.send(message)
        else:
            session.send_as(message, key, None)

    def send_threadsafe(self, message: ReadableBuffer, timeout: float | None = None) -> None:
        """Send from another thread, as `ZerioServer.send_threadsafe` does."""
        self._connected().send_threadsafe(message, timeout)

    async def request(self, message: ReadableBuffer, timeout: float | None = None) -> bytes:
        """Send a request to the server and wait for the answer, as `Peer.request` does."""
        return await self._connected().request(message, timeout)

    def subscribe(self, pattern: str) -> None:
        """Ask for what the server publishes to subjects of ``pattern``.

        ``*`` stands for one word of a subject, ``>`` at the end for one or more. It may be called
        before the start, and is told to the server again at each reconnection. ``RuntimeError``
        without ``extensions=True``; ``ValueError`` if there can be no such subject, or for more
        than 1,024 patterns.
        """
        if not self.config.extensions:
            raise RuntimeError("subjects are an extension: connect with extensions=True")
        check_pattern(pattern)
        if pattern in self._patterns:
            return
        if len(self._patterns) >= SUBSCRIPTIONS_MAX:
            raise ValueError(f"at most {SUBSCRIPTIONS_MAX} subscriptions")
        self._patterns[pattern] = None
        self._tell_wish(pattern, True)

    def unsubscribe(self, pattern: str) -> None:
        """Ask for it no longer; what is under way still arrives.

        ``KeyError`` if it was not asked for.
        """
        del self._patterns[pattern]
        self._tell_wish(pattern, False)

    def _tell_wish(self, pattern: str, wanted: bool) -> None:
        session = self._session
        if session is not None and session.requests is not None and not session.writer.closed:
            session.requests.subscribe(pattern, wanted)

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until the server has read enough to accept more, as `Peer.drain` does."""
        await self._connected().drain(timeout)

    def _connected(self) -> Session:
        session = self._session
        if session is None or session.id is None:
            raise self._no_connection()
        return session

    def _no_connection(self) -> NotConnectedError:
        if self.reason is not None:
            return ConnectionClosed(self.reason)
        return self._not_started() if self._loop is None else NotConnectedError("not connected yet")

    # ------------------------------------------------------------------------- receiving

    async def receive(self, timeout: float | None = None) -> bytes:
        """The next message.

        When those that wait fill 1 MiB, reading stops until half of it is free. ``TimeoutError``
        (in Python 3.10 ``asyncio.TimeoutError``) after ``timeout`` seconds, by which nothing is
        lost; ``ConnectionClosed`` when the connection has ended and no other will follow.
        ``RuntimeError`` if the client was never started, or if there is an ``on_message``.
        """
        self._check_takes()
        item = await self.inbox.get(timeout)
        if item is None:
            raise ConnectionClosed(self.reason)
        return item[1]

    def __aiter__(self) -> Self:
        """Iterate over all messages: ``async for message in client``.

        The iteration ends when the connection was closed, by either side, and no other will follow;
        it raises ``ConnectionClosed`` if it ended in any other way.
        """
        self._check_takes()
        return self

    async def __anext__(self) -> bytes:
        """The next message."""
        try:
            return await self.receive()
        except ConnectionClosed as closed:
            if closed.reason is None or closed.reason.clean:
                raise StopAsyncIteration from None
            raise

    async def _call_handler(self, session: Session, message: bytes) -> None:  # noqa: ARG002
        if self._on_message is not None:
            await self._on_message(message)

    def pause_reading(self) -> None:
        """Stop reading from the server; messages already received are still delivered."""
        self._connected().pause_reading()

    def resume_reading(self) -> None:
        """Read again after ``pause_reading``."""
        self._connected().resume_reading()

    # ---------------------------------------------------------------- what sessions call

    def session_opened(self, session: Session) -> None:
        """The connection is open: send the peer id."""
        self._session = session
        session.writer.send(question(self.peer_id, self.config.extensions))

    def session_introduced(self, session: Session, message: bytes) -> None:
        """The server has answered."""
        try:
            check_answer(self.peer_id, self.config.extensions, message)
        except HandshakeError as error:
            if self._answered is not None and not self._answered.done():
                self._answered.set_exception(error)
            session.abort(DisconnectCause.HANDSHAKE, str(error))
            return
        session.establish(self.peer_id, self._called, None, self.config.extensions)
        for pattern in self._patterns:
            self._tell_wish(pattern, True)
        self.reason = None
        self._since = self._loop.time()
        self._tell(Connected(session))
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def subscribed(self, peer: Session, pattern: str, wanted: bool) -> None:
        """A server publishes, and subscribes to nothing."""

    def session_closed(self, session: Session, reason: DisconnectReason) -> None:
        """The connection has ended."""
        if self._session is not session:  # of an earlier start, which was given up
            if session.id is not None:
                self._tell(Disconnected(session, reason))
            return
        self._session = None
        self.reason = reason
        if self._answered is not None and not self._answered.done():
            text = f"no connection: {reason}"
            if reason.cause is DisconnectCause.PEER:
                text += ": the server may be full, or refuse an id that is taken"
                text += ", or want TLS" if self._ssl is None else ""
            self._answered.set_exception(HandshakeError(text))
        if session.id is None:
            return
        how = self.config.coming_back
        stopped = self._stopping or self._loop is None
        if how is None or reason.cause is DisconnectCause.LOCAL or stopped:
            self.inbox.close()
        elif self._coming_back is None or self._coming_back.done():
            if self._loop.time() - self._since > self._delay:
                self._delay = 0.0  # it was a success
            self._coming_back = self._loop.create_task(self._come_back(how))
        # otherwise one is being made, and was told above that this attempt has failed
        self._tell(Disconnected(session, reason))


async def _give_up(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.add_done_callback(_hear)
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _hear(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # nobody else needs to hear of it any more


def _let_go(opening: asyncio.Task[Any]) -> None:
    """It may open the connection before it hears that nobody waits any more."""
    if not opening.cancelled() and opening.exception() is None:
        transport, _ = opening.result()
        transport.abort()


async def _result(future: asyncio.Future[Any], timeout: float, text: str) -> None:
    done, _ = await asyncio.wait([future], timeout=timeout)
    if not done:
        raise HandshakeError(text)
    future.result()


def connect(
    address: tuple[str, int],
    peer_id: str,
    on_message: Callable[[Any], Any] | None = None,
    **choices: Any,
) -> ZerioClient:
    """Make a client, to be connected by ``async with``: a (host, port) pair, and its peer id.

    ``choices`` are the arguments of `ZerioClient` and the fields of `ZerioClientConfiguration`.
    """
    return ZerioClient(address, peer_id, on_message=on_message, **choices)
