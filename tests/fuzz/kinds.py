"""The kinds of actors by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import datagrams, messages, queues, scheduling, servers, sockets, streams, tls

KINDS: dict[str, Callable[[Any], Any]] = {
    "pairs": streams.pairs,
    "servers": servers.servers,
    "datagrams": datagrams.datagrams,
    "sockets": sockets.sockets,
    "scheduling": scheduling.scheduling,
    "tls": tls.tls,
    "messages": messages.messages,
    "queues": queues.queues,
}

OURS = ("messages", "queues")
"""What the standard loop has not."""

TAME = ("tls",)
"""What cannot run under ``--hostile``: asyncio's TLS does not bear to be called inside itself."""
