"""Receives and sends, and their flags.

nc-mswsock-lpfn_rioreceive, -riosend; rules 1, 2, 4, 8.
"""

import socket

import pytest

from tests.rio.bare import NULL, pattern, read_all
from zerio_asyncio.rio._rio import ffi, lib

DEFER, COMMIT_ONLY = lib.RIO_MSG_DEFER, lib.RIO_MSG_COMMIT_ONLY
WAITALL, DONT_NOTIFY = lib.RIO_MSG_WAITALL, lib.RIO_MSG_DONT_NOTIFY


@pytest.mark.parametrize("kind", ["tcp", "tcp6", "unix"])
def test_bytes_go_both_ways(bare, kind):
    requests, queue, _, peer = bare.connection(kind)
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 4096), 1) == 0
    peer.sendall(b"ping")
    assert bare.collect(queue, 1) == [(0, 4, 0, 1)]
    assert region.memory[:4] == b"ping"
    assert bare.send(requests, region.buf(0, 4), 2) == 0
    assert bare.collect(queue, 1) == [(0, 4, 0, 2)]
    assert peer.recv(10) == b"ping"


def test_data_that_is_there_already_is_received(bare):
    requests, queue, _, peer = bare.connection()
    peer.sendall(b"early")
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 4096), 1) == 0
    assert bare.collect(queue, 1) == [(0, 5, 0, 1)]


def test_posted_receives_are_filled_in_their_order(bare):
    requests, queue, _, peer = bare.connection(receives=16)
    region = bare.region()
    for i in range(16):
        assert bare.receive(requests, region.buf(i * 100, 100), i) == 0
    sent = pattern(1600)
    for i in range(0, 1600, 400):
        peer.sendall(sent[i : i + 400])
        bare.wait(0.005)
    got, results = b"", []
    while len(got) < 1600:
        for result in bare.some(queue):
            assert (result.status, result.context) == (0, len(results))
            got += region.memory[result.context * 100 : result.context * 100 + result.bytes]
            results.append(result)
        if len(results) == 16 and len(got) < 1600:  # cut where the writes were: post one more
            assert bare.receive(requests, region.buf(1600, 1600), 16) == 0
    assert got == sent


def test_sends_do_not_wait_for_receives_nor_the_reverse(bare):
    requests, queue, ours, peer = bare.connection()
    for sock, option in ((ours, socket.SO_SNDBUF), (peer, socket.SO_RCVBUF)):
        sock.setsockopt(socket.SOL_SOCKET, option, 65536)  # or the kernel might take it all
    region = bare.region(4 << 20)
    assert bare.receive(requests, region.buf(0, 10), 1) == 0
    assert bare.send(requests, region.buf(10, 3), 2) == 0
    assert bare.collect(queue, 1) == [(0, 3, 0, 2)]
    assert bare.send(requests, region.buf(4096, (4 << 20) - 4096), 3) == 0  # stuck: nobody reads
    peer.sendall(b"go")
    assert bare.collect(queue, 1) == [(0, 2, 0, 1)]


@pytest.mark.parametrize("direction", ["RIOReceive", "RIOSend"])
class TestArguments:
    def call(self, bare, direction, requests, data, count=1, flags=0, context=0):
        entry = getattr(bare.rio, direction)
        return (
            0 if entry(requests, data, count, flags, ffi.cast("void *", context)) else bare.error()
        )

    @pytest.mark.parametrize("count", [0, 2, 3, 0xFFFFFFFF])
    def test_a_stream_request_has_one_buffer(self, bare, direction, count):
        requests, queue, _, _ = bare.connection()
        region = bare.region()
        assert self.call(bare, direction, requests, region.buf(0, 8), count) == lib.RIO_EINVAL
        bare.wait(0.005)
        assert bare.dequeue(queue) == []

    def test_null_data_is_refused_on_a_stream(self, bare, direction):
        requests, _, _, _ = bare.connection()
        refused = {lib.RIO_EINVAL, lib.RIO_EFAULT}
        assert self.call(bare, direction, requests, NULL, 1) in refused
        assert self.call(bare, direction, requests, NULL, 0) in refused

    def test_no_length_is_refused_on_a_stream(self, bare, direction):
        """Its result would be 0 bytes with status 0, and that is the end of a stream (rule 8)."""
        requests, _, _, _ = bare.connection()
        region = bare.region()
        assert self.call(bare, direction, requests, region.buf(0, 0)) == lib.RIO_EINVAL

    @pytest.mark.parametrize("flags", [16, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0])
    def test_unknown_flags_are_invalid(self, bare, direction, flags):
        requests, _, _, _ = bare.connection()
        region = bare.region()
        assert self.call(bare, direction, requests, region.buf(0, 8), 1, flags) == lib.RIO_EINVAL

    def test_commit_stands_alone(self, bare, direction):
        requests, queue, _, _ = bare.connection()
        region = bare.region()
        data = region.buf(0, 8)
        for flags in (DEFER, DONT_NOTIFY, WAITALL, DEFER | DONT_NOTIFY, 16):
            code = self.call(bare, direction, requests, NULL, 0, COMMIT_ONLY | flags)
            assert code == lib.RIO_EINVAL, flags
        assert self.call(bare, direction, requests, data, 1, COMMIT_ONLY) == lib.RIO_EINVAL
        assert self.call(bare, direction, requests, data, 0, COMMIT_ONLY) == lib.RIO_EINVAL
        assert self.call(bare, direction, requests, NULL, 1, COMMIT_ONLY) == lib.RIO_EINVAL
        assert self.call(bare, direction, requests, NULL, 0, COMMIT_ONLY, 5) == lib.RIO_EINVAL
        assert self.call(bare, direction, requests, NULL, 0, COMMIT_ONLY) == 0  # nothing to do
        bare.wait(0.005)
        assert bare.dequeue(queue) == []

    def test_a_refused_request_changes_nothing(self, bare, direction):
        """More refusals than there are slots, then every slot is still free (rule 1)."""
        requests, queue, _, peer = bare.connection(receives=2, sends=2)
        region = bare.region()
        for _ in range(10):
            self.call(bare, direction, requests, region.buf(0, 8), 2)
            self.call(bare, direction, requests, region.buf(65536, 8))
            self.call(bare, direction, requests, region.buf(0, 8), 1, 64)
        assert self.call(bare, direction, requests, region.buf(0, 1), context=1) == 0
        assert self.call(bare, direction, requests, region.buf(1, 1), context=2) == 0
        if direction == "RIOReceive":
            peer.sendall(b"ab")
        assert [r.context for r in bare.collect(queue, 2)] == [1, 2]


def test_deferred_sends_go_out_with_the_commit_in_order(bare):
    requests, queue, _, peer = bare.connection(sends=20)
    region = bare.region()
    region.memory[:200] = pattern(200)
    for i in range(20):
        assert bare.send(requests, region.buf(i * 10, 10), i, DEFER) == 0
    assert bare.commit(bare.rio.RIOSend, requests) == 0
    assert [(r.status, r.bytes, r.context) for r in bare.collect(queue, 20)] == [
        (0, 10, i) for i in range(20)
    ]
    assert read_all(peer, 200) == pattern(200)


def test_deferred_sends_go_out_with_the_next_undeferred_one(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    region.memory[:6] = b"abcdef"
    for i in range(2):
        assert bare.send(requests, region.buf(i * 2, 2), i, DEFER) == 0
    assert bare.send(requests, region.buf(4, 2), 2) == 0
    assert [r.context for r in bare.collect(queue, 3)] == [0, 1, 2]
    assert read_all(peer, 6) == b"abcdef"


def test_deferred_requests_take_their_slots_at_once(bare):
    requests, _, _, _ = bare.connection(receives=2, sends=2)
    region = bare.region()
    for call in (bare.receive, bare.send):
        for i in range(2):
            assert call(requests, region.buf(i, 1), i, DEFER) == 0
        assert call(requests, region.buf(2, 1), 2, DEFER) == lib.RIO_ENOBUFS
        assert call(requests, region.buf(2, 1), 2) == lib.RIO_ENOBUFS


def test_deferred_receives_start_with_the_commit(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    for i in range(3):
        assert bare.receive(requests, region.buf(i * 2, 2), i, DEFER) == 0
    peer.sendall(b"aabbcc")
    assert bare.commit(bare.rio.RIOReceive, requests) == 0
    assert [(r.context, r.bytes) for r in bare.collect(queue, 3)] == [(0, 2), (1, 2), (2, 2)]
    assert region.memory[:6] == b"aabbcc"


def test_commits_of_one_direction_leave_the_other_usable(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8), 1, DEFER) == 0
    assert bare.send(requests, region.buf(8, 8), 2, DEFER) == 0
    assert bare.commit(bare.rio.RIOSend, requests) == 0
    assert bare.collect(queue, 1) == [(0, 8, 0, 2)]
    assert bare.commit(bare.rio.RIOReceive, requests) == 0
    peer.sendall(b"x")
    assert bare.collect(queue, 1) == [(0, 1, 0, 1)]


def test_waitall_completes_when_the_slice_is_full(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    sent = pattern(1000)
    assert bare.receive(requests, region.buf(0, 1000), 1, WAITALL) == 0
    for i in range(0, 1000, 100):
        assert bare.dequeue(queue) == []
        peer.sendall(sent[i : i + 100])
        bare.wait(0.002)
    assert bare.collect(queue, 1) == [(0, 1000, 0, 1)]
    assert region.memory[:1000] == sent


def test_waitall_takes_no_more_than_its_slice(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 10), 1, WAITALL) == 0
    assert bare.receive(requests, region.buf(10, 10), 2) == 0
    peer.sendall(b"0123456789rest")
    results = bare.collect(queue, 2)
    assert [(r.context, r.bytes) for r in results] == [(1, 10), (2, 4)]


def test_waitall_ends_with_the_stream(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 1000), 1, WAITALL) == 0
    peer.sendall(b"part")
    bare.wait(0.01)
    peer.close()
    assert bare.collect(queue, 1) == [(0, 4, 0, 1)]
    assert bare.receive(requests, region.buf(0, 1000), 2, WAITALL) == 0
    assert bare.collect(queue, 1) == [(0, 0, 0, 2)]


def test_waitall_is_no_flag_of_sends(bare):
    requests, _, _, _ = bare.connection()
    region = bare.region()
    assert bare.send(requests, region.buf(0, 8), 1, WAITALL) == lib.RIO_EINVAL
