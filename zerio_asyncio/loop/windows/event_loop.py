"""The loop on Windows: our engine and transports on the standard library's proactor loop.

Streams and datagrams go through the RIO table. What else that loop does by overlapped operations
(pipes, processes, ``sock_*``, files) goes on unchanged, on our port instead of its own
(port_proactor.py). ``add_reader`` and ``add_writer``, which it lacks, are readiness of our port.

What it takes of the standard library's private parts is listed in private_names.py.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

assert sys.platform == "win32"  # a type checker of another platform reads no further

from zerio_asyncio.loop import private_names, signal_wakeup
from zerio_asyncio.loop.base import BaseLoop
from zerio_asyncio.loop.descriptors import descriptor_of
from zerio_asyncio.loop.sendfile import sending_a_file
from zerio_asyncio.loop.windows.port_proactor import PortProactor
from zerio_asyncio.loop.windows.provider_sockets import ProviderSockets
from zerio_asyncio.loop.windows.readers import Readers
from zerio_asyncio.loop.windows.sock_calls import CheckedCalls
from zerio_asyncio.rio.providers import RegisteredSocket

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from zerio_asyncio.loop.options import LoopOptions


private_names.check(
    private_names.OVERRIDDEN + private_names.CALLED + private_names.ON_PROACTORS,
    asyncio.ProactorEventLoop,
)


class RioEventLoop(BaseLoop, ProviderSockets, CheckedCalls):  # type: ignore[misc]
    """asyncio's event loop on Registered I/O.

    ``options``: sizes, depths and the provider, see ``LoopOptions``. ``OSError`` if the provider
    that was asked for is refused by the system, ``ValueError`` for one that does not exist.
    """

    def __init__(self, options: LoopOptions | None = None) -> None:
        self._transports: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._readers = Readers(self)
        self._signal_handlers: dict[int, Any] = {}
        self._set_up(options)
        try:
            CheckedCalls.__init__(self, PortProactor(self._rio_port))
        except BaseException:
            self._closed = True
            self._tear_down()
            raise
        if threading.current_thread() is threading.main_thread():
            signal_wakeup.wanted(self)

    def close(self) -> None:
        """Close the loop and everything on it; harmless if it is closed already."""
        if not self.is_running() and not self.is_closed():
            for number in list(self._signal_handlers):
                self.remove_signal_handler(number)
            self._readers.close(self)
        super().close()
        signal_wakeup.given_up(self)

    # ------------------------------------------------- what the port has for us

    def _port_ready(self, events: list[tuple[int, int]]) -> None:
        self._readers.ready(events)

    def _port_packet(self, status: int, count: int, key: int, address: int) -> None:
        if self._proactor is not None:
            self._proactor.packet(status, count, key, address)

    def _wake_waiters(self, descriptor: int) -> None:
        """Nobody waits for readiness of a transport's socket here."""

    # -------------------------------------------------------------- descriptors

    def add_reader(  # type: ignore[override]  # no TypeVarTuple before 3.11
        self, fd: Any, callback: Callable[..., Any], *args: Any
    ) -> None:
        """Call ``callback(*args)`` while a socket is readable; see ``asyncio.loop.add_reader``."""
        self._ensure_fd_no_transport(fd)
        self._readers.add(fd, 0, callback, args)

    def remove_reader(self, fd: Any) -> bool:
        """Stop that; whether there was anything to stop."""
        self._ensure_fd_no_transport(fd)
        return self._readers.remove(fd, 0)

    def add_writer(  # type: ignore[override]  # no TypeVarTuple before 3.11
        self, fd: Any, callback: Callable[..., Any], *args: Any
    ) -> None:
        """Call ``callback(*args)`` while a socket is writable; see ``asyncio.loop.add_writer``."""
        self._ensure_fd_no_transport(fd)
        self._readers.add(fd, 1, callback, args)

    def remove_writer(self, fd: Any) -> bool:
        """Stop that; whether there was anything to stop."""
        self._ensure_fd_no_transport(fd)
        return self._readers.remove(fd, 1)

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        # A closed socket has the number -1, and no transport; it may still have a callback.
        number = -1 if getattr(fd, "_closed", False) else descriptor_of(fd)
        transport = self._transports.get(number)
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    # ------------------------------------------------------------------ serving

    async def _accept_connection2(
        self,
        protocol_factory: Any,
        connection: socket.socket,
        extra: dict[str, Any],
        sslcontext: Any,
        server: Any,
        **options: Any,
    ) -> None:
        transport = None
        try:
            waiter = self.create_future()
            transport = self._make_ssl_transport(
                connection,
                protocol_factory(),
                sslcontext,
                waiter,
                server_side=True,
                extra=extra,
                server=server,
                **options,
            )
            try:
                await waiter
            except BaseException:
                transport.close()
                raise
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:  # noqa: BLE001 - the factory is the program's
            if self._debug:
                context: dict[str, Any] = {
                    "message": "Error on transport creation for incoming connection",
                    "exception": exc,
                }
                if transport is not None:
                    context["transport"] = transport
                self.call_exception_handler(context)

    def _stop_serving(self, sock: socket.socket) -> None:
        if self._proactor is not None:
            super()._stop_serving(sock)
        else:  # a server may be closed later than its loop
            self._listeners.stop(sock, self)
            sock.close()

    # ------------------------------------------------------------------ signals

    def add_signal_handler(  # type: ignore[override]  # no TypeVarTuple before 3.11
        self, sig: int, callback: Callable[..., Any], *args: Any
    ) -> None:
        """Call ``callback(*args)`` in the loop when the signal comes: SIGINT, SIGBREAK, SIGTERM.

        The system has no others to send. ``ValueError`` for a number that is no signal,
        ``RuntimeError`` from another thread than the main one.
        """
        if inspect.iscoroutinefunction(callback) or inspect.iscoroutine(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("signals are handled in the main thread")
        before = self._signal_handlers.get(sig, (None, signal.getsignal(sig)))[1]
        handle = asyncio.Handle(callback, args, self, None)
        self._signal_handlers[sig] = (handle, before)
        signal.signal(sig, _caller_of(weakref.WeakMethod(self._signalled)))

    def remove_signal_handler(self, sig: int) -> bool:
        """Put back what was there before; whether there was a handler of the loop's."""
        self._check_signal(sig)
        entry = self._signal_handlers.pop(sig, None)
        if entry is None:
            return False
        if threading.current_thread() is threading.main_thread():
            signal.signal(sig, entry[1])
        return True

    def _signalled(self, number: int) -> None:
        entry = self._signal_handlers.get(number)
        if entry is not None and not entry[0].cancelled():
            self._add_callback_signalsafe(entry[0])

    def _check_signal(self, sig: int) -> None:
        if not isinstance(sig, int):
            raise TypeError(f"sig must be an int, not {sig!r}")
        if sig not in signal.valid_signals():
            raise ValueError(f"invalid signal number {sig}")

    # -------------------------------------------------------------------- files

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        if isinstance(transp._sock, RegisteredSocket):
            self._check_sendfile_params(transp._sock, file, offset, count)
            raise asyncio.SendfileNotAvailableError(
                "a socket for Registered I/O sends registered memory alone: "
                "the file has to be read and written"
            )
        async with sending_a_file(self, transp, file, offset, count) as sock:
            try:
                return await self.sock_sendfile(sock, file, offset, count, fallback=False)
            except OSError as error:
                if transp.is_closing() and not isinstance(error, ConnectionError):
                    raise ConnectionAbortedError(
                        "the connection was closed while a file was being sent"
                    ) from error
                raise


def _caller_of(method: weakref.WeakMethod[Callable[[int], None]]) -> Callable[[int, Any], None]:
    """Make a signal's handler: the process keeps it, and shall not keep the loop."""

    def call(number: int, _: Any) -> None:
        handler = method()
        if handler is not None:
            handler(number)

    return call
