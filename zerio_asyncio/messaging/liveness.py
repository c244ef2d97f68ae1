"""Noticing peers that are gone: the system's own probes, which no program on the other side sees.

An idle connection is probed after half of ``keepalive``, then three times at a sixth of it. Data
that the other side does not acknowledge for ``keepalive`` seconds ends the connection, too; so does
a peer that reads nothing at all for that long while data waits for it.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

PROBES = 3

TICKS = 3
"""How often in ``keepalive`` seconds a connection with extensions looks for a sign of life."""


def hold_little(sock: Any, size: int) -> None:
    """Have the system take no more than about ``size`` bytes: what it has cannot be replaced."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def keep_alive(sock: Any, seconds: float) -> None:
    """Have the system end the connection when its peer has been gone for ``seconds``.

    What a system does not know is left out, and none of it applies to a socket of another family.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", max(1, int(seconds / 2))),
        ("TCP_KEEPINTVL", max(1, int(seconds / 2 / PROBES))),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", int(seconds * 1000)),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
