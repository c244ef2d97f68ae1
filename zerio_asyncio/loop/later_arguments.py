"""Arguments that asyncio takes only from a later Python on, and uvloop on every one, like us.

``create_connection(all_errors=)``        3.12; it needs the exception groups of 3.11
``create_unix_server(cleanup_socket=)``   3.13, where it is the default

On a Python that has the argument, its own code does the work.
"""

from __future__ import annotations

import builtins
import contextlib
import contextvars
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Awaitable

_log = logging.getLogger("asyncio")

ERROR_GROUP: Any = getattr(builtins, "ExceptionGroup", None)
HAS_ALL_ERRORS = sys.version_info >= (3, 12)
HAS_CLEANUP = sys.version_info >= (3, 13)


class _Attempts:
    """The errors of each connection attempt, as ``_connect_sock`` records them."""

    def __init__(self) -> None:
        self.errors: list[list[Exception]] = []
        self.over = False


_attempts: contextvars.ContextVar[_Attempts | None] = contextvars.ContextVar(
    "zerio_asyncio.attempts", default=None
)


class LaterArguments:
    """Comes before the standard library's loop."""

    _cleaned: dict[Any, tuple[Path, int]]
    """Listening Unix sockets, with path and inode, whose file is removed with them."""

    async def create_connection(
        self, *args: Any, all_errors: bool = False, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Connect; see ``asyncio.loop.create_connection``."""
        create: Any = super().create_connection  # type: ignore[misc]
        if HAS_ALL_ERRORS:
            kwargs["all_errors"] = all_errors
        if HAS_ALL_ERRORS or not all_errors:
            made: tuple[Any, Any] = await create(*args, **kwargs)
            return made
        if ERROR_GROUP is None:
            raise TypeError("all_errors needs exception groups, which Python has from 3.11 on")
        attempts = _Attempts()
        token = _attempts.set(attempts)
        errors: list[Exception] = []
        try:
            made = await create(*args, **kwargs)
        except OSError:
            errors += [error for each in attempts.errors for error in each]
            if not errors:
                raise
            raise ERROR_GROUP("create_connection failed", errors) from None
        else:
            return made
        finally:
            attempts.over = True  # the connection's context keeps it
            attempts.errors = []
            errors = []  # their tracebacks keep this frame
            _attempts.reset(token)

    # Not a coroutine: the tracebacks of the errors would keep its frame, and that the list.
    def _connect_sock(self, exceptions: Any, *args: Any, **kwargs: Any) -> Awaitable[socket.socket]:
        attempts = _attempts.get()
        if attempts is not None and not attempts.over:
            attempts.errors = exceptions
        connecting: Awaitable[socket.socket] = super()._connect_sock(  # type: ignore[misc]
            exceptions, *args, **kwargs
        )
        return connecting

    async def create_unix_server(
        self, *args: Any, cleanup_socket: bool | None = None, **kwargs: Any
    ) -> asyncio.Server:
        """Listen on a Unix socket; see ``asyncio.loop.create_unix_server``."""
        if HAS_CLEANUP and cleanup_socket is not None:
            kwargs["cleanup_socket"] = cleanup_socket
        server: Any = await super().create_unix_server(*args, **kwargs)  # type: ignore[misc]
        if cleanup_socket and not HAS_CLEANUP:
            for sock in server._sockets:
                _note_file(sock, self._cleaned)
        return server  # type: ignore[no-any-return]

    def _stop_serving(self, sock: socket.socket) -> None:
        path, inode = self._cleaned.pop(sock, (None, 0))
        super()._stop_serving(sock)  # type: ignore[misc]
        if path is not None:
            try:
                if path.stat().st_ino == inode:  # not another server's by now
                    path.unlink()
            except FileNotFoundError:
                pass
            except OSError as error:
                _log.error("Unable to clean up listening UNIX socket %r: %r", str(path), error)


def _note_file(sock: socket.socket, files: dict[Any, tuple[Path, int]]) -> None:
    path = Path(os.fsdecode(sock.getsockname()))
    with contextlib.suppress(OSError, ValueError):  # an abstract name has no file
        files[sock] = path, path.stat().st_ino
