"""Python's socket addresses as the system's ``sockaddr``, and back.

RIO and the port take addresses as bytes. Nothing is resolved here: hosts must be numeric, because a
look-up would block.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

ADDRESS_SIZE = 28
"""Bytes of a SOCKADDR_INET: what an address slice of ``RequestQueue.receive_from`` must hold
(https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_rioreceiveex)."""

_FAMILY = struct.Struct("=H")
_INET = struct.Struct("!H4s8x")
_INET6 = struct.Struct("!HI16s")
_SCOPE = struct.Struct("=I")  # sin6_scope_id alone is in the machine's order
_UNIX_PATH_MAX = 108  # bytes of sun_path, the final NUL included


def pack(family: int, address: Any) -> bytes:
    """Make a ``sockaddr`` from an address as `socket.socket.connect` takes it.

    ValueError if the host is not numeric, the path is too long, or the family is another one.
    """
    if family == socket.AF_INET:
        host, port = address
        return _FAMILY.pack(family) + _INET.pack(_port(port), _number(family, host))
    if family == socket.AF_INET6:
        host, port, flow, scope = (*address, 0, 0)[:4]
        number = _INET6.pack(_port(port), flow, _number(family, host))
        return _FAMILY.pack(family) + number + _SCOPE.pack(scope)
    if family == getattr(socket, "AF_UNIX", None):
        path = os.fsencode(address)
        if not path.startswith(b"\0"):  # an abstract name has no end mark, it ends with its length
            path += b"\0"
        if len(path) > _UNIX_PATH_MAX:
            raise ValueError(f"path of {len(path)} bytes is longer than {_UNIX_PATH_MAX}")
        return _FAMILY.pack(family) + path
    raise ValueError(f"address family {family} is not one of AF_INET, AF_INET6, AF_UNIX")


def unpack(raw: bytes | bytearray | memoryview) -> Any:
    """Make an address from a ``sockaddr``, as `socket.socket.accept` and ``getpeername`` return it.

    It is a tuple; for AF_UNIX it is a path or an abstract name. ValueError for another family.
    """
    if len(raw) < _FAMILY.size:
        raise ValueError(f"{len(raw)} bytes are not an address")
    (family,) = _FAMILY.unpack_from(raw)
    if family == socket.AF_INET:
        port, host = _INET.unpack_from(raw, _FAMILY.size)
        return socket.inet_ntop(family, host), port
    if family == socket.AF_INET6:
        port, flow, host = _INET6.unpack_from(raw, _FAMILY.size)
        (scope,) = _SCOPE.unpack_from(raw, _FAMILY.size + _INET6.size)
        return socket.inet_ntop(family, host), port, flow, scope
    if family == getattr(socket, "AF_UNIX", None):
        path = bytes(raw[_FAMILY.size :])
        return path if path.startswith(b"\0") else os.fsdecode(path.split(b"\0", 1)[0])
    raise ValueError(f"address family {family} is not one of AF_INET, AF_INET6, AF_UNIX")


def _port(port: int) -> int:
    if not 0 <= port <= 0xFFFF:
        raise ValueError(f"port must be 0 to 65535, not {port}")
    return port


def _number(family: int, host: str) -> bytes:
    try:
        return socket.inet_pton(family, host)
    except OSError:
        raise ValueError(f"{host!r} is not a numeric address of its family") from None
