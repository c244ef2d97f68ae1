"""ZerioServer: sends messages to peers by their ids, and receives theirs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from zerio_asyncio.messaging.configuration import ZerioServerConfiguration, choose
from zerio_asyncio.messaging.errors import (
    ConnectionClosed,
    DisconnectCause,
    DisconnectReason,
    NotConnectedError,
    SlowPeerError,
    UnknownPeerError,
)
from zerio_asyncio.messaging.events import Connected, Disconnected
from zerio_asyncio.messaging.framing import UnsentTotal
from zerio_asyncio.messaging.introduction import (
    INTRODUCTION_MAX,
    agreement,
    check_address,
    read_question,
    refusal,
)
from zerio_asyncio.messaging.node import Node
from zerio_asyncio.messaging.peer import STOP_SECONDS, Peer
from zerio_asyncio.messaging.session import Session
from zerio_asyncio.messaging.subjects import Subscriptions

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import Callable, Collection, Hashable, Iterable

    from _typeshed import ReadableBuffer
    from typing_extensions import Self

    from zerio_asyncio.messaging.configuration import SlowPeer
    from zerio_asyncio.messaging.events import Event
    from zerio_asyncio.messaging.requests import Request

logger = logging.getLogger("zerio_asyncio")

BACKLOG = 1024
"""How many connections may wait for accept: clients of a restarted server return all at once."""

PROGRESS_SECONDS = 1.0
"""A peer that takes nothing for so long is slow: who waits for all does not wait for it."""

REFUSED = {DisconnectCause.HANDSHAKE, DisconnectCause.DUPLICATE, DisconnectCause.LIMIT}
"""Ends of connections that never were, which the log tells."""

REFUSALS_SECONDS = 10.0
"""How often it tells of the same cause."""


class ZerioServer(Node):
    """Listens on ``(host, port)`` for clients that speak Zerio's wire format.

    Port 0 picks a free port. ``async with`` starts and stops the server.

    ``on_message(peer, message)`` is called with each message. ``message`` is read-only and valid
    only during the call: it is in the registered memory that received it, and using it later raises
    ``ValueError``. An async ``on_message`` is awaited, and gets ``bytes``; at most ``concurrency``
    of them run at once, those of one peer, too. If the handler raises, the loop's exception handler
    is called and the connection ends. Without ``on_message``, take messages by ``receive`` or
    ``async for peer, message in server``.

    ``on_request(request)``, plain or async, returns the answer to a `Request`.
    ``on_event(event)`` is called with each `Connected` and `Disconnected`.

    ``ssl`` is the server's context for TLS. All other choices are fields of
    `ZerioServerConfiguration`, in ``config`` or as arguments here.
    """

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        config: ZerioServerConfiguration | None = None,
        *,
        on_message: Callable[[Peer, Any], Any] | None = None,
        on_event: Callable[[Event], object] | None = None,
        on_request: Callable[[Request], Any] | None = None,
        concurrency: int = 64,
        ssl: tls.SSLContext | None = None,
        **choices: Any,
    ) -> None:
        check_address(host, port, 0)
        self.config = choose(ZerioServerConfiguration, config, choices)
        self.total: UnsentTotal | None = None
        self._address = host, port
        self._server: asyncio.Server | None = None
        self._starting: asyncio.Future[None] | None = None
        self._ending: asyncio.Future[None] | None = None
        self._stopped = False
        self._sessions: dict[str, Session] = {}
        self._connections: set[Session] = set()
        self._subscriptions = Subscriptions()
        self._refusals: dict[DisconnectCause, tuple[float, int]] = {}
        super().__init__(ssl, on_message, on_event, on_request, concurrency)

    @property
    def answering(self) -> Self:
        """Who answers requests."""
        return self

    # ------------------------------------------------------------------- start and stop

    async def start(self) -> None:
        """Listen.

        ``RuntimeError`` on any loop but zerio_asyncio's, ``OSError`` if the address is not
        available, ``NotConnectedError`` if ``stop`` is called meanwhile.
        """
        self._set_up(self.config)
        self.total = UnsentTotal(self.config.unsent_total_max or 0)
        self._stopped = False
        starting = self._starting = self._loop.create_future()
        host, port = self._address
        try:
            server = await self._loop.create_server(
                lambda: Session(self, self._loop, INTRODUCTION_MAX),
                host,
                port,
                ssl=self._ssl,
                backlog=BACKLOG,
                ssl_handshake_timeout=self.config.handshake_timeout if self._ssl else None,
            )
            self._keep(server)
        except BaseException:
            await self._close_sessions(tuple(self._connections), 0)
            self._tear_down()
            raise
        finally:
            self._starting = None
            starting.set_result(None)

    def _keep(self, server: asyncio.Server) -> None:
        if self._stopped:
            server.close()
            raise NotConnectedError("stopped while it was starting")
        self._server = server

    async def stop(self, patience: float = STOP_SECONDS) -> None:
        """Close the connections once everything sent has left, or ``patience`` seconds have passed.

        Every client's ``Disconnected`` is told before this returns; what has been received can
        still be taken, and then iterations end. Handlers that are awaited get ``patience`` seconds,
        too. A second call waits for the first, but in a handler.
        """
        self._stopped = True
        if self._loop is None:
            return
        in_handler = self.handlers.spare()
        if self._starting is not None:
            await asyncio.wait([self._starting])
        server, self._server = self._server, None
        if server is None:
            if self._ending is not None and not in_handler:
                await asyncio.wait([self._ending])
            return
        ending = self._ending = self._loop.create_future()
        server.close()
        try:
            await self._close_sessions(tuple(self._connections), patience)
        finally:
            self._tear_down()
            self._ending = None
            ending.set_result(None)
        with contextlib.suppress(asyncio.TimeoutError):
            # From Python 3.12 on this also waits for TLS handshakes, which end by themselves.
            await asyncio.wait_for(server.wait_closed(), patience)

    @property
    def is_running(self) -> bool:
        """Whether the server listens."""
        return self._server is not None

    @property
    def listening_port(self) -> int:
        """The port, also if 0 was given; ``RuntimeError`` unless the server listens."""
        if self._server is None:
            raise RuntimeError("the server does not listen")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    # -------------------------------------------------------------------------- sending

    @property
    def peers(self) -> tuple[str, ...]:
        """The ids of the connected clients, in the order in which they connected."""
        return tuple(self._sessions.copy())  # in one step: other threads may ask

    def peer(self, peer_id: str) -> Peer:
        """The connection of ``peer_id``; ``UnknownPeerError`` if there is none."""
        return self._session(peer_id)

    def _session(self, peer_id: str) -> Session:
        session = self._sessions.get(peer_id)
        if session is None:
            raise self._missing(peer_id)
        return session

    def _missing(self, peer_id: str) -> Exception:
        return self._not_started() if self._loop is None else UnknownPeerError(peer_id)

    def send(self, peer_id: str, message: ReadableBuffer, *, key: Hashable = None) -> None:
        """Send ``message`` to ``peer_id``, as `Peer.send` does.

        ``UnknownPeerError`` if the peer is not connected, ``NotConnectedError`` if the server does
        not run.
        """
        session = self._sessions.get(peer_id)
        if session is None:
            raise self._missing(peer_id)
        if key is None:
            session.writer.send(message)
        else:
            session.send_as(message, key, None)

    def send_threadsafe(
        self, peer_id: str, message: ReadableBuffer, timeout: float | None = None
    ) -> None:
        """Send from another thread, with a limit to the waiting.

        The message is copied into a ring, and the loop's thread sends it; ``send`` in another
        thread does the same. While the ring is full, this waits for at most ``timeout`` seconds
        and then raises ``SendingRingFullError``.
        """
        self._session(peer_id).send_threadsafe(message, timeout)

    def broadcast(
        self,
        message: ReadableBuffer,
        *,
        exclude: Collection[str] = (),
        slow: SlowPeer | None = None,
        key: Hashable = None,
    ) -> int:
        """Send ``message`` to every peer but those in ``exclude``; return how many got it.

        ``slow`` decides about slow peers, in place of ``slow_peer``. ``SlowPeerError`` names the
        peers that did not get it; all others did.
        """
        sessions = tuple(self._sessions.copy().values())  # in one step: other threads may send
        if exclude:
            sessions = tuple(each for each in sessions if each.id not in exclude)
        return self._send_all(sessions, message, key, slow)

    def publish(
        self, subject: str, message: ReadableBuffer, *, slow: SlowPeer | None = None
    ) -> int:
        """Send ``message`` to all who have subscribed to ``subject``; return how many got it.

        Each gets it once, as a message like any other. With ``slow_peer="latest"``, or ``slow`` in
        its place, the last message of each subject is kept for a slow peer. ``SlowPeerError`` as
        for ``broadcast``. In the loop's own thread alone.
        """
        if self._loop is None:
            raise self._not_started()
        if self._loop._thread_id not in {None, threading.get_ident()}:
            raise RuntimeError("publish() is for the loop's own thread; others call send()")
        key = subject if (slow or self.config.slow_peer) == "latest" else None
        return self._send_all(self._subscriptions.wanting(subject), message, key, slow)

    def _send_all(
        self,
        sessions: Iterable[Session],
        message: ReadableBuffer,
        key: Hashable,
        slow: SlowPeer | None,
    ) -> int:
        if type(message) is not bytes:
            message = memoryview(message).tobytes()  # once for all
        failed: list[str] = []
        sent = 0
        plain = slow is None and key is None
        for session in sessions:
            if session.writer.closed:
                continue
            before = session.dropped
            try:
                if plain:
                    session.writer.send(message)
                else:
                    session.send_as(message, key, slow)
            except SlowPeerError as full:
                failed += full.peer_ids
            sent += session.dropped == before and not session.writer.closed
        if failed:
            raise SlowPeerError(tuple(failed), f"peers do not read: {', '.join(failed)}")
        return sent

    async def request(
        self, peer_id: str, message: ReadableBuffer, timeout: float | None = None
    ) -> bytes:
        """Send a request to ``peer_id`` and wait for the answer, as `Peer.request` does."""
        return await self._session(peer_id).request(message, timeout)

    async def drain(
        self, peer_id: str | None = None, timeout: float | None = None
    ) -> tuple[str, ...]:
        """Wait until ``peer_id``, or with None every peer, has read enough to accept more.

        For one peer as `Peer.drain`. For all, those are left out that are gone, and those that have
        taken nothing for a second or are not ready after ``timeout`` seconds: their ids are
        returned.
        """
        if peer_id is not None:
            await self._session(peer_id).drain(timeout)
            return ()
        sessions = tuple(self._sessions.values())
        slow = await asyncio.gather(*(self._drain_or_leave(each, timeout) for each in sessions))
        return tuple(each.id or "" for each, is_slow in zip(sessions, slow, strict=True) if is_slow)

    async def _drain_or_leave(self, session: Session, timeout: float | None) -> bool:
        """Whether the peer was left out because it is slow."""
        end = None if timeout is None else self._loop.time() + timeout
        unsent = -1
        while not session.ready and session.unsent != unsent:
            unsent = session.unsent
            left = PROGRESS_SECONDS
            if end is not None:
                left = min(left, end - self._loop.time())
                if left <= 0:
                    return True
            try:
                await session.drain(left)
            except ConnectionClosed:
                return False
            except asyncio.TimeoutError:
                continue
            return False
        return not session.ready

    # ------------------------------------------------------------------------- receiving

    async def receive(self, timeout: float | None = None) -> tuple[Peer, bytes]:
        """The next message, with the peer that sent it.

        A bounded number waits for each peer: when they fill 1 MiB, that peer is not read until half
        of it is free. ``TimeoutError`` (in Python 3.10 ``asyncio.TimeoutError``) after ``timeout``
        seconds, by which nothing is lost; ``ConnectionClosed`` once the server has stopped.
        ``RuntimeError`` if it was never started, or if there is an ``on_message``.
        """
        self._check_takes()
        item: Any = await self.inbox.get(timeout)
        if item is None:
            raise ConnectionClosed(None)
        return item[0], item[1]

    def __aiter__(self) -> Self:
        """Iterate over all messages: ``async for peer, message in server``, until ``stop``."""
        self._check_takes()
        return self

    async def __anext__(self) -> tuple[Peer, bytes]:
        """The next message."""
        try:
            return await self.receive()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    async def _call_handler(self, session: Session, message: bytes) -> None:
        if self._on_message is not None:
            await self._on_message(session, message)

    def pause_reading(self, peer_id: str) -> None:
        """Stop reading from ``peer_id``; messages already received are still delivered."""
        self._session(peer_id).pause_reading()

    def resume_reading(self, peer_id: str) -> None:
        """Read again after ``pause_reading``."""
        self._session(peer_id).resume_reading()

    def disconnect(
        self, peer_id: str, text: str = "disconnected", patience: float = STOP_SECONDS
    ) -> None:
        """Close the connection, as `Peer.disconnect` does."""
        self._session(peer_id).disconnect(text, patience)

    # ---------------------------------------------------------------- what sessions call

    def session_opened(self, session: Session) -> None:
        """A connection was accepted."""
        self._connections.add(session)
        if self._stopped:
            session.abort(DisconnectCause.LOCAL, "stopped")
        elif len(self._connections) > self.config.peers_max:
            count = self.config.peers_max
            session.abort(DisconnectCause.LIMIT, f"{count} connections are open already")

    def session_introduced(self, session: Session, message: bytes) -> None:
        """A client sent its peer id."""
        try:
            peer_id, extensions = read_question(message)
        except ValueError as error:
            session.abort(DisconnectCause.HANDSHAKE, str(error))
            return
        other = self._sessions.get(peer_id)
        if other is not None:
            if not other.closing and self.config.duplicate_peer == "refuse":
                self._refuse_duplicate(session, peer_id, extensions)
                return
            text = "another connection has taken the peer id over"
            other.finish(other.reason or DisconnectReason(DisconnectCause.DUPLICATE, text))
        self._sessions[peer_id] = session
        session.writer.send(agreement(peer_id, extensions))
        session.establish(peer_id, self._called, session, extensions)
        self._tell(Connected(session))

    def _refuse_duplicate(self, session: Session, peer_id: str, extensions: bool) -> None:
        cause, text = DisconnectCause.DUPLICATE, f"the peer id {peer_id!r} is taken"
        if extensions:  # it understands more than an end
            session.writer.send(refusal(cause, text))
            session.close(cause, text, PROGRESS_SECONDS)
        else:
            session.abort(cause, text)

    def session_closed(self, session: Session, reason: DisconnectReason) -> None:
        """A connection has ended."""
        self._connections.discard(session)
        if session.id is not None and self._sessions.get(session.id) is session:
            del self._sessions[session.id]
        self._subscriptions.end(session)
        if session.id is None and reason.cause in REFUSED:
            self._log_refusal(reason)
        self._tell(Disconnected(session, reason))

    def subscribed(self, peer: Session, pattern: str, wanted: bool) -> None:
        """A client has subscribed to ``pattern``, or no longer wants it."""
        if not wanted:
            self._subscriptions.remove(peer, pattern)
            return
        try:
            self._subscriptions.add(peer, pattern)
        except ValueError as error:
            peer.abort(DisconnectCause.PROTOCOL, str(error), error)

    def _log_refusal(self, reason: DisconnectReason) -> None:
        """Once for each cause in ten seconds: a flood of connections does not fill the log."""
        now = self._loop.time()
        before, others = self._refusals.get(reason.cause, (now - REFUSALS_SECONDS, 0))
        if now - before < REFUSALS_SECONDS:
            self._refusals[reason.cause] = before, others + 1
            return
        more = f" (and {others} others since the last time)" if others else ""
        logger.warning("Refused a connection: %s%s", reason, more)
        self._refusals[reason.cause] = now, 0


def serve(
    port: int,
    on_message: Callable[[Peer, Any], Any] | None = None,
    *,
    host: str = "127.0.0.1",
    **choices: Any,
) -> ZerioServer:
    """Make a server, to be started by ``async with``: its port, and who takes the messages.

    ``choices`` are the arguments of `ZerioServer` and the fields of `ZerioServerConfiguration`.
    """
    return ZerioServer(port, host, on_message=on_message, **choices)
