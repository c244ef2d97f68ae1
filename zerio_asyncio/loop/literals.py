"""Addresses need no resolver: ``getaddrinfo`` of one is answered in place, without a thread.

asyncio asks ``socket.getaddrinfo`` in a thread of the default executor, because the resolver may
wait for the network. A literal address with a number for its port needs none: only what is asked
for (family, type, protocol, flags) decides what the answer looks like. So for each such question
the system is asked once, in place and told that the host is an address; from then on the host and
the port are put into an answer of the same shape.

Everything else goes the standard library's way: names, names of services, scopes, addresses that
are not written as the system writes them, flags that make the answer depend on more than the
address, questions that the system refuses, debug mode, and every call while ``socket.getaddrinfo``
is not the standard library's, because somebody wants to be asked.
"""

from __future__ import annotations

import socket
from operator import index
from sys import audit
from typing import Any

from zerio_asyncio.loop.loop_engine import LoopEngine

_SIMPLE_FLAGS = int(
    socket.AI_PASSIVE | socket.AI_NUMERICHOST | getattr(socket, "AI_NUMERICSERV", 0)
)
_OTHER_FLAGS = ~_SIMPLE_FLAGS  # an int: operators of enumerations are slow
_IPV4 = int(socket.AF_INET)
_PORT_MAX = 0xFFFF
_KEPT_MAX = 1024

_standard = socket.getaddrinfo
_is_standard = getattr(_standard, "__module__", None) == "socket"

Answer = list[tuple[Any, Any, int, str, tuple[Any, ...]]]
Shape = list[tuple[Any, Any, int]]

_families: dict[str, int] = {}
"""Families of addresses that were asked for lately."""
_shapes: dict[tuple[int, ...], Shape] = {}
"""What answers look like: by family, then what was asked, then whether there was a port."""


def _family_of(host: str) -> int:
    """The family of an address that is written as the system writes it; 0 for all else."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if socket.inet_ntop(family, socket.inet_pton(family, host)) != host:
            return 0
    except (OSError, ValueError):
        return 0
    if host.startswith("::ffff:"):
        return 0  # the system may take these for addresses of IPv4
    if len(_families) >= _KEPT_MAX:
        _families.clear()
    _families[host] = int(family)
    return int(family)


def _number_of(port: Any) -> int:
    """The port as a number, 0 for None; -1 for what is not simply a number."""
    if port is None:
        return 0
    if type(port) is str and 0 < len(port) < 6 and port.isascii() and port.isdigit():
        port = int(port)
    return port if type(port) is int and port <= _PORT_MAX else -1


def _ask(host: str, port: Any, address: tuple[Any, ...], key: tuple[int, ...]) -> Shape | None:
    """Ask the system once what such an answer looks like."""
    _, family, kind, proto, flags, _ = key
    try:
        answer = _standard(host, port, family, kind, proto, flags | int(socket.AI_NUMERICHOST))
    except (OSError, TypeError, ValueError, OverflowError):
        return None  # the standard library reports it
    if any(name != "" or found != address for *_, name, found in answer):
        return None
    shape = [(family, kind, proto) for family, kind, proto, _, _ in answer]
    if len(_shapes) >= _KEPT_MAX:
        _shapes.clear()
    _shapes[key] = shape
    return shape


def resolve(host: Any, port: Any, family: int, kind: int, proto: int, flags: int) -> Answer | None:
    """Answer what ``socket.getaddrinfo`` answers, or None if that may need a resolver."""
    if type(host) is not str or flags & _OTHER_FLAGS:
        return None
    own = _families.get(host) or _family_of(host)
    number = port if type(port) is int and port <= _PORT_MAX else _number_of(port)
    if not own or number < 0:
        return None
    address = (host, number) if own == _IPV4 else (host, number, 0, 0)
    try:
        key = (own, index(family), index(kind), index(proto), index(flags), port is None)
    except TypeError:
        return None
    shape = _shapes.get(key)
    if shape is None:
        shape = _ask(host, port, address, key)
        if shape is None:
            return None
    else:
        audit("socket.getaddrinfo", host, port, family, kind, proto)
    if len(shape) == 1:
        ((family, kind, proto),) = shape
        return [(family, kind, proto, "", address)]
    return [(family, kind, proto, "", address) for family, kind, proto in shape]


class Literals(LoopEngine):
    """The part of a loop that knows an address when it sees one."""

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002  # asyncio's names
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Resolve a host and a port; see ``asyncio.loop.getaddrinfo``."""
        if self._closed:
            self._check_closed()
        if socket.getaddrinfo is _standard and _is_standard and not self._debug:
            answer = resolve(host, port, family, type, proto, flags)
            if answer is not None:
                return answer
        return await super().getaddrinfo(  # type: ignore[misc]
            host, port, family=family, type=type, proto=proto, flags=flags
        )
