import asyncio
import contextvars
import socket
from typing import Any

from zerio_asyncio.core.engine import Engine
from zerio_asyncio.core.memory import ReceivedMemory
from zerio_asyncio.core.sending import SendingTransport

class SliceView(ReceivedMemory): ...

class StreamTransport(SendingTransport):
    def __init__(
        self,
        loop: Engine,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        given: bool = False,
        context: contextvars.Context | None = None,
        known: bool = False,
    ) -> None: ...
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...
    def is_reading(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
