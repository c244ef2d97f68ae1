"""ZerioServer: sends messages to peers by their ids, and receives theirs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from zerio_asyncio.messaging.configuration import ZerioServerConfiguration
from zerio_asyncio.messaging.errors import (
    DisconnectCause,
    DisconnectReason,
    NotConnectedError,
    SendingBuffersFullError,
    UnknownPeerError,
)
from zerio_asyncio.messaging.node import Node
from zerio_asyncio.messaging.session import STOP_SECONDS, Session, check_peer_id

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import AsyncIterator, Callable

    from _typeshed import ReadableBuffer
    from typing_extensions import Self


BACKLOG = 1024
"""How many connections may wait for accept: clients of a restarted server return all at once."""


class ZerioServer(Node):
    """Listens on ``(host, port)`` for clients that speak Zerio's wire format.

    Port 0 picks a free port. Events are methods to override, or callables to pass here under the
    same names: ``client_connected(peer_id)``, ``client_disconnected(peer_id, reason)``,
    ``message_received(peer_id, message)``. Without ``message_received``, iterate over
    ``messages()``.

    ``ssl`` is the server's context for TLS. ``config`` has all other choices.
    """

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        config: ZerioServerConfiguration | None = None,
        *,
        ssl: tls.SSLContext | None = None,
        client_connected: Callable[[str], object] | None = None,
        client_disconnected: Callable[[str | None, DisconnectReason], object] | None = None,
        message_received: Callable[[str, memoryview], object] | None = None,
    ) -> None:
        if config is None:
            config = ZerioServerConfiguration()
        elif not isinstance(config, ZerioServerConfiguration):
            raise TypeError(f"config must be a ZerioServerConfiguration, not {config!r}")
        self.config = config
        self.peer_id: str | None = None
        self._address = host, port
        self._server: asyncio.Server | None = None
        self._sessions: dict[str, Session] = {}
        self._connections: set[Session] = set()
        handlers = {
            "client_connected": client_connected,
            "client_disconnected": client_disconnected,
            "message_received": message_received,
        }
        super().__init__(ssl, handlers)

    # -------------------------------------------------------------------------- events

    def client_connected(self, peer_id: str) -> None:
        """A client has sent its peer id, and messages can be sent to it."""

    def client_disconnected(self, peer_id: str | None, reason: DisconnectReason) -> None:
        """A connection has ended; ``peer_id`` is None if it was never reported as connected."""

    def message_received(self, peer_id: str, message: memoryview) -> None:
        """``peer_id`` sent ``message``, which is read-only and valid only during this call.

        It is in the registered memory that received it; using it later raises ``ValueError``. If
        this method raises, the loop's exception handler is called and the connection ends.
        """

    # ------------------------------------------------------------------- start and stop

    async def start(self, peer_id: str) -> None:
        """Listen; ``peer_id`` is this server's own name, which the wire format does not carry.

        ``RuntimeError`` on any loop but zerio_asyncio's, ``OSError`` if the address is not
        available.
        """
        check_peer_id(peer_id)
        self._set_up(self.config, ZerioServer.message_received)
        host, port = self._address
        try:
            self._server = await self._loop.create_server(
                lambda: Session(self, self._loop),
                host,
                port,
                ssl=self._ssl,
                backlog=BACKLOG,
                ssl_handshake_timeout=self.config.handshake_timeout if self._ssl else None,
            )
        except BaseException:
            self._tear_down()
            raise
        self.peer_id = peer_id

    async def stop(self, patience: float = STOP_SECONDS) -> None:
        """Close the connections once everything sent has left, or ``patience`` seconds have passed.

        ``client_disconnected`` is called for every client before this returns, and ``messages()``
        ends after the messages that have arrived.
        """
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        try:
            await self._close_sessions(tuple(self._connections), patience)
        finally:
            self._tear_down()
        with contextlib.suppress(asyncio.TimeoutError):
            # From Python 3.12 on this also waits for TLS handshakes, which end by themselves.
            await asyncio.wait_for(server.wait_closed(), patience)

    async def __aenter__(self) -> Self:
        """Start as ``"server"`` unless already started."""
        if self._server is None:
            await self.start("server")
        return self

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

    def send(self, peer_id: str, message: ReadableBuffer) -> None:
        """Send ``message``, bytes-like, to ``peer_id``; you may change it once this returns.

        If the peer is not connected, ``config.unknown_peer`` decides: ``UnknownPeerError``, or
        nothing. If the peer does not read, ``config.slow_peer`` decides:
        ``SendingBuffersFullError``, or the end of the connection. ``ValueError`` if the message is
        longer than ``config.framing_buffer_length``.
        """
        session = self._sessions.get(peer_id) or self._missing(peer_id)
        if session is not None:
            session.writer.send(message)

    def send_threadsafe(
        self, peer_id: str, message: ReadableBuffer, timeout: float | None = None
    ) -> None:
        """Send from any thread, in the order of that thread's calls.

        The message is copied into a ring, and the loop's thread sends it. While the ring is full,
        this waits for at most ``timeout`` seconds and then raises ``SendingRingFullError``. In the
        loop's own thread it sends the contents of the ring instead of waiting. If the peer
        disconnects meanwhile, the message is lost, like any in transit. ``NotConnectedError`` after
        ``stop``.
        """
        outbox = self._outbox
        if outbox is None:
            raise NotConnectedError("the server is not running")
        session = self._sessions.get(peer_id) or self._missing(peer_id)
        if session is not None:
            outbox.put(session, message, timeout)

    def broadcast(self, message: ReadableBuffer) -> int:
        """Send ``message`` to every peer; return the number of peers.

        ``SendingBuffersFullError`` names the peers that did not get it; all others did.
        """
        slow: list[str] = []
        sessions = tuple(self._sessions.values())
        for session in sessions:
            try:
                session.writer.send(message)
            except SendingBuffersFullError as full:  # noqa: PERF203  # each may be
                slow += full.peer_ids
        if slow:
            raise SendingBuffersFullError(tuple(slow), f"peers do not read: {', '.join(slow)}")
        return len(sessions)

    async def drain(self, peer_id: str | None = None) -> None:
        """Wait until ``peer_id``, or with None every peer, has read enough to accept more.

        ``NotConnectedError`` if it disconnects, ``UnknownPeerError`` as with ``send``.
        """
        if peer_id is not None:
            session = self._sessions.get(peer_id) or self._missing(peer_id)
            if session is not None:
                await session.drain()
            return
        for session in tuple(self._sessions.values()):
            if not session.closing:
                await session.drain()

    def _missing(self, peer_id: str) -> Session | None:
        if self.config.unknown_peer == "raise":
            raise UnknownPeerError(peer_id)
        return None

    # ------------------------------------------------------------------------- receiving

    def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        """Iterate over all messages: ``async for peer_id, message in server.messages()``.

        The messages are ``bytes``. A bounded number waits for each peer: when they fill
        ``receiving_buffer_count`` buffers, that peer is not read until half of them are free. The
        iteration ends after ``stop``. ``RuntimeError`` if there is a ``message_received``.
        """
        self._check_keeps()
        return self._messages()

    async def _messages(self) -> AsyncIterator[tuple[str, bytes]]:
        while (item := await self.inbox.get()) is not None:
            session, message = item
            yield session.peer_id or "", message

    def pause_reading(self, peer_id: str) -> None:
        """Stop reading from ``peer_id``; messages already received are still delivered."""
        session = self._sessions.get(peer_id) or self._missing(peer_id)
        if session is not None:
            session.pause_reading("program")

    def resume_reading(self, peer_id: str) -> None:
        """Read again after ``pause_reading``."""
        session = self._sessions.get(peer_id) or self._missing(peer_id)
        if session is not None:
            session.resume_reading("program")

    def disconnect(
        self, peer_id: str, text: str = "disconnected", patience: float = STOP_SECONDS
    ) -> None:
        """Close the connection once everything sent has left, or ``patience`` seconds have passed.

        ``text`` becomes the reason's text. Messages sent to this peer from now on are dropped.
        """
        session = self._sessions.get(peer_id) or self._missing(peer_id)
        if session is not None:
            session.close(DisconnectCause.LOCAL, text, patience)

    # ---------------------------------------------------------------- what sessions call

    def session_opened(self, session: Session) -> None:
        """A connection was accepted."""
        self._connections.add(session)
        if self._server is None:
            session.abort(DisconnectCause.LOCAL, "stopped")
        elif len(self._connections) > self.config.session_count:
            count = self.config.session_count
            session.abort(DisconnectCause.SESSIONS, f"{count} connections are open already")

    def session_introduced(self, session: Session, peer_id: str) -> None:
        """A client sent its peer id."""
        other = self._sessions.get(peer_id)
        if other is not None:
            if not other.closing and self.config.duplicate_peer == "refuse":
                session.abort(DisconnectCause.DUPLICATE, f"the peer id {peer_id!r} is taken")
                return
            text = "another connection has taken the peer id over"
            other.finish(other.reason or DisconnectReason(DisconnectCause.DUPLICATE, text))
        self._sessions[peer_id] = session
        handler: Any = None if self._keeps else self.message_received
        session.establish(peer_id, handler, peer_id)
        session.writer.send(peer_id.encode("ascii"))
        self.client_connected(peer_id)

    def session_closed(self, session: Session, reason: DisconnectReason) -> None:
        """A connection has ended."""
        self._connections.discard(session)
        if session.peer_id is not None and self._sessions.get(session.peer_id) is session:
            del self._sessions[session.peer_id]
        self.client_disconnected(session.peer_id, reason)
