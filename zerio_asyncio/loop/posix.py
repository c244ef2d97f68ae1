"""The loop on Unix: our engine and transports on the standard library's selector loop."""

from __future__ import annotations

from asyncio import SelectorEventLoop
from typing import TYPE_CHECKING, Any

from zerio_asyncio.core.sockets import SocketEngine
from zerio_asyncio.loop.base import BaseLoop
from zerio_asyncio.loop.selector import PortSelector
from zerio_asyncio.loop.sendfile import send_file, send_file_over

if TYPE_CHECKING:
    import socket

    from zerio_asyncio.loop.options import LoopOptions


class RioEventLoop(BaseLoop, SocketEngine, SelectorEventLoop):  # type: ignore[misc]
    """asyncio's event loop on Registered I/O.

    ``options``: sizes, depths and the provider, see ``LoopOptions``. ``OSError`` if the provider
    that was asked for is refused by the system, ``ValueError`` for one that does not exist.
    """

    def __init__(self, options: LoopOptions | None = None) -> None:
        self._set_up(options)
        try:
            SelectorEventLoop.__init__(self, PortSelector(self))
        except BaseException:  # no descriptor left for the self-pipe
            self._closed = True
            self._tear_down()
            raise

    async def _sock_sendfile_native(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        return await send_file(self, sock, file, offset, count)

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        return await send_file_over(self, transp, file, offset, count)
