"""The compiled classes of the core, and how a live object of each comes about."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import socket
from collections.abc import Callable
from typing import Any

import zerio_asyncio.core
import zerio_asyncio.messaging
from tests.loop.support import make_loop
from zerio_asyncio import RegisteredProtocol, RioEventLoop
from zerio_asyncio.core.memory import SlicePool
from zerio_asyncio.messaging.framing import MessageFramer, MessageWriter
from zerio_asyncio.messaging.sending_ring import SendingRing

HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that Python code made


def compiled_classes() -> dict[str, type]:
    """Every cdef class of ours, by its name."""
    found = {}
    for package in (zerio_asyncio.core, zerio_asyncio.messaging):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, thing in vars(importlib.import_module(module.name)).items():
                ours = isinstance(thing, type) and thing.__module__ == module.name
                if ours and not thing.__flags__ & HEAP_TYPE:
                    found[name] = thing
    return found


class Ground:
    """A loop with what hangs on it; `close` ends all, in order."""

    def __init__(self, provider: str) -> None:
        self.loop = make_loop(provider)
        self.kept: list[Any] = []

    def turn(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0.001))

    def close(self) -> None:
        self.turn()
        for thing in self.kept:
            thing.close()
        self.turn()
        self.loop.close()

    # ------------------------------------------------------------------- live objects

    def engine(self) -> Any:
        return self.loop

    def handle(self) -> Any:
        return self.loop.call_soon(int)

    def timer(self) -> Any:
        return self.loop.call_later(0, int)

    def stream(self, protocol: Any = asyncio.Protocol) -> Any:
        ours, theirs = socket.socketpair()
        self.kept.append(theirs)
        making = self.loop.create_unix_connection(protocol, sock=ours)
        transport, _ = self.loop.run_until_complete(making)
        self.kept.append(transport)
        theirs.sendall(b"hello")
        transport.write(b"hello")
        return transport

    def datagram(self) -> Any:
        making = self.loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        transport, _ = self.loop.run_until_complete(making)
        self.kept.append(transport)
        transport.sendto(b"hello", transport.get_extra_info("sockname"))
        return transport

    def slice_view(self) -> Any:
        """An exporter whose memory a kept part still shows."""
        found: list[Any] = []

        class Keeping(RegisteredProtocol):
            def view_received(self, view: memoryview) -> None:
                found.extend((view.obj, view[1:]))

        self.stream(Keeping)
        self.turn()
        return found[0]

    def pool(self) -> Any:
        return SlicePool(4096, 8192)

    def framer(self) -> Any:
        framer = MessageFramer(lambda message: None, 1000)
        framer.feed(memoryview(b"\x04\0\0\0ab"))
        return framer

    def writer(self) -> Any:
        return MessageWriter(self.stream(), lambda unsent, message: None, 1000, 10_000)

    def ring(self) -> Any:
        ring = SendingRing(8, 64)
        ring.put(self.writer(), b"waiting")
        return ring

    def assembly(self) -> Any:
        found: list[Any] = []
        framer = MessageFramer(lambda message: found.extend((message.obj, message[1:])), 1000)
        framer.feed(memoryview(b"\x04\0\0\0ab"))
        framer.feed(memoryview(b"cd"))
        return found[0]


LIVE: dict[str, Callable[[Ground], Any]] = {
    "RioEventLoop": Ground.engine,
    "Handle": Ground.handle,
    "TimerHandle": Ground.timer,
    "StreamTransport": Ground.stream,
    "DatagramTransport": Ground.datagram,
    "SliceView": Ground.slice_view,
    "SlicePool": Ground.pool,
    "MessageFramer": Ground.framer,
    "MessageWriter": Ground.writer,
    "SendingRing": Ground.ring,
    "Assembly": Ground.assembly,
}
"""How a program comes to a live object; the other classes are bases, or never shown."""


def classes() -> dict[str, type]:
    """All that is looked at: the loop, too, which is what its engine is for users."""
    return {**compiled_classes(), "RioEventLoop": RioEventLoop}
