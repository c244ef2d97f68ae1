"""Order and wholeness of stream sends, whatever the kernel does underneath (rule 2)."""

import socket
import threading
import time

import pytest

from tests.rio.bare import SECONDS, pattern, read_all
from zerio_asyncio.rio._rio import lib

MIB = 1 << 20


class SlowReader(threading.Thread):
    """Reads in small, unequal pieces with pauses, so that sends meet a full socket often."""

    def __init__(self, sock, size, pause=0.0005):
        super().__init__(daemon=True)
        self.sock, self.size, self.pause = sock, size, pause
        self.data = bytearray()
        self.start()

    def run(self):
        piece = 1000
        while len(self.data) < self.size:
            got = self.sock.recv(min(piece, self.size - len(self.data)))
            if not got:
                return
            self.data += got
            piece = piece * 3 % 60_013 + 500
            time.sleep(self.pause)

    def result(self):
        self.join(SECONDS * 2)
        assert not self.is_alive(), f"only {len(self.data)} of {self.size} bytes came"
        return bytes(self.data)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("defer", [0, lib.RIO_MSG_DEFER], ids=["each", "deferred"])
def test_many_sends_in_flight_arrive_in_order(bare, kind, defer):
    requests, queue, ours, peer = bare.connection(kind, sends=64)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    size, count = 3001, 300
    sent = pattern(size * count)
    region = bare.region(64 * 4096)
    reader = SlowReader(peer, len(sent))
    free = list(range(64))
    where, posted, done = {}, 0, 0
    while done < count:
        while free and posted < count:
            slot = free.pop()
            where[posted] = slot
            region.memory[slot * 4096 : slot * 4096 + size] = sent[posted * size :][:size]
            assert bare.send(requests, region.buf(slot * 4096, size), posted, defer) == 0
            posted += 1
        if defer:
            assert bare.commit(bare.rio.RIOSend, requests) == 0
        for result in bare.some(queue):
            assert (result.status, result.bytes, result.context) == (0, size, done)
            slot = where.pop(done)
            region.memory[slot * 4096 : slot * 4096 + size] = b"\xff" * size  # ours again
            free.append(slot)
            done += 1
    assert reader.result() == sent


def test_sends_of_all_lengths_arrive_in_order(bare):
    requests, queue, ours, peer = bare.connection(sends=16)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    lengths = [1, 70_000, 2, 300_000, 3, 1, 1, 65_536, 65_535, 4096, 150_000, 7, 1, 99_999, 5, 11]
    region = bare.region(MIB)
    sent = pattern(sum(lengths))
    region.memory[: len(sent)] = sent
    at = 0
    for i, length in enumerate(lengths):
        assert bare.send(requests, region.buf(at, length), i) == 0
        at += length
    reader = SlowReader(peer, len(sent))
    results = bare.collect(queue, len(lengths))
    assert [(r.status, r.bytes, r.context) for r in results] == [
        (0, length, i) for i, length in enumerate(lengths)
    ]
    assert reader.result() == sent


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_send_of_megabytes_to_a_slow_reader_is_one_result(bare, kind):
    requests, queue, _, peer = bare.connection(kind)
    size = 6 * MIB + 17
    region = bare.region(8 * MIB)
    region.memory[:size] = sent = pattern(size)
    assert bare.send(requests, region.buf(0, size), 1) == 0
    for _ in range(5):
        bare.wait(0.005)
        assert bare.dequeue(queue) == [], "a short send showed"
    reader = SlowReader(peer, size, pause=0.0001)
    assert bare.collect(queue, 1) == [(0, size, 0, 1)]
    assert reader.result() == sent


def test_both_directions_under_load_at_once(bare):
    requests, queue, ours, peer = bare.connection(receives=4, sends=4)
    size, piece = 2 * MIB, 16384
    sent = pattern(size, seed=3)
    region = bare.region(8 * piece)
    reader = SlowReader(peer, size, pause=0)
    writer = threading.Thread(target=peer.sendall, args=(pattern(size, seed=9),), daemon=True)
    writer.start()
    got = bytearray()
    posted = completed = 0
    for slot in range(4):
        assert bare.receive(requests, region.buf(slot * piece, piece), slot) == 0
    next_receive = 0
    while len(got) < size or completed * piece < size:
        while posted - completed < 4 and posted * piece < size:
            at = (4 + posted % 4) * piece
            region.memory[at : at + piece] = sent[posted * piece :][:piece]
            assert bare.send(requests, region.buf(at, piece), 100 + posted) == 0
            posted += 1
        for result in bare.some(queue):
            assert result.status == 0
            if result.context >= 100:
                assert (result.context, result.bytes) == (100 + completed, piece)
                completed += 1
                continue
            assert result.context == next_receive % 4
            next_receive += 1
            at = result.context * piece
            got += region.memory[at : at + result.bytes]
            assert bare.receive(requests, region.buf(at, piece), result.context) == 0
    writer.join(SECONDS)
    assert bytes(got) == pattern(size, seed=9)
    assert reader.result() == sent
    bare.retire(ours)
    aborted = bare.collect(queue, 4)
    assert [r.context for r in aborted] == [(next_receive + i) % 4 for i in range(4)]


def test_a_connection_that_is_stuck_does_not_hold_up_another(bare):
    stuck, queue, _, _ = bare.connection()
    ours, peer = bare.pair()
    flowing = bare.requests(ours, queue)
    region = bare.region(16 * MIB)
    assert bare.send(stuck, region.buf(), 1) == 0
    bare.wait(0.01)
    for i in range(20):
        assert bare.send(flowing, region.buf(i, 100), 10 + i) == 0
        assert [r.context for r in bare.collect(queue, 1)] == [10 + i]
    assert read_all(peer, 2000) == bytes(2000)
