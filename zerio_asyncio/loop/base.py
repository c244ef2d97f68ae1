"""What the loops of both platforms share: provider and port, transports, serving, statistics.

``BaseLoop`` goes between the engine and the standard library's loop:

    class RioEventLoop(BaseLoop, asyncio.SelectorEventLoop)     # engine first, then asyncio

private_names.py lists what it overrides and calls of the standard library's private parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import functools
import os
import socket
import ssl
from asyncio import sslproto
from typing import Any, cast

from zerio_asyncio.core.datagram import DatagramTransport
from zerio_asyncio.core.memory import SlicePool
from zerio_asyncio.core.stream import StreamTransport
from zerio_asyncio.core.tls import TLSTransport
from zerio_asyncio.core.transport import Transport
from zerio_asyncio.loop.descriptors import descriptor_of
from zerio_asyncio.loop.given_sockets import DATAGRAM_CALLS, STREAM_CALLS, GivenSockets
from zerio_asyncio.loop.keeping_reader import keep_output
from zerio_asyncio.loop.later_arguments import LaterArguments
from zerio_asyncio.loop.literals import Literals
from zerio_asyncio.loop.options import LoopOptions
from zerio_asyncio.loop.serving import Listener, Listeners, telling
from zerio_asyncio.loop.start_tls import TIMEOUTS, check_timeouts, turn, upgraded
from zerio_asyncio.loop.tls_engines import TLSChoice, choose_engine
from zerio_asyncio.loop.wait_strategy import choose
from zerio_asyncio.rio._rio import lib
from zerio_asyncio.rio.errors import os_error
from zerio_asyncio.rio.ports import open_port


@dataclasses.dataclass(frozen=True)
class RioStatistics:
    """What a loop has done since it was made: counts, and its memory in the last four fields."""

    provider: str
    submissions: int
    """Operations handed to the kernel."""
    completions: int
    """Results that came back."""
    system_calls: int
    """System calls by the port and its queues."""
    waits: int
    """How often the loop waited on its port."""
    bytes_received: int
    bytes_sent: int
    gathered: int
    """Writes that left in another write's operation."""
    slices_high_water: int
    """The largest number of slices ever in use at one time."""
    slices_in_use: int
    slabs: int
    """Registered slabs of slices."""
    connections: int
    """Transports with a request queue or outstanding requests."""


STREAM_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", -1)})
"""Families whose streams the providers carry; the standard library serves others (AF_VSOCK ...)."""


def carries(sock: socket.socket) -> bool:
    """Whether request queues carry this stream, or the port accepts on this listener."""
    return sock.type == socket.SOCK_STREAM and sock.family in STREAM_FAMILIES


def _is_udp(sock: socket.socket) -> bool:
    return (
        sock.family in {socket.AF_INET, socket.AF_INET6}
        and sock.type == socket.SOCK_DGRAM
        and sock.proto in {0, socket.IPPROTO_UDP}
    )


def _end_shutdown(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


FORKED = (
    "this event loop ran before the process was forked, and what it runs on is the parent's; "
    "make a new event loop after the fork"
)


class BaseLoop(GivenSockets, LaterArguments, Literals):
    """The loop on Registered I/O, without what a platform adds."""

    _process: int
    """The process that owns the port; a child of it does nothing with the port."""

    _has_run = False

    def _set_up(self, options: LoopOptions | None) -> None:
        """Choose the provider and make the port; before the standard library's ``__init__``."""
        if options is None:
            options = LoopOptions()
        elif not isinstance(options, LoopOptions):
            raise TypeError(f"options must be LoopOptions or None, not {options!r}")
        self._options = options
        self._wait_strategy, self._spin = choose(options.wait)
        self._listeners = Listeners(self)
        self._given = set()
        self._cleaned = {}
        self._take_port()

    def _take_port(self) -> None:
        """Make the port and the engine's queue on it."""
        options = self._options
        self._choice, self._rio_port = open_port(
            options.provider, depth=options.submission_depth, spin=self._spin
        )
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
        self._process = os.getpid()

    @property
    def provider(self) -> str:
        """Name of the Registered I/O provider that the loop runs on."""
        return self._choice.provider.name

    @property
    def wait_strategy(self) -> str:
        """How the loop waits: ``block``, ``spin`` or ``hybrid(µs)``, see ``LoopOptions``."""
        return self._wait_strategy

    @property
    def tls_engine(self) -> str:
        """What TLS runs on: ``direct``, ``portable`` or ``standard``, see ``LoopOptions``."""
        return self._tls.name

    @functools.cached_property
    def _tls(self) -> TLSChoice:
        return choose_engine(self._options.tls)

    @property
    def options(self) -> LoopOptions:
        """What the loop was made with."""
        return self._options

    def rio_stats(self) -> RioStatistics:
        """Report what the loop has done; ``RuntimeError`` once it is closed."""
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
        # This comes first: 3.13.0 cleans up after a refused nested call, under the outer one.
        self._check_running()
        if os.getpid() != self._process:
            self._settle()
        self._has_run = True
        self._run_whole()
        try:
            super().run_forever()  # type: ignore[misc]  # the standard library's loop
        except (OSError, SystemError) as error:
            if os.getpid() != self._process:  # forked in a callback that returned to the loop
                raise RuntimeError(FORKED) from error
            raise
        finally:
            if os.getpid() == self._process:
                self._rest()

    def _settle(self) -> None:
        """In a forked child: get a port for this process, if nothing depends on the parent's.

        ``RuntimeError`` if the loop has run, because connections and requests may depend on it.
        """
        raise RuntimeError(FORKED)

    def close(self) -> None:
        """Close the loop and everything on it; harmless if it is already closed."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        self._listeners.stop_all(self)
        if os.getpid() == self._process:
            self._end_handshakes()
        self._forget_callbacks()
        self._detach()
        super().close()  # type: ignore[misc]
        self._rio_port.close()

    def _end_handshakes(self) -> None:
        """End accepted connections that nobody has been told of: nobody else would."""
        for transport in list(self._transports.values()):
            if isinstance(transport, StreamTransport):
                layer: Any = transport.get_protocol()
                if isinstance(layer, TLSTransport):
                    layer.end_unmet(transport)

    def __del__(self) -> None:
        try:
            super().__del__()  # type: ignore[misc]  # warns, and closes
        finally:
            # A warning may be raised, and the kernel may still write to the loop's memory.
            if not self.is_closed() and not self.is_running():
                self.close()

    def _tear_down(self) -> None:
        """Return what ``_set_up`` took."""
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
        **context: Any,  # from 3.15 on: the one in which the protocol is called
    ) -> Any:
        self._ensure_fd_no_transport(sock)
        if carries(sock) and not self._must_call(sock, STREAM_CALLS):
            given = id(sock) in self._given
            try:
                return StreamTransport(
                    self, sock, protocol, waiter, extra, server, given, **context
                )
            except BaseException:
                if not given:  # nobody else would close it
                    sock.close()
                raise
        return super()._make_socket_transport(  # type: ignore[misc]
            sock, protocol, waiter, extra=extra, server=server, **context
        )

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
        **options: Any,  # timeouts; from 3.15 on the protocol's context
    ) -> Any:
        self._ensure_fd_no_transport(rawsock)
        context = {"context": options.pop("context")} if "context" in options else {}
        try:
            check_timeouts(options)
            layer = self._make_tls_layer(
                carries(rawsock) and not self._must_call(rawsock, STREAM_CALLS),
                protocol,
                sslcontext,
                waiter,
                server_side=server_side,
                server_hostname=server_hostname,
                **options,
            )
        except BaseException:  # an invalid timeout: nobody else would close it
            rawsock.close()
            raise
        self._make_socket_transport(rawsock, layer, extra=extra, server=server, **context)
        return layer._app_transport

    def _make_tls_layer(self, over_ours: bool, *args: Any, **options: Any) -> Any:
        """A layer for a stream transport: ours over ours, asyncio's over all others."""
        make_records = self._tls.make_records if over_ours else None
        if make_records is None:
            return sslproto.SSLProtocol(cast("asyncio.BaseEventLoop", self), *args, **options)
        return TLSTransport(self, make_records, *args, **options)

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Any:
        self._ensure_fd_no_transport(sock)
        if (
            self._choice.provider.has_datagrams
            and _is_udp(sock)
            and not self._must_call(sock, DATAGRAM_CALLS)
        ):
            given = id(sock) in self._given
            return DatagramTransport(self, sock, protocol, address, waiter, extra, given)
        # RIO's addresses are those of the Internet, and its datagrams UDP's: the standard library
        # serves Unix sockets, raw ones and all others, on the port's readiness.
        return super()._make_datagram_transport(  # type: ignore[misc]
            sock, protocol, address, waiter, extra
        )

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        with contextlib.suppress(ValueError):  # anything without a number is refused below
            transport = self._transports.get(descriptor_of(fd))
            if isinstance(transport, Transport):
                transport._yield_number()
        super()._ensure_fd_no_transport(fd)  # type: ignore[misc]

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: Any,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        **timeouts: Any,
    ) -> Any:
        """Upgrade a connection to TLS; see ``asyncio.loop.start_tls``."""
        check_timeouts(timeouts)
        if isinstance(sslcontext, ssl.SSLContext) and type(transport) is StreamTransport:
            make_records = self._tls.make_records
            if make_records is not None:
                return await turn(
                    self,
                    transport,
                    protocol,
                    lambda waiter: TLSTransport(
                        self,
                        make_records,
                        protocol,
                        sslcontext,
                        waiter,
                        server_side=server_side,
                        server_hostname=server_hostname,
                        connects=False,
                        **timeouts,
                    ),
                    server_side,
                )
        if getattr(transport, "_start_tls_compatible", False):
            self.call_soon(upgraded, self, transport, protocol, server_side)
        return await super().start_tls(  # type: ignore[misc]
            transport,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            **timeouts,
        )

    # ---------------------------------------------------------------- serving

    async def create_server(
        self, *args: Any, start_serving: bool = True, **kwargs: Any
    ) -> asyncio.Server:
        """Listen on TCP; see ``asyncio.loop.create_server``.

        The standard library's coroutine starts to serve and then yields once; if cancelled there,
        it would leave a server that nobody has. Here the port accepts at once and need not yield.
        """
        if kwargs.get("ssl") is not None:  # without, asyncio refuses them itself
            check_timeouts(kwargs)
        server: Any = await super().create_server(  # type: ignore[misc]
            *args, start_serving=False, **kwargs
        )
        return self._serve(server, start_serving, kwargs.get("sock") is None)

    async def create_unix_server(
        self, *args: Any, start_serving: bool = True, **kwargs: Any
    ) -> asyncio.Server:
        """Listen on a Unix socket; see ``asyncio.loop.create_unix_server``."""
        if kwargs.get("ssl") is not None:
            check_timeouts(kwargs)
        server = await super().create_unix_server(*args, start_serving=False, **kwargs)
        return self._serve(server, start_serving, kwargs.get("sock") is None)

    def _serve(self, server: Any, start: bool, made: bool) -> asyncio.Server:
        if made:
            self._listeners.note_made(server)
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
        backlog: int = 100,  # the port bounds its accepts itself
        *timeouts: Any,
        **options: Any,  # timeouts; from 3.15 on the context in which the server was made
    ) -> None:
        if not carries(sock) or self._must_call(sock, STREAM_CALLS):
            super()._start_serving(  # type: ignore[misc]
                telling(self, protocol_factory),
                sock,
                sslcontext,
                server,
                backlog,
                *timeouts,
                **options,
            )
            return
        context = options.pop("context", None) or contextvars.copy_context()
        self._listeners.start(
            lambda key: Listener(
                key,
                sock,
                sock.fileno(),
                protocol_factory,
                sslcontext,
                server,
                {**dict(zip(TIMEOUTS, timeouts, strict=False)), **options},
                context,
            )
        )

    def _stop_serving(self, sock: socket.socket) -> None:
        self._listeners.stop(sock, self)
        super()._stop_serving(sock)  # closes it, unlinks a Unix socket

    # --------------------------------------------------------------- children

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        """Start a program; see ``asyncio.loop.subprocess_exec``."""
        made = await super().subprocess_exec(*args, **kwargs)  # type: ignore[misc]
        keep_output(made[1])
        return made

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        """Start a command of the shell; see ``asyncio.loop.subprocess_shell``."""
        made = await super().subprocess_shell(*args, **kwargs)  # type: ignore[misc]
        keep_output(made[1])
        return made

    # -------------------------------------------------------------- executors

    def _do_shutdown(self, future: asyncio.Future[None]) -> None:
        # As asyncio's of 3.13, and also for a shutdown that was cancelled and then failed: without
        # this, the exception handler was told of a future that is already done.
        error: Exception | None = None
        executor = self._default_executor
        try:
            if executor is not None:
                executor.shutdown(wait=True)
        except Exception as exc:  # noqa: BLE001  # a program may set its own executor
            error = exc
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self.call_soon_threadsafe(_end_shutdown, future, error)

    # ---------------------------------- what the engine calls: see core/hooks.pyx

    def _port_ready(self, events: list[tuple[int, int]]) -> None:
        self._process_events(self._selector.ready(events))

    def _port_accepted(self, key: int, status: int, descriptor: int, peer: Any) -> None:
        error = os_error(status) if status else None
        self._listeners.accepted(self, key, error, descriptor, peer)
