"""Streams over TLS, from the start or by ``start_tls``."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.loop.issuing import make

from .streams import LIMITS, Buffered, Plain, Settling, Side, folder, pair
from .world import REFUSED

if TYPE_CHECKING:
    from .world import World

HANDSHAKE = 3.0


@functools.cache
def contexts(process: int) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's, and a client's that trusts it; made once in a process."""
    made = make(Path(folder()))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made)
    return server, ssl.create_default_context(cafile=str(made))


class Viewed(Buffered):
    """asyncio's TLS takes slices of the buffer, and a bytearray's slices are copies."""

    def get_buffer(self, sizehint: int) -> Any:
        return memoryview(super().get_buffer(sizehint))


class Secure(Side):
    """A side whose transport is asyncio's for TLS, which does not bear all that ours do.

    It has no answer after its end, and none to calls from inside its own: it is called by the
    program alone, and its callbacks only look.
    """

    tame = True

    def new_protocol(self) -> Any:
        return self.world.random.choice((Plain, Viewed))(self)

    def offer(self) -> None:
        for feature, action in (
            ("", self.write),
            ("", self.write),
            ("writelines", self.writelines),
            ("copies", self.write_copy),
            ("pause", self.pause_and_resume),
            ("limits", self.set_limits),
            ("close", self.close),
            ("abort", self.abort),
        ):
            self.world.offer((feature, self._tamely(action)))

    def _ask(self, name: str) -> None:
        """asyncio's transport may have lost the one below, and not said so yet."""
        if self.transport is not None:
            method = getattr(self.transport, name)
            self.world.call(method, allow=(*REFUSED, AttributeError))

    def pause_reading(self) -> None:
        self._ask("pause_reading")

    def resume_reading(self) -> None:
        self._ask("resume_reading")

    def set_limits(self) -> None:
        if self.transport is not None:
            method = self.transport.set_write_buffer_limits
            high = self.world.random.choice(LIMITS)
            self.world.call(method, high, allow=(*REFUSED, AttributeError))

    def ended(self) -> None:
        self._ask("close")  # before 3.11 it does not know that its peer did

    def _tamely(self, action: Callable[[], None]) -> Callable[[], None]:
        @functools.wraps(action)
        def act() -> None:
            if self.world.main and not self.lost and not self.transport.is_closing():
                action()

        return act


async def connect(world: World, side: Side, sock: socket.socket, server: bool) -> None:
    """Shake hands; a handshake that a hostile program spoils may fail."""
    loop = world.loop
    context = contexts(os.getpid())[0 if server else 1]
    try:
        if server:
            await loop.connect_accepted_socket(
                lambda: side.protocol, sock, ssl=context, ssl_handshake_timeout=HANDSHAKE
            )
        else:
            await loop.create_connection(
                lambda: side.protocol,
                sock=sock,
                ssl=context,
                server_hostname="localhost",
                ssl_handshake_timeout=HANDSHAKE,
            )
    except (OSError, RuntimeError, asyncio.TimeoutError):
        side.spoil()


async def tls(world: World) -> list[Any]:
    """One connection."""
    one, other = socket.socketpair()
    sides = [Secure(world), Secure(world)]
    pair(*sides)
    for sock in (one, other):
        sock.setblocking(False)
    world.quiet = 0
    try:
        await asyncio.gather(
            connect(world, sides[0], one, True), connect(world, sides[1], other, False)
        )
    finally:
        world.quiet = 1
    return [Settling(world, list(sides))]
