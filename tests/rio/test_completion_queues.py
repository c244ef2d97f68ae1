"""Completion queues: sizes, capacity, dequeue, resize, close.

nc-mswsock-lpfn_riocreatecompletionqueue, -riodequeuecompletion, -rioresizecompletionqueue,
-rioclosecompletionqueue; rules 5 and 6.
"""

import pytest

from tests.rio.bare import NULL, pattern
from zerio_asyncio.rio._rio import ffi, lib


@pytest.mark.parametrize("size", [0, lib.RIO_MAX_CQ_SIZE + 1, 0xFFFFFFFF])
def test_size_out_of_range_is_invalid(bare, size):
    assert not bare.rio.RIOCreateCompletionQueue(size, NULL)
    assert bare.error() == lib.RIO_EINVAL
    assert not bare.rio.RIOCreateCompletionQueue(size, bare.notification())
    assert bare.error() == lib.RIO_EINVAL


@pytest.mark.parametrize("size", [1, 2, 3, 1000, lib.RIO_MAX_CQ_SIZE])
def test_any_size_in_range_is_accepted_and_costs_what_it_uses(bare, size):
    bare.queue(size)
    bare.queue(size, polled=True)


def test_notification_without_overlapped_is_invalid(bare):
    notification = bare.notification()
    notification.u.Iocp.Overlapped = NULL
    assert not bare.rio.RIOCreateCompletionQueue(8, notification)
    assert bare.error() == lib.RIO_EINVAL


def test_notification_without_port_is_invalid(bare):
    notification = bare.notification()
    notification.u.Iocp.IocpHandle = NULL
    assert not bare.rio.RIOCreateCompletionQueue(8, notification)
    assert bare.error() == lib.RIO_EINVAL


@pytest.mark.parametrize("kind", [0, lib.RIO_EVENT_COMPLETION, 3, -1])
def test_other_kinds_of_notification_are_refused(bare, kind):
    notification = bare.notification()
    notification.Type = kind
    assert not bare.rio.RIOCreateCompletionQueue(8, notification)
    assert bare.error() in {lib.RIO_EINVAL, lib.RIO_EOPNOTSUPP}


def test_request_queues_may_reserve_all_and_no_more(bare):
    queue = bare.queue(4)
    (one, _), (two, _) = bare.pair(), bare.pair()
    bare.requests(one, queue, receives=2, sends=2)
    assert not bare.rio.RIOCreateRequestQueue(two.fileno(), 1, 1, 0, 1, queue, queue, NULL)
    assert bare.error() == lib.RIO_ENOBUFS
    bare.retire(one)  # nothing outstanding, so all four return at once
    bare.requests(two, queue, receives=1, sends=3)


def test_each_direction_reserves_in_its_own_queue(bare):
    receives, sends = bare.queue(2), bare.queue(3)
    (one, _), (two, _) = bare.pair(), bare.pair()
    bare.requests(one, receives, sends_to=sends, receives=2, sends=2)
    refused = bare.rio.RIOCreateRequestQueue(two.fileno(), 0, 1, 2, 1, receives, sends, NULL)
    assert not refused
    assert bare.error() == lib.RIO_ENOBUFS
    bare.requests(two, receives, sends_to=sends, receives=0, sends=1)


def test_a_refused_request_queue_reserves_nothing(bare):
    receives, sends = bare.queue(8), bare.queue(1)
    one, _ = bare.pair()
    for _ in range(5):
        assert not bare.rio.RIOCreateRequestQueue(one.fileno(), 8, 1, 2, 1, receives, sends, NULL)
        assert bare.error() == lib.RIO_ENOBUFS
    bare.requests(one, receives, sends_to=sends, receives=8, sends=1)


def test_reservation_of_a_retired_socket_returns_as_results_are_dequeued(bare):
    queue = bare.queue(4)
    (one, _), (two, _) = bare.pair(), bare.pair()
    region = bare.region()
    requests = bare.requests(one, queue, receives=4, sends=0)
    for i in range(4):
        assert bare.receive(requests, region.buf(i * 8, 8), i) == 0
    bare.retire(one)
    assert not bare.rio.RIOCreateRequestQueue(two.fileno(), 4, 1, 0, 1, queue, queue, NULL)
    assert bare.error() == lib.RIO_ENOBUFS
    results = bare.collect(queue, 4)
    assert [r.context for r in results] == [0, 1, 2, 3]
    bare.requests(two, queue, receives=4, sends=0)


def test_dequeue_returns_at_most_what_was_asked(bare):
    requests, queue, _, peer = bare.connection(sends=20)
    region = bare.region()
    for i in range(20):
        assert bare.send(requests, region.buf(i, 1), 100 + i) == 0
    first = bare.collect(queue, 20, seconds=10)  # all there
    assert [r.context for r in first] == list(range(100, 120))
    for i in range(20):
        assert bare.send(requests, region.buf(i, 1), i) == 0
    peer.recv(1)
    got = []
    while len(got) < 20:
        bare.wait(0.01)
        piece = bare.dequeue(queue, 3)
        assert len(piece) <= 3
        got += piece
    assert [r.context for r in got] == list(range(20))
    assert bare.dequeue(queue) == []


def test_dequeue_of_none_takes_none(bare):
    requests, queue, _, _ = bare.connection()
    region = bare.region()
    assert bare.send(requests, region.buf(0, 1), 5) == 0
    assert bare.dequeue(queue, 0) == []
    assert [r.context for r in bare.collect(queue, 1)] == [5]


def test_dequeue_makes_no_system_call_on_a_queue_that_notifies(bare):
    requests, queue, _, _ = bare.connection()
    region = bare.region()
    assert bare.send(requests, region.buf(0, 100), 1) == 0
    assert bare.receive(requests, region.buf(200, 100), 2) == 0
    bare.wait(0.01)
    before = bare.statistics().system_calls
    for _ in range(100):
        bare.dequeue(queue)
    assert bare.statistics().system_calls == before


def test_a_polled_queue_makes_progress_by_dequeue_alone(bare):
    ours, peer = bare.pair()
    queue = bare.queue(polled=True)
    requests = bare.requests(ours, queue)
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 100), 1) == 0
    region.memory[1000:1005] = b"hello"
    assert bare.send(requests, region.buf(1000, 5), 2) == 0
    assert bare.collect(queue, 1) == [(0, 5, 0, 2)]
    assert peer.recv(100) == b"hello"
    assert bare.dequeue(queue) == []
    peer.sendall(b"and back")
    assert bare.collect(queue, 1) == [(0, 8, 0, 1)]
    assert region.memory[:8] == b"and back"


def test_a_polled_queue_moves_much(bare):
    ours, peer = bare.pair()
    receives, sends = bare.queue(polled=True), bare.queue(polled=True)
    requests = bare.requests(ours, receives, sends_to=sends)
    region = bare.region(1 << 20)
    region.memory[:] = pattern(1 << 20)
    assert bare.send(requests, region.buf(), 3) == 0
    got = bytearray()
    results = []
    peer.settimeout(0.05)
    while len(got) < 1 << 20:
        results += bare.dequeue(sends)
        assert bare.dequeue(receives) == []
        got += peer.recv(65536)
    results += [] if results else bare.collect(sends, 1)
    assert results == [(0, 1 << 20, 0, 3)]
    assert bytes(got) == pattern(1 << 20)


def test_resize_keeps_the_results_inside(bare):
    requests, queue, _, _ = bare.connection(receives=0, sends=8)
    region = bare.region()
    for i in range(8):
        assert bare.send(requests, region.buf(i, 1), i) == 0
    bare.wait(0.01)
    for size in (1000, 8, 200, 16):
        assert bare.rio.RIOResizeCompletionQueue(queue, size)
    taken = bare.dequeue(queue, 3)
    assert bare.rio.RIOResizeCompletionQueue(queue, 5000)
    assert [r.context for r in taken + bare.collect(queue, 8 - len(taken))] == list(range(8))


def test_resize_below_what_is_reserved_is_too_many_references(bare):
    _, queue, _, _ = bare.connection(receives=4, sends=4)
    assert not bare.rio.RIOResizeCompletionQueue(queue, 7)
    assert bare.error() == lib.RIO_ETOOMANYREFS
    assert bare.rio.RIOResizeCompletionQueue(queue, 8)


@pytest.mark.parametrize("size", [0, lib.RIO_MAX_CQ_SIZE + 1])
def test_resize_out_of_range_is_invalid(bare, size):
    queue = bare.queue(8)
    assert not bare.rio.RIOResizeCompletionQueue(queue, size)
    assert bare.error() == lib.RIO_EINVAL


def test_resize_makes_room_for_another_request_queue(bare):
    queue = bare.queue(2)
    (one, _), (two, _) = bare.pair(), bare.pair()
    bare.requests(one, queue, receives=1, sends=1)
    assert not bare.rio.RIOCreateRequestQueue(two.fileno(), 1, 1, 1, 1, queue, queue, NULL)
    assert bare.rio.RIOResizeCompletionQueue(queue, 4)
    bare.requests(two, queue, receives=1, sends=1)


def test_a_closed_queue_is_invalid_and_closing_again_is_ignored(bare):
    queue = bare.queue(8)
    bare.rio.RIOCloseCompletionQueue(queue)
    assert bare.rio.RIONotify(queue) == lib.RIO_EINVAL
    assert not bare.rio.RIOResizeCompletionQueue(queue, 16)
    assert bare.error() == lib.RIO_EINVAL
    one, _ = bare.pair()
    assert not bare.rio.RIOCreateRequestQueue(one.fileno(), 1, 1, 1, 1, queue, queue, NULL)
    assert bare.error() == lib.RIO_EINVAL
    results = ffi.new("RIORESULT[4]")
    assert bare.rio.RIODequeueCompletion(queue, results, 4) in {0, lib.RIO_CORRUPT_CQ}
    bare.rio.RIOCloseCompletionQueue(queue)
    bare.rio.RIOCloseCompletionQueue(NULL)


def test_closing_a_queue_loses_its_results_and_no_more(bare):
    """Requests in flight end without a trace; the socket and another queue go on."""
    ours, peer = bare.pair()
    receives, sends = bare.queue(), bare.queue()
    requests = bare.requests(ours, receives, sends_to=sends)
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 100), 1) == 0
    bare.rio.RIOCloseCompletionQueue(receives)
    peer.sendall(b"lost")
    bare.wait(0.01)
    region.memory[500:503] = b"abc"
    assert bare.send(requests, region.buf(500, 3), 2) == 0
    assert bare.collect(sends, 1) == [(0, 3, 0, 2)]
    assert peer.recv(10) == b"abc"
    assert bare.receive(requests, region.buf(0, 100), 3) != 0  # its queue is gone


def test_closing_an_armed_queue_cancels_its_notification(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 10)) == 0
    assert bare.rio.RIONotify(queue) == 0
    bare.rio.RIOCloseCompletionQueue(queue)
    peer.sendall(b"x")
    bare.quiet()
