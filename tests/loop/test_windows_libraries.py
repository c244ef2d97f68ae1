"""Libraries that want ``add_reader``, which the standard loop of Windows lacks: pyzmq, aiodns."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading

import pytest

from .support import SECONDS, WINDOWS

pytestmark = [
    pytest.mark.skipif(not WINDOWS, reason="the applications' tests have these on other systems"),
    pytest.mark.ours,
]


async def test_zeromq_over_tcp(loop):
    zmq = pytest.importorskip("zmq")
    from zmq.asyncio import Context

    context = Context()
    server, client = context.socket(zmq.REP), context.socket(zmq.REQ)
    try:
        port = server.bind_to_random_port("tcp://127.0.0.1")
        client.connect(f"tcp://127.0.0.1:{port}")
        for number in range(50):
            asked = asyncio.ensure_future(client.send_multipart([b"%d" % number, b"x" * 10_000]))
            question = await asyncio.wait_for(server.recv_multipart(), SECONDS)
            await asked
            await server.send(question[0])
            assert await asyncio.wait_for(client.recv(), SECONDS) == b"%d" % number
    finally:
        for sock in (server, client):
            sock.close(linger=0)
        context.term()
        await asyncio.sleep(0)


def answer(question: bytes, address: str) -> bytes:
    """The DNS message that gives the one name in ``question`` this address."""
    end = question.index(b"\0", 12) + 5  # name, type, class
    head = question[:2] + b"\x81\x80" + struct.pack("!4H", 1, 1, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(address)
    return head + question[12:end] + record


class NameServer(threading.Thread):
    """Answers every question with the same address, until a datagram is empty."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]

    def run(self) -> None:
        while True:
            question, peer = self.sock.recvfrom(512)
            if not question:
                return
            self.sock.sendto(answer(question, "192.0.2.7"), peer)

    def end(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", ("127.0.0.1", self.port))
        self.join(SECONDS)
        self.sock.close()


async def test_names_by_aiodns(loop):
    aiodns = pytest.importorskip("aiodns")
    server = NameServer()
    server.start()
    resolver = aiodns.DNSResolver(
        nameservers=["127.0.0.1"], udp_port=server.port, timeout=SECONDS, tries=2
    )
    try:
        results = await asyncio.gather(
            *[resolver.query_dns(f"host{number}.example", "A") for number in range(20)]
        )
        for result in results:
            assert [record.data.addr for record in result.answer] == ["192.0.2.7"]
    finally:
        await resolver.close()
        server.end()
