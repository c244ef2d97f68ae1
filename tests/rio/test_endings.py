"""How connections and their requests end: end of stream, reset, shutdown, retirement.

Status values: ns-mswsockdef-rioresult and the Winsock error list; rules 1, 2, 3, 8.
"""

import contextlib
import signal
import socket
import time

import pytest

from tests.rio.bare import Bare, reset
from tests.rio.isolated import isolated
from tests.rio.marks import with_posix_signals
from zerio_asyncio.rio import by_name
from zerio_asyncio.rio._rio import lib

MIB = 1 << 20
GONE = {lib.RIO_ECONNRESET, lib.RIO_ECONNABORTED}


@pytest.mark.parametrize("kind", ["tcp", "tcp6", "unix"])
def test_the_end_of_a_stream_is_no_bytes_and_no_error(bare, kind):
    requests, queue, _, peer = bare.connection(kind)
    region = bare.region()
    for i in range(3):
        assert bare.receive(requests, region.buf(i * 100, 100), i) == 0
    peer.sendall(b"last")
    peer.shutdown(socket.SHUT_WR)
    results = bare.collect(queue, 3)
    assert results == [(0, 4, 0, 0), (0, 0, 0, 1), (0, 0, 0, 2)]
    assert bare.receive(requests, region.buf(0, 100), 9) == 0  # and so it stays
    assert bare.collect(queue, 1) == [(0, 0, 0, 9)]


def test_after_the_end_of_one_direction_the_other_goes_on(bare):
    requests, queue, ours, peer = bare.connection()
    region = bare.region()
    peer.shutdown(socket.SHUT_WR)
    assert bare.receive(requests, region.buf(0, 100), 1) == 0
    assert bare.collect(queue, 1) == [(0, 0, 0, 1)]
    region.memory[:5] = b"still"
    assert bare.send(requests, region.buf(0, 5), 2) == 0
    assert bare.collect(queue, 1) == [(0, 5, 0, 2)]
    assert peer.recv(10) == b"still"
    ours.shutdown(socket.SHUT_WR)
    assert peer.recv(10) == b""


def test_a_reset_ends_every_receive_with_an_error(bare):
    """Never as an end of stream, though Linux tells of the reset only once."""
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    for i in range(3):
        assert bare.receive(requests, region.buf(i * 8, 8), i) == 0
    bare.wait(0.005)
    reset(peer)
    results = bare.collect(queue, 3)
    assert results[0].status == lib.RIO_ECONNRESET
    assert {r.status for r in results} <= GONE
    assert [(r.context, r.bytes) for r in results] == [(0, 0), (1, 0), (2, 0)]
    for call in (bare.receive, bare.send):
        code = call(requests, region.buf(0, 8), 4)
        assert code in GONE or bare.collect(queue, 1)[0].status in GONE


def test_a_reset_ends_every_send_in_flight_with_an_error(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region(16 * MIB)
    for i in range(4):
        assert bare.send(requests, region.buf(i * 4 * MIB, 4 * MIB), i) == 0
    bare.wait(0.01)
    reset(peer)
    results = bare.collect(queue, 4)
    assert [r.context for r in results] == [0, 1, 2, 3]
    assert results[-1].status in GONE
    for result in results:
        assert result.status in GONE or (result.status, result.bytes) == (0, 4 * MIB)


def test_a_reset_ends_both_directions(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region(16 * MIB)
    assert bare.receive(requests, region.buf(0, 8), 1) == 0
    assert bare.send(requests, region.buf(4096, 15 * MIB), 2) == 0
    bare.wait(0.01)
    reset(peer)
    results = bare.collect(queue, 2)
    assert {r.context for r in results} == {1, 2}
    assert {r.status for r in results} <= GONE


def test_data_before_a_reset_may_be_lost_but_not_altered(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    peer.sendall(b"words")
    reset(peer)
    assert bare.receive(requests, region.buf(0, 100), 1) == 0
    (result,) = bare.collect(queue, 1)
    assert result.status in GONE or region.memory[: result.bytes] == b"words"


def test_sends_after_our_own_shutdown_fail(bare):
    requests, queue, ours, _ = bare.connection()
    ours.shutdown(socket.SHUT_WR)
    region = bare.region()
    code = bare.send(requests, region.buf(0, 8), 1)
    status = code or bare.collect(queue, 1)[0].status
    assert status in GONE | {lib.RIO_ESHUTDOWN}


@with_posix_signals
@pytest.mark.parametrize("gathered", [False, True])
def test_writing_to_a_vanished_peer_raises_no_signal(provider, gathered):
    """A broken pipe is a status. Python ignores SIGPIPE, programs that embed it may not."""
    isolated(write_without_reader, provider.name, gathered)


def write_without_reader(name, gathered):
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    bare = Bare(by_name(name))
    requests, queue, _, peer = bare.connection("unix", sends=16)
    region = bare.region()
    peer.close()
    for i in range(10):
        flags = lib.RIO_MSG_DEFER if gathered and i % 5 < 4 else 0
        code = bare.send(requests, region.buf(0, 100), i, flags)
        assert code in GONE | {0, lib.RIO_ESHUTDOWN}
        if not flags:
            bare.wait(0)
    for result in bare.dequeue(queue):
        assert result.status in GONE | {lib.RIO_ESHUTDOWN}
    bare.close()


class TestRetire:
    def test_outstanding_requests_are_aborted_in_order(self, bare):
        requests, queue, ours, _ = bare.connection()
        region = bare.region(16 * MIB)
        for i in range(4):
            assert bare.receive(requests, region.buf(i * 8, 8), i) == 0
            assert bare.send(requests, region.buf(MIB * (1 + 3 * i), 3 * MIB), 100 + i) == 0
        bare.wait(0.01)
        bare.retire(ours)
        results = bare.collect(queue, 8)
        receives = [r for r in results if r.context < 100]
        sends = [r for r in results if r.context >= 100]
        assert receives == [(lib.RIO_OPERATION_ABORTED, 0, 0, i) for i in range(4)]
        assert [r.context for r in sends] == [100, 101, 102, 103]
        assert sends[-1].status == lib.RIO_OPERATION_ABORTED
        for result in sends:
            whole = (result.status, result.bytes) == (0, 3 * MIB)
            assert whole or result.status == lib.RIO_OPERATION_ABORTED

    def test_deferred_requests_are_aborted_too(self, bare):
        requests, queue, ours, _ = bare.connection()
        region = bare.region()
        for i in range(3):
            assert bare.receive(requests, region.buf(i, 1), i, lib.RIO_MSG_DEFER) == 0
            assert bare.send(requests, region.buf(i, 1), 10 + i, lib.RIO_MSG_DEFER) == 0
        bare.retire(ours)
        results = bare.collect(queue, 6)
        assert [r.context for r in results if r.context < 10] == [0, 1, 2]
        assert {r.status for r in results if r.context < 10} == {lib.RIO_OPERATION_ABORTED}

    def test_results_that_were_there_before_stay_what_they_were(self, bare):
        requests, queue, ours, peer = bare.connection()
        region = bare.region()
        assert bare.receive(requests, region.buf(0, 4), 1) == 0
        assert bare.receive(requests, region.buf(4, 4), 2) == 0
        peer.sendall(b"done")
        bare.rio.RIONotify(queue)
        bare.until(lib.RIO_PORT_NOTIFY)
        bare.retire(ours)
        results = bare.collect(queue, 2)
        assert results == [(0, 4, 0, 1), (lib.RIO_OPERATION_ABORTED, 0, 0, 2)]

    def test_the_abortion_notifies(self, bare):
        requests, queue, ours, _ = bare.connection()
        region = bare.region()
        assert bare.receive(requests, region.buf(0, 4), 1) == 0
        assert bare.rio.RIONotify(queue) == 0
        bare.wait(0)
        bare.retire(ours)
        bare.until(lib.RIO_PORT_NOTIFY)
        assert len(bare.collect(queue, 1)) == 1

    def test_further_requests_are_refused(self, bare):
        requests, queue, ours, _ = bare.connection()
        region = bare.region()
        assert bare.receive(requests, region.buf(0, 4), 1) == 0
        bare.retire(ours)
        refused = {lib.RIO_EINVAL, lib.RIO_OPERATION_ABORTED}
        for _ in range(2):
            assert bare.receive(requests, region.buf(0, 4)) in refused
            assert bare.send(requests, region.buf(0, 4)) in refused
            assert bare.commit(bare.rio.RIOSend, requests) in refused
            assert not bare.rio.RIOResizeRequestQueue(requests, 4, 4)
            assert bare.error() in refused
            bare.dequeue(queue)
            bare.wait(0.01)

    def test_the_descriptor_is_free_at_once(self, bare):
        """The peer sees the end as soon as the caller closes, though nobody waits or dequeues."""
        requests, _, ours, peer = bare.connection()
        region = bare.region()
        assert bare.receive(requests, region.buf(0, 4), 1) == 0
        bare.wait(0.005)
        bare.retire(ours)
        ours.close()
        peer.settimeout(5)
        assert peer.recv(10) == b""

    def test_a_late_byte_does_not_land_in_the_slice(self, bare):
        requests, queue, ours, peer = bare.connection()
        region = bare.region(4096)
        region.memory[:] = b"\xee" * 4096
        assert bare.receive(requests, region.buf(0, 100), 1) == 0
        bare.wait(0.005)
        bare.retire(ours)
        (result,) = bare.collect(queue, 1)
        ours.close()
        with contextlib.suppress(OSError):
            peer.sendall(b"late")
            peer.sendall(b"later")
        bare.quiet(0.02)
        assert result.status == lib.RIO_OPERATION_ABORTED
        assert region.memory[:] == b"\xee" * 4096

    def test_unknown_descriptors_are_nobody_s(self, bare):
        ours, _ = bare.pair()
        assert bare.table.retire(bare.port, ours.fileno()) == 0
        assert bare.table.retire(bare.port, 987_654) == 0
        assert bare.table.retire(bare.port, lib.RIO_INVALID_SOCKET) == 0

    def test_a_reused_number_is_another_socket(self, bare):
        """Old requests never touch the new connection that got their descriptor's number."""
        region = bare.region()
        queue = bare.queue(4096)
        for turn in range(30):
            ours, peer = bare.pair()
            requests = bare.requests(ours, queue, context=turn)
            assert bare.receive(requests, region.buf(turn * 64, 64), turn) == 0
            assert bare.receive(requests, region.buf(turn * 64 + 32, 32), turn) == 0
            if turn % 2:
                bare.wait(0)
            if turn % 3 == 0:
                peer.sendall(b"%02d" % turn)
            bare.retire(ours)
            ours.close()
            peer.close()
        results = bare.collect(queue, 60)
        assert sorted(r.context for r in results) == sorted([*range(30), *range(30)])
        for result in results:
            assert result.context == result.socket_context
            if result.status == 0:
                at = result.context * 64
                assert region.memory[at : at + 2] == b"%02d" % result.context

    def test_thousands_of_short_lives(self, bare):
        region = bare.region()
        queue = bare.queue(64)
        for i in range(1500):
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            requests = bare.requests(ours, queue)
            assert bare.receive(requests, region.buf(0, 16), i) == 0
            if i % 7 == 0:
                bare.wait(0)
            bare.retire(ours)
            ours.close()
            peer.close()
            results = bare.collect(queue, 1)
            assert results[0].context == i
        assert bare.statistics().in_kernel < 64


def test_closing_the_port_ends_what_is_in_flight(bare):
    """The peer sees it, and nothing is written to memory any more."""
    requests, _, ours, peer = bare.connection()
    region = bare.region()
    region.memory[:100] = b"\xee" * 100
    assert bare.receive(requests, region.buf(0, 100), 1) == 0
    assert bare.send(requests, region.buf(1000, 20000), 2) == 0
    bare.wait(0.005)
    bare.close_port()
    with contextlib.suppress(ConnectionError):
        peer.sendall(b"late")
    time.sleep(0.02)
    assert region.memory[:100] == b"\xee" * 100
    ours.close()
    with contextlib.suppress(ConnectionResetError):
        while peer.recv(65536):
            pass


def test_queues_outlive_their_port_as_refusals(bare):
    requests, queue, ours, _ = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 100), 1) == 0
    bare.close_port()
    assert bare.receive(requests, region.buf(0, 100), 2) != 0
    assert bare.send(requests, region.buf(0, 100), 2) != 0
    assert bare.rio.RIONotify(queue) != 0
    bare.rio.RIOCloseCompletionQueue(queue)
    ours.close()
