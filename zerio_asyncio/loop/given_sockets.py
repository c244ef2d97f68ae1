"""Sockets that the program makes and passes to a transport.

The program still has the object: it may close it, give its number away or put another file in its
place. So before it sends or receives, a transport of such a socket checks whether the number still
stands for that socket, and ends with EBADF if not. For sockets that the loop makes itself, the
program has only the number, so they need no check.

The socket may also have a class of its own: one that counts what is received, must speak to a proxy
first, or fails on purpose. The kernel does not know such methods, so the standard library's
transports serve those sockets wherever they call methods: the proactor's do not.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PLAIN = socket.socket  # as it is now: a program or its test may replace it with a function
STREAM_CALLS = ("accept", "recv", "recv_into", "send", "sendmsg")
DATAGRAM_CALLS = ("recvfrom", "send", "sendto")


def has_own(sock: socket.socket, calls: Iterable[str]) -> bool:
    """Whether the class of ``sock`` overrides one of these methods."""
    its = type(sock)
    return its is not PLAIN and any(
        getattr(its, name, None) is not getattr(PLAIN, name) for name in calls
    )


class GivenSockets:
    """Comes before the standard library's loop."""

    _given: set[int]
    """The ids of sockets that transports are being made of; their callers hold them meanwhile."""

    def _must_call(self, sock: socket.socket, calls: Iterable[str]) -> bool:  # noqa: ARG002
        """Whether these methods of the socket must be called when they are due."""
        return False

    @contextlib.contextmanager
    def _with_given(self, sock: socket.socket | None) -> Iterator[None]:
        if sock is None:
            yield
            return
        number = id(sock)
        self._given.add(number)
        try:
            yield
        finally:
            self._given.discard(number)

    async def create_connection(
        self, *args: Any, sock: socket.socket | None = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Connect; see ``asyncio.loop.create_connection``."""
        with self._with_given(sock):
            made: tuple[Any, Any] = await super().create_connection(  # type: ignore[misc]
                *args, sock=sock, **kwargs
            )
            return made

    async def create_unix_connection(
        self, *args: Any, sock: socket.socket | None = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Connect to a Unix socket; see ``asyncio.loop.create_unix_connection``."""
        with self._with_given(sock):
            made: tuple[Any, Any] = await super().create_unix_connection(  # type: ignore[misc]
                *args, sock=sock, **kwargs
            )
            return made

    async def connect_accepted_socket(
        self, protocol_factory: Any, sock: socket.socket, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Make a transport; see ``asyncio.loop.connect_accepted_socket``."""
        with self._with_given(sock):
            made: tuple[Any, Any] = await super().connect_accepted_socket(  # type: ignore[misc]
                protocol_factory, sock, **kwargs
            )
            return made

    async def create_datagram_endpoint(
        self, *args: Any, sock: socket.socket | None = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Open a datagram socket; see ``asyncio.loop.create_datagram_endpoint``."""
        with self._with_given(sock):
            made: tuple[Any, Any] = await super().create_datagram_endpoint(  # type: ignore[misc]
                *args, sock=sock, **kwargs
            )
            return made
