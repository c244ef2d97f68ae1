"""Zerio messaging: framed messages between peers, addressed by id; see docs/messaging.md."""

from zerio_asyncio.messaging.client import ZerioClient, connect
from zerio_asyncio.messaging.configuration import (
    Reconnect,
    ZerioClientConfiguration,
    ZerioServerConfiguration,
)
from zerio_asyncio.messaging.errors import (
    ConnectionClosed,
    DisconnectCause,
    DisconnectReason,
    HandshakeError,
    NotConnectedError,
    RequestError,
    SendingRingFullError,
    SlowPeerError,
    TooManyRequestsError,
    UnknownPeerError,
    ZerioError,
)
from zerio_asyncio.messaging.events import Connected, ConnectFailed, Connecting, Disconnected
from zerio_asyncio.messaging.peer import Peer
from zerio_asyncio.messaging.requests import Request
from zerio_asyncio.messaging.server import ZerioServer, serve

__all__ = [
    "ConnectFailed",
    "Connected",
    "Connecting",
    "ConnectionClosed",
    "DisconnectCause",
    "DisconnectReason",
    "Disconnected",
    "HandshakeError",
    "NotConnectedError",
    "Peer",
    "Reconnect",
    "Request",
    "RequestError",
    "SendingRingFullError",
    "SlowPeerError",
    "TooManyRequestsError",
    "UnknownPeerError",
    "ZerioClient",
    "ZerioClientConfiguration",
    "ZerioError",
    "ZerioServer",
    "ZerioServerConfiguration",
    "connect",
    "serve",
]
