"""Upgrading an open connection to TLS.

``turn`` does it with a layer of our own. Over foreign transports, and over TLS, the standard
library's ``start_tls`` does, and leaves this open:

* A ``StreamReader`` may already hold the first bytes of the handshake: the client sent them before
  the server's program asked for TLS. They belong to the TLS layer (CPython moves them from 3.13.12
  and 3.14.3 on).
* An abandoned handshake (cancelled or timed out) tells the program's protocol nothing: ``read`` and
  ``wait_closed`` of its streams would wait for ever.

Both are fixed once it has installed its TLS layer, which it does before its first
wait: two callbacks later the layer has met the transport.
"""

from __future__ import annotations

import weakref
from asyncio import BufferedProtocol, StreamReaderProtocol, protocols, sslproto
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUTS = ("ssl_handshake_timeout", "ssl_shutdown_timeout")


def check_timeouts(options: dict[str, Any]) -> None:
    """``ValueError`` for an invalid timeout, NaN included; ``TypeError`` if it is no number."""
    for name in TIMEOUTS:
        value = options.get(name)
        if value is not None and not value > 0:
            raise ValueError(f"{name} should be a positive number, got {value}")


async def turn(
    loop: Any, transport: Any, protocol: Any, make_layer: Callable[[Any], Any], server_side: bool
) -> Any:
    """Put a layer between a stream transport and its protocol; returns it after the handshake."""
    waiter = loop.create_future()
    layer = make_layer(waiter)
    # What has been received by now, and not delivered, is the layer's.
    transport.pause_reading()
    transport.set_protocol(layer)
    steps = [loop.call_soon(layer.connection_made, transport)]
    early = _early_data(protocol) if server_side else b""
    if early:
        steps.append(loop.call_soon(layer.feed_early, early))
    steps.append(loop.call_soon(transport.resume_reading))
    try:
        await waiter
    except BaseException:
        transport.close()
        for step in steps:
            step.cancel()
        raise
    return layer


def _early_data(protocol: Any) -> bytes:
    """Take what a stream's reader holds, which the client sent after its last plain word."""
    if not isinstance(protocol, StreamReaderProtocol):
        return b""
    reader: Any = protocol._stream_reader  # type: ignore[attr-defined]
    if reader is None:
        return b""
    data = bytes(reader._buffer)
    reader._buffer.clear()
    return data


def upgraded(loop: Any, transport: Any, protocol: Any, server_side: bool) -> None:
    """To be called by ``call_soon`` before the standard library's ``start_tls`` begins."""
    try:
        layer = transport.get_protocol()
    except NotImplementedError:  # somebody else's transport
        return
    if not isinstance(layer, sslproto.SSLProtocol):
        return  # it was refused
    _tell_of_the_end(layer, protocol)
    data = _early_data(protocol) if server_side else b""
    if data:
        # After the layer's connection_made, before anything that arrives from now on.
        loop.call_soon(_feed, layer, data)


def _feed(layer: Any, data: bytes) -> None:
    if isinstance(layer, BufferedProtocol):
        protocols._feed_data_to_buffered_proto(layer, data)  # type: ignore[attr-defined]
    else:
        layer.data_received(data)


def _tell_of_the_end(layer: Any, protocol: Any) -> None:
    layer_of = weakref.ref(layer)

    def connection_lost(exc: BaseException | None) -> None:
        layer = layer_of()
        assert layer is not None
        silent = _tells_nobody(layer)
        del layer.connection_lost  # its class has the real one
        layer.connection_lost(exc)
        if silent:
            protocol.connection_lost(exc)

    layer.connection_lost = connection_lost


def _tells_nobody(layer: Any) -> bool:
    state = getattr(layer, "_state", None)
    if state is None:  # 3.10
        return not layer._session_established
    return bool(state.name == "DO_HANDSHAKE")
