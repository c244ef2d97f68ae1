"""Node: what server and client share: the loop, the handlers, the inbox and the outbox."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from zerio_asyncio.loop import RioEventLoop
from zerio_asyncio.messaging.errors import DisconnectCause
from zerio_asyncio.messaging.inbox import Inbox
from zerio_asyncio.messaging.outbox import Outbox
from zerio_asyncio.messaging.session import STOP_SECONDS

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from zerio_asyncio.messaging.configuration import ZerioConfiguration
    from zerio_asyncio.messaging.session import Session


class Node(ABC):
    """The base of ``ZerioServer`` and ``ZerioClient``."""

    def __init__(
        self,
        ssl: tls.SSLContext | None,
        handlers: dict[str, Callable[..., object] | None],
    ) -> None:
        self.inbox = Inbox()
        self._ssl = ssl
        self._events = tuple(handlers)
        self._loop: Any = None
        self._outbox: Outbox | None = None
        self._keeps = False
        for name, handler in handlers.items():
            if handler is not None:
                if not callable(handler):
                    raise TypeError(f"{name} must be callable, not {handler!r}")
                setattr(self, name, handler)

    def _set_up(self, config: ZerioConfiguration, default_handler: object) -> None:
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
        for event in self._events:
            if inspect.iscoroutinefunction(getattr(self, event)):
                raise TypeError(
                    f"{event} is called, not awaited, so it cannot be a coroutine function; to "
                    f"await, take messages by `async for`"
                )
        handler = self.message_received  # type: ignore[attr-defined]  # defined by the subclasses
        self._keeps = getattr(handler, "__func__", None) is default_handler
        config.check_loop(loop)
        self._outbox = Outbox(loop, config.sending_buffer_count, config.sending_buffer_length)
        self.inbox.open(config.receiving_buffer_count * loop.options.slice_size)
        self._loop = loop

    @abstractmethod
    async def stop(self, patience: float = STOP_SECONDS) -> None:
        """Close once everything sent has left, or when ``patience`` seconds have passed."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()

    def _check_keeps(self) -> None:
        if self._loop is not None and not self._keeps:
            raise RuntimeError("messages go to message_received, so none would arrive here")

    async def _close_sessions(self, sessions: Iterable[Session], patience: float) -> None:
        """End them once everything sent has left, or when ``patience`` seconds have passed."""
        if self._outbox is not None:
            self._outbox.flush()
        ended = []
        for session in sessions:
            if not session.closing:
                session.close(DisconnectCause.LOCAL, "stopped", patience)
            ended.append(session.ended)
        if not ended:
            return
        try:
            await asyncio.wait(ended, timeout=patience)
        finally:
            for session in sessions:
                session.abort(DisconnectCause.LOCAL, "stopped")
        await asyncio.wait(ended)

    def _tear_down(self) -> None:
        """Called at the end of ``stop``."""
        if self._outbox is not None:
            self._outbox.close()
        self._outbox = None
        self._loop = None
        self.inbox.close()
