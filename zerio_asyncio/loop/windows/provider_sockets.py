"""The sockets that a loop makes itself, made as its provider serves them best.

Windows drives only sockets by Registered I/O that were made for it. The standard library's loop
makes its own in the middle of long coroutines, with ``socket.socket``. Here the same coroutines run
with another global name ``socket``: one that makes the provider's sockets and is the real module in
everything else. So each Python version's own code goes on doing the rest.

Coroutines of ``BaseEventLoop`` that are used so, checked against CPython 3.10 to 3.15:
create_server, create_datagram_endpoint, _connect_sock (which create_connection calls).
"""

from __future__ import annotations

import functools
import socket
import types
from asyncio import BaseEventLoop
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable

    from zerio_asyncio.loop.options import LoopOptions
    from zerio_asyncio.rio.providers import Choice, Provider


EXCLUSIVE = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
"""Without it another process may bind a live port, and take the clients (SO_REUSEADDR there)."""


class _Sockets:
    """The module ``socket``, but for who makes sockets."""

    def __init__(self, provider: Provider, exclusive: bool) -> None:
        self._provider = provider
        self._exclusive = exclusive

    def socket(self, family: int = -1, type: int = -1, proto: int = -1) -> socket.socket:  # noqa: A002
        made = self._provider.make_socket(family, type, proto)
        if self._exclusive and EXCLUSIVE is not None:
            made.setsockopt(socket.SOL_SOCKET, EXCLUSIVE, 1)
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)


@functools.cache
def with_sockets_of(provider: Provider, name: str, exclusive: bool = False) -> Any:
    """Return the function ``name`` of `asyncio.BaseEventLoop`, making sockets of ``provider``.

    ``exclusive``: nobody else may bind their addresses.
    """
    function: Any = getattr(BaseEventLoop, name)
    names = {**function.__globals__, "socket": _Sockets(provider, exclusive)}
    made = types.FunctionType(
        function.__code__, names, name, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


class ProviderSockets:
    """A loop whose own sockets are its provider's; goes before the standard library's loop."""

    _choice: Choice
    _options: LoopOptions

    def _with_sockets(self, name: str, exclusive: bool = False) -> Any:
        own: Any = getattr(BaseEventLoop, name)
        if own.__globals__["socket"] is not socket:
            return own  # a program, or its test, has put something else there
        return with_sockets_of(self._choice.provider, name, exclusive)

    async def create_server(self, *args: Any, **kwargs: Any) -> asyncio.Server:
        """Listen on TCP; see ``asyncio.loop.create_server``.

        The address is the server's alone, unless ``reuse_address`` or ``reuse_port`` says else.
        """
        alone = not (kwargs.get("reuse_address") or kwargs.get("reuse_port"))
        create = self._with_sockets("create_server", alone)
        server: asyncio.Server = await create(self, *args, **kwargs)
        return server

    async def create_datagram_endpoint(self, *args: Any, **kwargs: Any) -> Any:
        """Open a datagram socket; see ``asyncio.loop.create_datagram_endpoint``.

        One for Registered I/O has no buffer of the system behind it, so a program has to ask for
        it: ``LoopOptions(datagrams="rio")``.
        """
        if self._options.datagrams == "rio":
            made = self._with_sockets("create_datagram_endpoint")(self, *args, **kwargs)
        else:
            made = super().create_datagram_endpoint(*args, **kwargs)  # type: ignore[misc]
        return await made

    # No coroutine of its own: its frame would keep the list of errors, whose tracebacks keep it.
    def _connect_sock(self, *args: Any, **kwargs: Any) -> Awaitable[socket.socket]:
        connecting: Awaitable[socket.socket] = self._with_sockets("_connect_sock")(
            self, *args, **kwargs
        )
        return connecting
