"""ZerioClient: a peer of one server."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from zerio_asyncio.messaging.configuration import ZerioClientConfiguration
from zerio_asyncio.messaging.errors import (
    DisconnectCause,
    DisconnectReason,
    HandshakeError,
    NotConnectedError,
)
from zerio_asyncio.messaging.node import Node
from zerio_asyncio.messaging.session import STOP_SECONDS, Session, check_peer_id

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import AsyncIterator, Callable

    from _typeshed import ReadableBuffer
    from typing_extensions import Self


class ZerioClient(Node):
    """Exchanges messages with the ``ZerioServer`` at ``server_address``, a (host, port) pair.

    Events are methods to override, or callables to pass here under the same names:
    ``connected()``, ``disconnected(reason)``, ``message_received(message)``. Without
    ``message_received``, iterate over ``messages()``.

    ``ssl`` is the client's context for TLS; ``server_hostname`` is the name in the server's
    certificate, if it is not the host.
    """

    def __init__(
        self,
        server_address: tuple[str, int],
        config: ZerioClientConfiguration | None = None,
        *,
        ssl: tls.SSLContext | None = None,
        server_hostname: str | None = None,
        connected: Callable[[], object] | None = None,
        disconnected: Callable[[DisconnectReason], object] | None = None,
        message_received: Callable[[memoryview], object] | None = None,
    ) -> None:
        if config is None:
            config = ZerioClientConfiguration()
        elif not isinstance(config, ZerioClientConfiguration):
            raise TypeError(f"config must be a ZerioClientConfiguration, not {config!r}")
        self.config = config
        self.peer_id: str | None = None
        self._address = server_address
        self._server_hostname = server_hostname
        self._session: Session | None = None
        self._answered: asyncio.Future[None] | None = None
        self._connecting: asyncio.Task[None] | None = None
        handlers = {
            "connected": connected,
            "disconnected": disconnected,
            "message_received": message_received,
        }
        super().__init__(ssl, handlers)

    # -------------------------------------------------------------------------- events

    def connected(self) -> None:
        """The server has answered, and messages can be sent to it."""

    def disconnected(self, reason: DisconnectReason) -> None:
        """The connection has ended; with ``config.reconnect`` another may follow."""

    def message_received(self, message: memoryview) -> None:
        """The server sent ``message``, which is read-only and valid only during this call.

        It is in the registered memory that received it; using it later raises ``ValueError``. If
        this method raises, the loop's exception handler is called and the connection ends.
        """

    # ------------------------------------------------------------------- start and stop

    async def start(self, peer_id: str) -> None:
        """Connect, send ``peer_id``, and wait for the answer.

        ``OSError`` if the connection fails; ``HandshakeError`` if the server does not answer, or
        ends the connection (the peer id may be taken); ``NotConnectedError`` if ``stop`` is called
        meanwhile; ``RuntimeError`` on any loop but zerio_asyncio's.
        """
        check_peer_id(peer_id)
        self._set_up(self.config, ZerioClient.message_received)
        self.peer_id = peer_id
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
        try:
            if self._connecting is not None:
                connecting, self._connecting = self._connecting, None
                await _give_up(connecting)
            if self._session is not None:
                await self._close_sessions((self._session,), patience)
        finally:
            self._tear_down()

    def _tear_down(self) -> None:
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        super()._tear_down()

    async def __aenter__(self) -> Self:
        """Return the client; ``start`` connects it, before or after."""
        return self

    @property
    def is_connected(self) -> bool:
        """Whether messages can be sent now."""
        session = self._session
        return session is not None and session.peer_id is not None and not session.closing

    async def _connect(self) -> None:
        host, port = self._address
        answered = self._answered = self._loop.create_future()
        options = {} if self._ssl is None else {"server_hostname": self._server_hostname or host}
        try:
            await self._loop.create_connection(
                lambda: Session(self, self._loop), host, port, ssl=self._ssl, **options
            )
            await answered
        except BaseException:
            if self._session is not None:
                self._session.abort(DisconnectCause.LOCAL, "gave up connecting")
            raise
        finally:
            self._answered = None
            if answered.done() and not answered.cancelled():
                answered.exception()  # what is raised here reports it

    async def _connect_again(self) -> None:
        delay = self.config.reconnect_delay_min
        while True:
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  # not a secret
            delay = min(2 * delay, self.config.reconnect_delay_max)
            try:
                await self._connect()
            except OSError:
                continue
            return

    # -------------------------------------------------------------------------- sending

    def send(self, message: ReadableBuffer) -> None:
        """Send ``message``, bytes-like, to the server; you may change it once this returns.

        ``NotConnectedError`` if there is no connection; ``ValueError`` if the message is longer
        than ``config.framing_buffer_length``. If the server does not read, ``config.slow_peer``
        decides: ``SendingBuffersFullError``, or the end of the connection.
        """
        self._connected_session().writer.send(message)

    def send_threadsafe(self, message: ReadableBuffer, timeout: float | None = None) -> None:
        """Send from any thread, as `ZerioServer.send_threadsafe` does."""
        session, outbox = self._connected_session(), self._outbox
        if outbox is None:
            raise NotConnectedError("stopped")
        outbox.put(session, message, timeout)

    async def drain(self) -> None:
        """Wait until the server has read enough to accept more; raises what ``send`` raises."""
        await self._connected_session().drain()

    def _connected_session(self) -> Session:
        session = self._session
        if session is None or session.peer_id is None:
            raise NotConnectedError("the client is not connected")
        return session

    # ------------------------------------------------------------------------- receiving

    def messages(self) -> AsyncIterator[bytes]:
        """Iterate over all messages: ``async for message in client.messages()``.

        The messages are ``bytes``. When they fill ``receiving_buffer_count`` buffers, reading stops
        until half of them are free. The iteration ends when the connection has ended and no other
        will follow. ``RuntimeError`` if there is a ``message_received``.
        """
        self._check_keeps()
        return self._messages()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate: ``async for message in client`` is the same as with ``messages()``."""
        return self.messages()

    async def _messages(self) -> AsyncIterator[bytes]:
        while (item := await self.inbox.get()) is not None:
            yield item[1]

    def pause_reading(self) -> None:
        """Stop reading from the server; messages already received are still delivered."""
        self._connected_session().pause_reading("program")

    def resume_reading(self) -> None:
        """Read again after ``pause_reading``."""
        self._connected_session().resume_reading("program")

    # ---------------------------------------------------------------- what sessions call

    def session_opened(self, session: Session) -> None:
        """The connection is open: send the peer id."""
        self._session = session
        session.writer.send((self.peer_id or "").encode("ascii"))

    def session_introduced(self, session: Session, peer_id: str) -> None:
        """The server has answered."""
        if peer_id != self.peer_id:
            text = f"the server answered {peer_id!r} to the peer id {self.peer_id!r}"
            session.abort(DisconnectCause.HANDSHAKE, text)
            return
        handler: Any = None if self._keeps else self.message_received
        session.establish(peer_id, handler, None)
        self.connected()
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def session_closed(self, session: Session, reason: DisconnectReason) -> None:
        """The connection has ended."""
        self._session = None
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(HandshakeError(f"no connection: {reason}"))
        if session.peer_id is None:
            return
        if not self.config.reconnect or reason.cause is DisconnectCause.LOCAL:
            self.inbox.close()
        elif self._connecting is None or self._connecting.done():
            self._connecting = self._loop.create_task(self._connect_again())
        # otherwise one is being made, and was told above that this attempt has failed
        self.disconnected(reason)


async def _give_up(connecting: asyncio.Task[None]) -> None:
    connecting.cancel()
    await asyncio.wait([connecting])
    if not connecting.cancelled():
        connecting.exception()  # nobody needs to hear of it any more
