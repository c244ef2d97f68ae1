"""What Python code shares with the core: the protocol of registered memory, errors."""

from __future__ import annotations

import asyncio


class RegisteredProtocol(asyncio.BaseProtocol):
    """A stream protocol that sees received bytes where the kernel put them: no copy, no ``bytes``.

    Everything else is as in ``asyncio.Protocol``: ``connection_made``, ``connection_lost``,
    ``eof_received``, ``pause_writing``, ``resume_writing``. On another loop and over TLS, bytes do
    not pass through registered memory; there ``view_received`` sees ordinary memory.
    """

    __slots__ = ()

    def view_received(self, view: memoryview) -> None:
        """Bytes have arrived.

        ``view`` is read-only and lies straight on the registered slice that received them. It is
        valid only during this call: it is released when the call returns, and using it later raises
        ``ValueError``. Copy what must last (``bytes(view)``). ``transport.write(view)`` copies. If
        you keep a slice of the view (``view[4:]``), it stays readable, and its memory is not reused
        until it is released.
        """

    def data_received(self, data: bytes) -> None:
        """Pass ``data`` on as a view: TLS and loops without registered memory call this."""
        with memoryview(data).toreadonly() as view:
            self.view_received(view)

    def eof_received(self) -> bool | None:
        """The peer will send no more; return true to keep the sending half open."""
        return None


class InvariantError(SystemError):
    """The core found memory with two owners, or a result that nobody requested: its own bug.

    It leaves ``run_forever``, because nothing the loop would do afterwards can be trusted.
    """
