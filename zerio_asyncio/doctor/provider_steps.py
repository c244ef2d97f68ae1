"""The proof of one provider: what a loop needs of it, tried over loopback.

Each step makes what it needs and closes it again. All waiting is bounded by `PATIENCE`.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, final

from zerio_asyncio.doctor.steps import Finding, Status, Step
from zerio_asyncio.rio import (
    CompletionPort,
    CompletionQueue,
    Event,
    Flag,
    Kind,
    Provider,
    Region,
    RequestQueue,
    Result,
    Watch,
    addresses,
    by_name,
    code_name,
    pick,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 3.0
"""Seconds that a step waits for one thing over loopback, which takes less than a millisecond."""

LOOPBACK = "127.0.0.1"
REGION_BYTES = 65536
BURST = 32  # messages
MESSAGE_BYTES = 1024
SLEEP = 0.02  # seconds; more than one tick of any system's clock
ACCEPTS, CONNECTS, WATCHES, POSTS, NOTIFIES = range(1, 6)  # keys of events


class UnexpectedError(Exception):
    """Something else came than what had to come."""


@final
class Rig:
    """A port with a completion queue and registered memory of one provider."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self._closing = contextlib.ExitStack()
        try:
            self.port = self._closing.enter_context(CompletionPort(provider))
            self.region = self._closing.enter_context(Region(provider, REGION_BYTES))
            self.results = CompletionQueue(4 * BURST, self.port, key=NOTIFIES)
            self._closing.callback(self.results.close)
        except BaseException:
            self._closing.close()
            raise

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def make(self, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """Make a socket as a loop makes it; it is closed with the rig."""
        made = self.provider.make_socket(socket.AF_INET, kind)
        self._closing.callback(made.close)
        made.setblocking(False)
        return made

    def event(self, kind: Kind, doing: str) -> Event:
        """Wait for an event of this kind."""
        for event in self._events(doing):
            if event.kind is kind:
                if event.error is not None:
                    raise event.error
                return event
        raise UnexpectedError(f"{doing}: nothing came in {PATIENCE:g} s")

    def _events(self, doing: str) -> Iterator[Event]:
        end = time.monotonic() + PATIENCE
        while (left := end - time.monotonic()) > 0:
            for event in self.port.wait(left):
                if event.kind in {Kind.ACCEPT, Kind.CONNECT, Kind.READY, Kind.POST, Kind.NOTIFY}:
                    yield event
                else:
                    raise UnexpectedError(f"{doing}: an event of kind {event.kind.name} came")

    def collect(self, count: int) -> list[Result]:
        """Wait for so many results, no more and no fewer."""
        found = self.some(count)
        if len(found) != count:
            raise UnexpectedError(f"{len(found)} results came, where {count} could")
        return found

    def some(self, least: int = 1) -> list[Result]:
        """Wait, by notifications, for at least so many results."""
        found: list[Result] = []
        end = time.monotonic() + PATIENCE
        while True:
            found += self.results.dequeue()
            left = end - time.monotonic()
            if len(found) >= least:
                return found
            if left <= 0:
                raise UnexpectedError(f"{len(found)} of {least} results came in {PATIENCE:g} s")
            self.results.notify()
            self.port.wait(left)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Accept a connection and connect it, both on the port: client and server."""
        listener = self.make()
        listener.bind((LOOPBACK, 0))
        listener.listen()
        self.port.accept(listener, ACCEPTS)
        client = self.make()
        self.port.connect(client, listener.getsockname(), CONNECTS)
        found: dict[Kind, Event] = {}
        for event in self._events("accept and connect"):
            if event.error is not None:
                raise event.error
            found[event.kind] = event
            if len(found) == 2:
                break
        if len(found) != 2:
            missing = {Kind.ACCEPT, Kind.CONNECT} - found.keys()
            names = " and ".join(sorted(kind.name for kind in missing))
            raise UnexpectedError(f"no event of {names} came in {PATIENCE:g} s")
        server = found[Kind.ACCEPT].take_socket()
        self._closing.callback(server.close)
        self.port.accept_stop(listener)
        return client, server

    def requests(self, sock: socket.socket, most: int = 1) -> RequestQueue:
        """Make a request queue; it is retired before the sockets are closed."""
        made = RequestQueue(sock, self.results, max_receives=most, max_sends=most)
        self._closing.callback(made.close)
        return made


def steps(name: str) -> list[Step]:
    """Return the steps that prove the provider of this name."""
    provider = by_name(name)
    tried: list[tuple[str, Callable[[Provider], str | Finding]]] = [
        ("probe", _probe),
        ("registered memory", _memory),
        ("sleep, and a wake-up by another thread's post", _post),
        ("completion queue and notification", _notification),
        ("accept and connect", _connect),
        ("options of both sockets", _options),
        ("a byte each way", _bytes),
        ("a burst each way", _burst),
        ("a shutdown", _shutdown),
        ("a close with a receive outstanding", _close),
        ("a watched socket", _watch),
        ("a datagram each way", _datagrams),
    ]
    return [Step(title, functools.partial(run, provider)) for title, run in tried]


def _probe(provider: Provider) -> Finding:
    refusal = provider.probe()
    if refusal is not None:
        return Finding(Status.REFUSED, str(refusal.strerror))
    return Finding(Status.OK, "not refused")


def _memory(provider: Provider) -> str:
    with Region(provider, REGION_BYTES) as region:
        region.slice(0, 16).memory[:] = bytes(range(16))
        if bytes(region.slice(8, 8).memory) != bytes(range(8, 16)):
            raise UnexpectedError("the memory does not hold what was written to it")
        return f"{region.size} bytes"


def _post(provider: Provider) -> str:
    with Rig(provider) as rig:
        began = time.monotonic()
        if rig.port.wait(SLEEP):
            raise UnexpectedError("an event came though nothing was started")
        slept = time.monotonic() - began
        other = threading.Thread(target=rig.port.post, args=(POSTS,))
        other.start()
        try:
            event = rig.event(Kind.POST, "post")
        finally:
            other.join()
        if event.key != POSTS:
            raise UnexpectedError(f"the key {POSTS} came back as {event.key}")
    return f"slept {slept * 1000:.1f} ms of {SLEEP * 1000:.0f}"


def _notification(provider: Provider) -> str:
    with Rig(provider) as rig:
        client, server = rig.pair()
        requests, others = rig.requests(client), rig.requests(server)
        rig.results.notify()
        requests.receive(rig.region.slice(0, 16))
        others.send(rig.region.slice(16, 1))
        event = rig.event(Kind.NOTIFY, "notification")
        if event.queue is not rig.results:
            raise UnexpectedError("the notification is of another queue")
        rig.collect(2)
    return ""


def _connect(provider: Provider) -> str:
    with Rig(provider) as rig:
        client, server = rig.pair()
        if client.getpeername() != server.getsockname():
            raise UnexpectedError(f"{client.getpeername()} is not {server.getsockname()}")
        if server.getpeername() != client.getsockname():
            raise UnexpectedError(f"{server.getpeername()} is not {client.getsockname()}")
    return ""


def _options(provider: Provider) -> str:
    with Rig(provider) as rig:
        for sock in rig.pair():
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY):
                raise UnexpectedError("TCP_NODELAY was set and is not")
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return "TCP_NODELAY, SO_KEEPALIVE, SO_RCVBUF"


def _bytes(provider: Provider) -> str:
    with Rig(provider) as rig:
        client, server = (rig.requests(sock) for sock in rig.pair())
        for sender, receiver, byte in ((client, server, b"c"), (server, client, b"s")):
            rig.region.slice(0, 1).memory[:] = byte
            target = rig.region.slice(16, 16)
            receiver.receive(target)
            sender.send(rig.region.slice(0, 1))
            for result in rig.collect(2):
                _one(result, 1)
            if bytes(target.memory[:1]) != byte:
                raise UnexpectedError(f"{byte!r} arrived as {bytes(target.memory[:1])!r}")
    return ""


def _one(result: Result, transferred: int) -> None:
    if result.error is not None:
        raise result.error
    if result.transferred != transferred:
        raise UnexpectedError(f"{result.transferred} bytes instead of {transferred}")


def _burst(provider: Provider) -> str:
    with Rig(provider) as rig:
        client, server = (rig.requests(sock, BURST) for sock in rig.pair())
        began = time.monotonic()
        for sender, receiver in ((client, server), (server, client)):
            _one_burst(rig, sender, receiver)
        took = time.monotonic() - began
    return f"{2 * BURST} messages of {MESSAGE_BYTES} bytes in {took * 1000:.1f} ms"


def _one_burst(rig: Rig, sender: RequestQueue, receiver: RequestQueue) -> None:
    """Deferred sends and one commit; the receives are posted one after the other."""
    half = REGION_BYTES // 2
    expected = bytes(number % 251 for number in range(BURST * MESSAGE_BYTES))
    rig.region.slice(0, len(expected)).memory[:] = expected
    target = rig.region.slice(half, half)
    for number in range(BURST):
        part = rig.region.slice(number * MESSAGE_BYTES, MESSAGE_BYTES)
        sender.send(part, "sent", Flag.DEFER)
    sender.commit_sends()
    sent, got = 0, b""
    receiver.receive(target)
    while sent < BURST or len(got) < len(expected):
        for result in rig.some():
            if result.error is not None:
                raise result.error
            if result.context == "sent":
                sent += 1
                continue
            if not result.transferred:
                raise UnexpectedError(f"the stream ended after {len(got)} bytes")
            got += bytes(target.memory[: result.transferred])
            if len(got) < len(expected):
                receiver.receive(target)
    if got != expected:
        raise UnexpectedError("other bytes arrived than were sent")


def _shutdown(provider: Provider) -> str:
    with Rig(provider) as rig:
        client, server = rig.pair()
        requests, others = rig.requests(client), rig.requests(server)
        target = rig.region.slice(0, 16)
        requests.receive(target)
        server.shutdown(socket.SHUT_WR)
        (result,) = rig.collect(1)
        _one(result, 0)
        # The other direction is still open.
        others.receive(target)
        requests.send(rig.region.slice(16, 1))
        for result in rig.collect(2):
            _one(result, 1)
    return ""


def _close(provider: Provider) -> str:
    with Rig(provider) as rig:
        client, server = rig.pair()
        requests, others = rig.requests(client), rig.requests(server)
        requests.receive(rig.region.slice(0, 16), "ours")
        if rig.port.wait(0):
            raise UnexpectedError("an event came though nothing was sent")
        requests.close()
        client.close()
        (result,) = rig.collect(1)
        if result.error is None:
            raise UnexpectedError(f"the receive ended well, with {result.transferred} bytes")
        others.receive(rig.region.slice(16, 16))
        (seen,) = rig.collect(1)
        if seen.error is None:
            _one(seen, 0)
        peer = code_name(seen.status) if seen.status else "the end"
    return f"the receive ended with {code_name(result.status)}, the peer saw {peer}"


def _watch(provider: Provider) -> str:
    with Rig(provider) as rig:
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            rig.port.watch(one, Watch.READ, WATCHES)
            if rig.port.wait(0):
                raise UnexpectedError("readable though nothing was sent")
            other.send(b"x")
            event = rig.event(Kind.READY, "readiness")
            if not event.value & Watch.READ or event.key != WATCHES:
                raise UnexpectedError(f"mask {event.value}, key {event.key}")
            rig.port.watch(one, 0)
    return ""


def _datagrams(provider: Provider) -> str:
    if not provider.has_datagrams:
        return "this provider has none"
    with Rig(provider) as rig:
        ends = [rig.make(socket.SOCK_DGRAM) for _ in range(2)]
        for end in ends:
            end.bind((LOOPBACK, 0))
        queues = [rig.requests(end) for end in ends]
        size = addresses.ADDRESS_SIZE
        for sender in (0, 1):
            receiver = 1 - sender
            to, peer = rig.region.slice(0, size), rig.region.slice(64, size)
            target = rig.region.slice(128, 64)
            raw = addresses.pack(socket.AF_INET, ends[receiver].getsockname())
            to.memory[: len(raw)] = raw
            queues[receiver].receive_from(target, peer)
            queues[sender].send_to(rig.region.slice(256, 10), to)
            for result in rig.collect(2):
                _one(result, 10)
            told: Any = addresses.unpack(bytes(peer.memory))
            if told != ends[sender].getsockname():
                raise UnexpectedError(f"{told} sent it, not {ends[sender].getsockname()}")
    return ""


def choice(_: str) -> list[Step]:
    """Return the one step that asks which provider a loop takes."""
    return [Step("the provider that a loop takes", _choice)]


def _choice() -> str:
    chosen = pick()
    return f"{chosen.provider.name}: {chosen.reason}"
