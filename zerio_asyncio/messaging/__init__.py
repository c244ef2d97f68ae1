"""Zerio messaging: framed messages between peers, addressed by id; see docs/messaging.md."""

from zerio_asyncio.messaging.client import ZerioClient
from zerio_asyncio.messaging.configuration import (
    ZerioClientConfiguration,
    ZerioServerConfiguration,
)
from zerio_asyncio.messaging.errors import (
    DisconnectCause,
    DisconnectReason,
    HandshakeError,
    NotConnectedError,
    SendingBuffersFullError,
    SendingRingFullError,
    UnknownPeerError,
    ZerioError,
)
from zerio_asyncio.messaging.server import ZerioServer

__all__ = [
    "DisconnectCause",
    "DisconnectReason",
    "HandshakeError",
    "NotConnectedError",
    "SendingBuffersFullError",
    "SendingRingFullError",
    "UnknownPeerError",
    "ZerioClient",
    "ZerioClientConfiguration",
    "ZerioError",
    "ZerioServer",
    "ZerioServerConfiguration",
]
