"""Node: what server and client share: the loop, the handlers, the inbox and the outbox."""

from __future__ import annotations

import asyncio
import ssl as tls
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from zerio_asyncio.loop import RioEventLoop
from zerio_asyncio.messaging.errors import ConnectionClosed, DisconnectCause, NotConnectedError
from zerio_asyncio.messaging.handlers import Handlers, check_handler, is_async
from zerio_asyncio.messaging.inbox import Inbox
from zerio_asyncio.messaging.outbox import Outbox
from zerio_asyncio.messaging.peer import STOP_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from typing_extensions import Self

    from zerio_asyncio.messaging.configuration import ZerioConfiguration
    from zerio_asyncio.messaging.events import Event
    from zerio_asyncio.messaging.requests import Request
    from zerio_asyncio.messaging.session import Session

FORMER = {
    "message_received": "on_message",
    "client_connected": "on_event",
    "client_disconnected": "on_event",
    "connected": "on_event",
    "disconnected": "on_event",
}
"""Methods of C# Zerio's kind, which nobody calls, and what to pass instead."""


class Node(ABC):
    """The base of ``ZerioServer`` and ``ZerioClient``."""

    def __init__(
        self,
        ssl: tls.SSLContext | None,
        on_message: Callable[..., Any] | None,
        on_event: Callable[[Event], object] | None,
        on_request: Callable[[Request], Any] | None,
        concurrency: int,
    ) -> None:
        for name, handler in (
            ("on_message", on_message),
            ("on_event", on_event),
            ("on_request", on_request),
        ):
            check_handler(name, handler)
        if is_async(on_event):
            raise TypeError("on_event is called, not awaited, so it cannot be a coroutine function")
        for method, instead in FORMER.items():
            if hasattr(type(self), method):
                raise TypeError(f"{method} is never called: pass {instead}=self.{method}, or such")
        if ssl is not None and not isinstance(ssl, tls.SSLContext):
            raise TypeError(f"ssl must be an ssl.SSLContext, not {ssl!r}")
        if type(concurrency) is not int or concurrency < 1:
            raise ValueError(f"concurrency must be an integer of at least 1, not {concurrency!r}")
        self.inbox = Inbox()
        self.outbox: Outbox
        self.handlers: Handlers
        self._ssl = ssl
        self._on_message = on_message
        self._on_event = on_event
        self._on_request = on_request
        self._concurrency = concurrency
        self._loop: Any = None
        self._was_started = False
        self.awaits_requests = is_async(on_request)

    def _set_up(self, config: ZerioConfiguration) -> None:
        """Called at the beginning of ``start``."""
        name = type(self).__name__
        if self._loop is not None:
            raise RuntimeError(f"this {name} has already been started")
        loop = asyncio.get_running_loop()
        if not isinstance(loop, RioEventLoop):
            raise RuntimeError(  # noqa: TRY004  # no type is wrong, only the surroundings
                f"{name} needs the loop of zerio_asyncio, but this is {type(loop).__name__}: run "
                f"the program with zerio_asyncio.run(main())"
            )
        self.outbox = Outbox(loop, config.max_message_size)
        self.handlers = Handlers(loop, self._concurrency)
        self.inbox.open()
        self._loop = loop
        self._was_started = True
        if is_async(self._on_message):
            self.handlers.spawn(self._take_messages())

    @abstractmethod
    async def start(self) -> None:
        """Begin."""

    @abstractmethod
    async def stop(self, patience: float = STOP_SECONDS) -> None:
        """Close once everything sent has left, or when ``patience`` seconds have passed."""

    async def __aenter__(self) -> Self:
        """Start, unless already started."""
        if self._loop is None:
            await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()

    # ------------------------------------------------------------------------ handlers

    @property
    def on_message(self) -> Callable[..., Any] | None:
        """The handler of messages, as it was passed in."""
        return self._on_message

    @on_message.setter
    def on_message(self, handler: Callable[..., Any] | None) -> None:
        self._check_new("on_message", handler)
        self._on_message = handler

    @property
    def on_event(self) -> Callable[[Event], object] | None:
        """The handler of events, as it was passed in."""
        return self._on_event

    @on_event.setter
    def on_event(self, handler: Callable[[Event], object] | None) -> None:
        self._check_new("on_event", handler)
        self._on_event = handler

    @property
    def on_request(self) -> Callable[[Request], Any] | None:
        """The handler of requests, as it was passed in."""
        return self._on_request

    @on_request.setter
    def on_request(self, handler: Callable[[Request], Any] | None) -> None:
        self._check_new("on_request", handler)
        self._on_request = handler
        self.awaits_requests = is_async(handler)

    def _check_new(self, name: str, handler: object) -> None:
        check_handler(name, handler)
        if self._loop is not None:
            raise RuntimeError(f"{name} is set too late: pass it in, or set it before the start")

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)

    @property
    def _called(self) -> Callable[..., object] | None:
        """The handler that the framer calls, or None: messages go through the inbox."""
        return None if is_async(self._on_message) else self._on_message

    async def _take_messages(self) -> None:
        """Run a handler that is awaited for each message, in their order, as many as may."""
        while True:
            await self.handlers.turn()
            item = None
            try:
                item = await self.inbox.get()
            finally:
                if item is None:
                    self.handlers.give_back()
            if item is None:
                return
            self.handlers.run(self._handle(*item))

    async def _handle(self, session: Any, message: bytes) -> None:
        try:
            await self._call_handler(session, message)
        except Exception as error:  # noqa: BLE001  # the handler is the program's
            if isinstance(error, ConnectionClosed) and session.closing:
                return  # the peer has gone meanwhile, of which the events tell
            session.fail_handler(error)

    @abstractmethod
    async def _call_handler(self, session: Session, message: bytes) -> None:
        """Await ``on_message``."""

    # ------------------------------------------------------------------------- receiving

    def _check_takes(self) -> None:
        if not self._was_started:
            raise RuntimeError(
                f"this {type(self).__name__} has not been started: `async with` starts it, or "
                f"`await start()`"
            )
        if self._on_message is not None:
            raise RuntimeError("messages go to on_message, so none would arrive here")

    # ------------------------------------------------------------------------------ end

    def _not_started(self) -> NotConnectedError:
        return NotConnectedError(f"this {type(self).__name__} has not been started, or has stopped")

    async def _close_sessions(self, sessions: Iterable[Session], patience: float) -> None:
        """End them once everything sent has left, or when ``patience`` seconds have passed."""
        self.outbox.shut()
        ended = []
        for session in sessions:
            if not session.closing:
                session.close(DisconnectCause.LOCAL, "stopped", patience)
            ended.append(session.ended)
        try:
            if ended:
                await asyncio.wait(ended, timeout=patience)
        finally:
            for session in sessions:
                session.abort(DisconnectCause.LOCAL, "stopped")
        if ended:
            await asyncio.wait(ended)
        self.inbox.close()
        await self.handlers.finish(patience)

    def _tear_down(self) -> None:
        """Called at the end of ``stop``."""
        if self._loop is not None:
            self.outbox.close()
        self._loop = None
        self.inbox.close()
