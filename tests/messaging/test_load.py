"""A thousand clients, messages of 1 byte to 1 MiB, random ends: every message is accounted for.

What a client sends is drawn from its peer id, so the server knows what the next message of each
must be: one that is lost, doubled, out of place or damaged is seen when it, or the next, arrives.
"""

from __future__ import annotations

import asyncio
import collections
import random
import struct

import pytest

import zerio_asyncio
from zerio_asyncio.messaging import (
    Connected,
    DisconnectCause,
    Disconnected,
    NotConnectedError,
)

from .support import address_of

CLIENTS = 1000
MESSAGES = 12
AT_ONCE = 100
"""Clients that send at once; all of them stay connected meanwhile."""
MIB = 1 << 20
NOISE = random.Random(0).randbytes(2 * MIB)


def plan_of(peer_id):
    """The messages of one connection, and how it ends."""
    draw = random.Random(peer_id)
    messages = []
    for _ in range(MESSAGES):
        size = min(MIB, int(2 ** draw.uniform(0, 20.2)))
        start = draw.randrange(MIB)
        messages.append(NOISE[start : start + size])
    return messages, draw.choice(["stop", "stop", "abort", "server"])


class Accountant(zerio_asyncio.ZerioServer):
    """Checks each message against its sender's plan, and acknowledges it by its number."""

    def __init__(self):
        super().__init__(0, on_message=self.take, on_event=self.learn, max_message_size=MIB)
        self.plans = {}
        self.received = collections.Counter()
        self.sizes = set()
        self.connections = collections.Counter()
        self.reasons = {}

    def learn(self, event):
        peer_id = event.peer.id
        if isinstance(event, Connected):
            self.connections[peer_id] += 1
            self.plans[peer_id] = plan_of(peer_id)
        else:
            assert peer_id not in self.reasons
            self.reasons[peer_id] = event.reason

    def take(self, peer, message):
        peer_id = peer.id
        number = self.received[peer_id]
        messages, end = self.plans[peer_id]
        assert bytes(message) == messages[number], f"message {number} of {peer_id}"
        self.received[peer_id] += 1
        self.sizes.add(len(message))
        peer.send(struct.pack("<i", number))
        if end == "server" and number == len(messages) // 2:
            peer.disconnect("as planned")


class Sender(zerio_asyncio.ZerioClient):
    """Counts acknowledgements, which come in order."""

    def __init__(self, address, peer_id):
        super().__init__(
            address, peer_id, on_message=self.take, on_event=self.learn, max_message_size=MIB
        )
        self.acknowledged = 0
        self.ended = asyncio.Event()
        self.complete = asyncio.Event()

    def take(self, message):
        assert struct.unpack("<i", message) == (self.acknowledged,)
        self.acknowledged += 1
        if self.acknowledged == MESSAGES:
            self.complete.set()

    def learn(self, event):
        if isinstance(event, Disconnected):
            self.ended.set()


async def live(server, sender, peer_id, turns):
    """Send all there is to send; end as planned."""
    messages, end = plan_of(peer_id)
    async with turns:
        try:
            for number, message in enumerate(messages):
                if end == "abort" and number == len(messages) // 2:
                    sender._session.abort(DisconnectCause.LOCAL, "as planned")
                sender.send(message)
                await sender.drain()
        except NotConnectedError:
            assert end != "stop"
        if end == "stop":
            await sender.complete.wait()
            await sender.stop()
        await sender.ended.wait()
        await sender.stop()
    return end


@pytest.fixture
def many_descriptors():
    """Both ends of every connection are in this process."""
    try:
        import resource
    except ImportError:  # Windows knows no such limit
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 3 * CLIENTS
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.timeout(120)
async def test_every_message_of_a_thousand_clients_is_accounted_for(loop):
    server = Accountant()
    await server.start()
    ids = [f"client {number}" for number in range(CLIENTS)]
    senders = {peer_id: Sender(address_of(server), peer_id) for peer_id in ids}
    names = list(senders)
    for start in range(0, CLIENTS, AT_ONCE):
        batch = names[start : start + AT_ONCE]
        await asyncio.gather(*[senders[peer_id].start() for peer_id in batch])
    assert len(server.peers) == CLIENTS
    turns = asyncio.Semaphore(AT_ONCE)
    ends = await asyncio.gather(
        *[live(server, sender, peer_id, turns) for peer_id, sender in senders.items()]
    )
    while len(server.reasons) < CLIENTS:
        await asyncio.sleep(0.001)
    await server.stop()

    assert server.connections == dict.fromkeys(senders, 1)
    planned = dict(zip(senders, ends, strict=True))
    for peer_id, sender in senders.items():
        received = server.received[peer_id]
        reason = server.reasons[peer_id]
        if planned[peer_id] == "stop":
            assert sender.acknowledged == received == MESSAGES
            assert reason.cause is DisconnectCause.PEER
        elif planned[peer_id] == "server":
            assert MESSAGES // 2 + 1 == received >= sender.acknowledged
            assert str(reason) == "as planned"
        else:
            assert MESSAGES // 2 >= received >= sender.acknowledged
            assert reason.cause in {DisconnectCause.PEER, DisconnectCause.NETWORK}
    counts = collections.Counter(ends)
    assert min(counts[end] for end in ("stop", "abort", "server")) > CLIENTS // 10
    assert min(server.sizes) == 1
    assert max(server.sizes) == MIB
    assert server.received.total() >= counts["stop"] * MESSAGES
