"""The loop on Unix: our engine and transports on the standard library's selector loop."""

from __future__ import annotations

from asyncio import SelectorEventLoop
from typing import TYPE_CHECKING

from zerio_asyncio.loop.base import BaseLoop
from zerio_asyncio.loop.selector import PortSelector

if TYPE_CHECKING:
    from zerio_asyncio.loop.options import LoopOptions


class RioEventLoop(BaseLoop, SelectorEventLoop):  # type: ignore[misc]
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
