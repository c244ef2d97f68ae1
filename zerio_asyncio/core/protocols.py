"""What Python code shares with the core: the protocol of registered memory, errors."""

from __future__ import annotations

import asyncio


class RegisteredProtocol(asyncio.BaseProtocol):
    """A stream protocol that sees received bytes where the kernel put them: no copy, no ``bytes``.

    Everything else is as in ``asyncio.Protocol``: ``connection_made``, ``connection_lost``,
    ``eof_received``, ``pause_writing``, ``resume_writing``. Where bytes do not come through
    registered memory, on another loop or over TLS, ``view_received`` sees ordinary memory.
    """

    __slots__ = ()

    def view_received(self, view: memoryview) -> None:
        """Some bytes have arrived.

        ``view`` is read-only and lies straight on the registered slice that received them, so it
        is valid during this call alone: it is released when the call returns, and using it later
        raises ``ValueError``. Copy what must last (``bytes(view)``). ``transport.write(view)``
        copies. A slice of the view that is kept (``view[4:]``) stays readable and keeps its memory
        from being used again until it is released.
        """

    def data_received(self, data: bytes) -> None:
        """What loops call that know no registered memory, and TLS: hands on a view of ``data``."""
        with memoryview(data).toreadonly() as view:
            self.view_received(view)

    def eof_received(self) -> bool | None:
        """The peer will send no more; return true to keep the sending half open."""
        return None


class InvariantError(SystemError):
    """The core has found memory in two hands, or a result that nobody asked for: its own bug.

    It leaves ``run_forever``, for nothing that the loop would do after it can be trusted.
    """
