"""What the loops of both platforms share: provider and port, transports, serving, statistics.

``BaseLoop`` goes between the engine and the standard library's loop:

    class RioEventLoop(BaseLoop, asyncio.SelectorEventLoop)     # engine first, then asyncio

Private hooks of the standard library that are overridden here and in the engine, checked against
CPython 3.10, 3.11, 3.12 and 3.13:

    _run_once                          the tick (for run_forever, ticks until stop)
    _ready, _scheduled                 live views of the engine's queues (core/views.py)
    _add_callback, _add_callback_signalsafe, _write_to_self, _timer_handle_cancelled
    _make_socket_transport, _make_ssl_transport, _make_datagram_transport
    _start_serving, _stop_serving
    _sock_sendfile_native, _sendfile_native
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from asyncio import sslproto
from typing import Any, cast

from zerio_asyncio.core.datagram import DatagramTransport
from zerio_asyncio.core.engine import Engine
from zerio_asyncio.core.memory import SlicePool
from zerio_asyncio.core.stream import StreamTransport
from zerio_asyncio.loop.options import LoopOptions
from zerio_asyncio.loop.serving import Listener, Listeners
from zerio_asyncio.loop.waiting import choose
from zerio_asyncio.rio._rio import lib
from zerio_asyncio.rio.errors import os_error
from zerio_asyncio.rio.ports import open_port


@dataclasses.dataclass(frozen=True)
class RioStatistics:
    """What a loop has done since it was made; counts, but for the last four, which are now."""

    provider: str
    submissions: int
    """Operations handed to the kernel."""
    completions: int
    """Results that came back."""
    system_calls: int
    """Made by the port and its queues."""
    waits: int
    """Times that the loop asked its port."""
    bytes_received: int
    bytes_sent: int
    gathered: int
    """Writes that went out with another's operation."""
    slices_high_water: int
    """The most slices that were ever in use at once."""
    slices_in_use: int
    slabs: int
    """Slabs of slices that are registered now."""
    connections: int
    """Transports that have a request queue or requests outstanding."""


def _is_udp(sock: socket.socket) -> bool:
    return (
        sock.family in {socket.AF_INET, socket.AF_INET6}
        and sock.type == socket.SOCK_DGRAM
        and sock.proto in {0, socket.IPPROTO_UDP}
    )


class BaseLoop(Engine):
    """The loop on Registered I/O, apart from what a platform adds."""

    def _set_up(self, options: LoopOptions | None) -> None:
        """Choose the provider, make the port; before the standard library's ``__init__``."""
        if options is None:
            options = LoopOptions()
        elif not isinstance(options, LoopOptions):
            raise TypeError(f"options must be LoopOptions or None, not {options!r}")
        self._options = options
        self._wait_strategy, spin = choose(options.wait)
        self._choice, self._rio_port = open_port(
            options.provider, depth=options.submission_depth, spin=spin
        )
        self._listeners = Listeners(self)
        try:
            self._attach(
                self._choice.provider.address,
                self._rio_port.address,
                SlicePool(options.slice_size, options.slab_size),
                options.completion_queue_size,
                options.send_depth,
                options.gather,
                os_error,
                lib.rio_last_error,
            )
        except BaseException:
            self._rio_port.close()
            raise

    @property
    def provider(self) -> str:
        """Name of the Registered I/O provider that the loop runs on."""
        return self._choice.provider.name

    @property
    def wait_strategy(self) -> str:
        """How the loop waits: ``block``, ``spin`` or ``hybrid(µs)``, see ``LoopOptions``."""
        return self._wait_strategy

    @property
    def options(self) -> LoopOptions:
        """What the loop was made with."""
        return self._options

    def rio_stats(self) -> RioStatistics:
        """Count what the loop has done; ``RuntimeError`` once it is closed."""
        self._check_closed()
        port = self._rio_port.statistics()
        in_use, high_water, slabs, connections, gathered = self._engine_counts()
        return RioStatistics(
            provider=self.provider,
            submissions=port.submissions,
            completions=port.completions,
            system_calls=port.system_calls,
            waits=port.waits,
            bytes_received=port.bytes_received,
            bytes_sent=port.bytes_sent,
            gathered=port.gathered + gathered,
            slices_high_water=high_water,
            slices_in_use=in_use,
            slabs=slabs,
            connections=connections,
        )

    # ---------------------------------------------------------------- running

    def run_forever(self) -> None:
        """Run until ``stop``; see ``asyncio.loop.run_forever``."""
        # First of all: 3.13.0 cleans up after a refused nested call, that is, under the outer one.
        self._check_running()
        self._run_whole()
        try:
            super().run_forever()  # type: ignore[misc]  # the standard library's loop
        finally:
            self._rest()

    def close(self) -> None:
        """Close the loop and everything on it; harmless if it is closed already."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        self._listeners.stop_all()
        self._detach()
        super().close()  # type: ignore[misc]
        self._rio_port.close()

    def __del__(self) -> None:
        try:
            super().__del__()  # type: ignore[misc]  # warns, and closes
        finally:
            # A warning may be an error, and the kernel may still write to the loop's memory.
            if not self.is_closed() and not self.is_running():
                self.close()

    def _tear_down(self) -> None:
        """Give back what ``_set_up`` took."""
        self._detach()
        self._rio_port.close()

    # ------------------------------------------------------------- transports

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
    ) -> Any:
        self._ensure_fd_no_transport(sock)
        return StreamTransport(self, sock, protocol, waiter, extra, server)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: Any,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        **timeouts: Any,
    ) -> Any:
        self._ensure_fd_no_transport(rawsock)
        try:
            ssl_protocol = sslproto.SSLProtocol(
                cast("asyncio.BaseEventLoop", self),
                protocol,
                sslcontext,
                waiter,  # type: ignore[arg-type]  # None is allowed, typeshed does not know
                server_side,
                server_hostname,
                **timeouts,
            )
        except BaseException:  # a time-out that is none: nobody else would close it
            rawsock.close()
            raise
        StreamTransport(self, rawsock, ssl_protocol, None, extra, server)
        return ssl_protocol._app_transport

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Any:
        self._ensure_fd_no_transport(sock)
        if self._choice.provider.has_datagrams and _is_udp(sock):
            return DatagramTransport(self, sock, protocol, address, waiter, extra)
        # RIO's addresses are those of the Internet, and its datagrams UDP's: Unix sockets, raw ones
        # and whatever else there is are the standard library's, on the port's readiness.
        return super()._make_datagram_transport(  # type: ignore[misc]
            sock, protocol, address, waiter, extra
        )

    # ---------------------------------------------------------------- serving

    async def create_server(
        self, *args: Any, start_serving: bool = True, **kwargs: Any
    ) -> asyncio.Server:
        """Listen on TCP; see ``asyncio.loop.create_server``.

        The standard library's coroutine starts to serve and then yields once; cancelled there it
        would leave a server that nobody has. Here the port accepts at once, with no need to yield.
        """
        server = await super().create_server(  # type: ignore[misc]
            *args, start_serving=False, **kwargs
        )
        return self._serve(server, start_serving)

    async def create_unix_server(
        self, *args: Any, start_serving: bool = True, **kwargs: Any
    ) -> asyncio.Server:
        """Listen on a Unix socket; see ``asyncio.loop.create_unix_server``."""
        server = await super().create_unix_server(  # type: ignore[misc]
            *args, start_serving=False, **kwargs
        )
        return self._serve(server, start_serving)

    def _serve(self, server: Any, start: bool) -> asyncio.Server:
        if start:
            try:
                server._start_serving()
            except BaseException:
                server.close()
                raise
        return cast("asyncio.Server", server)

    def _start_serving(
        self,
        protocol_factory: Any,
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,  # noqa: ARG002  # the port bounds its accepts itself
        *timeouts: Any,
        **named_timeouts: Any,
    ) -> None:
        self._listeners.start(
            lambda key: Listener(
                key,
                sock,
                sock.fileno(),
                protocol_factory,
                sslcontext,
                server,
                timeouts,
                named_timeouts,
            )
        )

    def _stop_serving(self, sock: socket.socket) -> None:
        self._listeners.stop(sock)
        super()._stop_serving(sock)  # type: ignore[misc]  # closes it, unlinks a Unix socket

    # ---------------------------------------------- what the engine calls back

    def _port_ready(self, events: list[tuple[int, int]]) -> None:
        self._process_events(self._selector.ready(events))

    def _port_accepted(self, key: int, status: int, descriptor: int) -> None:
        self._listeners.accepted(key, os_error(status) if status else None, descriptor)
