"""The loop on Unix: our engine and transports on the standard library's selector loop.

private_names.py lists what it takes of the standard library's private parts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from asyncio import SelectorEventLoop
from typing import TYPE_CHECKING, Any

from zerio_asyncio.core.sockets import SocketEngine
from zerio_asyncio.loop import private_names, signal_wakeup
from zerio_asyncio.loop.base import FORKED, BaseLoop
from zerio_asyncio.loop.given_sockets import has_own
from zerio_asyncio.loop.unix.children import Children, has_own_watcher
from zerio_asyncio.loop.unix.port_selector import PortSelector
from zerio_asyncio.loop.unix.sendfile import send_file, send_file_over

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Iterable
    from types import FrameType

    from zerio_asyncio.loop.options import LoopOptions

# If this many signals are read from the self-pipe at once, it may have been full. Linux has room
# for 166 to 278 of them, depending on the size of its socket buffers.
SIGNALS_MANY = 64


private_names.check(
    private_names.OVERRIDDEN + private_names.CALLED + private_names.ON_SELECTORS, SelectorEventLoop
)


class RioEventLoop(BaseLoop, SocketEngine, SelectorEventLoop):  # type: ignore[misc]
    """asyncio's event loop on Registered I/O.

    ``options``: sizes, depths and the provider, see ``LoopOptions``. ``OSError`` if the system
    refuses the requested provider, ``ValueError`` if it does not exist.
    """

    # The standard library's own, which its stubs omit.
    _csock: socket.socket
    _ssock: socket.socket | None
    _selector: PortSelector
    _signal_handlers: dict[int, asyncio.Handle]
    _close_self_pipe: Callable[[], None]
    _handle_signal: Callable[[int], None]
    _make_self_pipe: Callable[[], None]

    def __init__(self, options: LoopOptions | None = None) -> None:
        self._children = Children(self)
        self._signals_seen: set[int] = set()
        self._set_up(options)
        try:
            SelectorEventLoop.__init__(self, PortSelector(self))
        except BaseException:  # no descriptor left for the self-pipe
            self._closed = True
            self._tear_down()
            raise

    def close(self) -> None:
        """Close the loop and everything on it; harmless if it is already closed."""
        super().close()
        self._children.close()

    # ------------------------------------------------------------------- fork

    def _settle(self) -> None:
        if self._has_run or self._engine_counts()[3]:
            raise RuntimeError(FORKED)
        self._detach()
        self._rio_port.close()
        if self._ssock is not None:
            self._close_self_pipe()  # it is shared: each would read what is written for the other
        self._take_port()
        self._selector.watch_anew()
        self._make_self_pipe()
        if self._signal_handlers and threading.current_thread() is threading.main_thread():
            signal_wakeup.take(self)
            for number in self._signals_seen:  # since the fork
                with contextlib.suppress(OSError):
                    self._csock.send(bytes([number]))

    # ---------------------------------------------------------------- sockets

    def _must_call(self, sock: socket.socket, calls: Iterable[str]) -> bool:
        return has_own(sock, calls)

    # ------------------------------------------------------------------ files

    async def _sock_sendfile_native(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        return await send_file(self, sock, file, offset, count)

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        return await send_file_over(self, transp, file, offset, count)

    # --------------------------------------------------------------- children

    async def _make_subprocess_transport(self, *args: Any, **options: Any) -> Any:
        if has_own_watcher():
            return await super()._make_subprocess_transport(  # type: ignore[misc]
                *args, **options
            )
        return await self._children.start(*args, **options)

    # ---------------------------------------------------------------- signals

    def add_signal_handler(  # type: ignore[override]  # no TypeVarTuple before 3.11
        self, sig: int, callback: Callable[..., Any], *args: Any
    ) -> None:
        """Call ``callback(*args)`` when the signal comes; see ``asyncio.loop.add_signal_handler``.

        Each signal is a byte in the self-pipe. While the loop cannot read it, the pipe may fill up,
        and further signals would be lost. So a signal is also remembered by number: as with the
        system's own, a flood may merge into one call, never into none.
        """
        super().add_signal_handler(sig, callback, *args)
        signal_wakeup.wanted(self)
        signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)
        signal.signal(sig, _remember_in(self._signals_seen, weakref.ref(self)))
        signal.siginterrupt(sig, False)

    def remove_signal_handler(self, sig: int) -> bool:
        """Stop handling the signal; see ``asyncio.loop.remove_signal_handler``."""
        removed = super().remove_signal_handler(sig)
        if not self._signal_handlers:
            signal_wakeup.given_up(self)
        return removed

    def _process_self_data(self, data: bytes) -> None:
        super()._process_self_data(data)  # type: ignore[misc]
        missed = self._signals_seen.difference(data) if len(data) >= SIGNALS_MANY else ()
        self._signals_seen.clear()
        for number in missed:
            self._handle_signal(number)


def _remember_in(
    seen: set[int], loop_of: weakref.ref[RioEventLoop]
) -> Callable[[int, FrameType | None], None]:
    # Independent of the loop, which a handler that refers to it would keep alive.
    def remember(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        seen.add(number)
        loop = loop_of()
        if loop is not None and loop._process == os.getpid():
            signal_wakeup.assure(loop, number)

    return remember
