import asyncio
import socket
from typing import Any

from zerio_asyncio.core.engine import Engine
from zerio_asyncio.core.transport import Transport

class DatagramTransport(Transport):
    def __init__(
        self,
        loop: Engine,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
        given: bool = False,
    ) -> None: ...
    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None: ...
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...
    def is_reading(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
