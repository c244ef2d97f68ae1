"""RIONotify: one shot, at once if there is something, blind to quiet results.

nc-mswsock-lpfn_rionotify; rule 7, and the quiet results of RIO_MSG_DONT_NOTIFY.
"""

import pytest

from tests.rio.bare import NULL
from zerio_asyncio.rio._rio import ffi, lib

QUIET = lib.RIO_MSG_DONT_NOTIFY


def test_a_notification_brings_key_and_overlapped(bare):
    notification = bare.notification(key=0xDEAD_BEEF_0BAD_CAFE)
    queue = bare.rio.RIOCreateCompletionQueue(8, notification)
    ours, _ = bare.pair()
    requests = bare.requests(ours, queue, receives=4, sends=4)
    region = bare.region()
    assert bare.rio.RIONotify(queue) == 0
    assert bare.send(requests, region.buf(0, 8)) == 0
    address = int(ffi.cast("uintptr_t", notification.u.Iocp.Overlapped))
    event = bare.until(lib.RIO_PORT_NOTIFY)
    assert event == (lib.RIO_PORT_NOTIFY, 0, 0xDEAD_BEEF_0BAD_CAFE, address)
    bare.rio.RIOCloseCompletionQueue(queue)


def test_one_call_one_event(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.rio.RIONotify(queue) == 0
    for i in range(4):
        assert bare.receive(requests, region.buf(i, 1), i) == 0
    peer.sendall(b"ab")
    bare.until(lib.RIO_PORT_NOTIFY)
    peer.sendall(b"cd")
    bare.quiet()
    assert len(bare.dequeue(queue)) == 4


def test_armed_means_already(bare):
    requests, queue, _, _ = bare.connection()
    assert bare.rio.RIONotify(queue) == 0
    for _ in range(3):
        assert bare.rio.RIONotify(queue) == lib.RIO_EALREADY
    region = bare.region()
    assert bare.send(requests, region.buf(0, 1)) == 0
    bare.until(lib.RIO_PORT_NOTIFY)
    bare.dequeue(queue)
    assert bare.rio.RIONotify(queue) == 0


def test_a_queue_that_is_not_empty_fires_at_once(bare):
    requests, queue, _, _ = bare.connection()
    region = bare.region()
    assert bare.send(requests, region.buf(0, 1)) == 0
    bare.wait(0.01)
    for _ in range(3):  # every time, as long as it is not drained
        assert bare.rio.RIONotify(queue) == 0
        bare.until(lib.RIO_PORT_NOTIFY)
    assert len(bare.dequeue(queue)) == 1
    assert bare.rio.RIONotify(queue) == 0
    bare.quiet()


def test_dequeue_between_notify_and_wait_leaves_a_wake_up_that_harms_nobody(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.send(requests, region.buf(0, 1), 1) == 0
    bare.wait(0.01)
    assert bare.rio.RIONotify(queue) == 0
    assert len(bare.dequeue(queue)) == 1
    bare.wait(0.01)  # an empty wake-up, or none: both are legal
    assert bare.rio.RIONotify(queue) in {0, lib.RIO_EALREADY}
    assert bare.receive(requests, region.buf(0, 8), 2) == 0
    peer.sendall(b"x")
    bare.until(lib.RIO_PORT_NOTIFY)
    assert [r.context for r in bare.dequeue(queue)] == [2]


def test_nothing_is_lost_between_drain_and_arming(bare):
    """The pattern of a loop, a thousand times: drain, arm, wait."""
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    peer.setblocking(False)
    for i in range(1000):
        assert bare.receive(requests, region.buf(0, 1), i) == 0
        peer.send(b"x")
        bare.rio.RIONotify(queue)
        while not (results := bare.dequeue(queue)):
            # More than one when the turn before fired, and was drained without a wait.
            assert {event[0] for event in bare.wait(1)} == {lib.RIO_PORT_NOTIFY}
            bare.rio.RIONotify(queue)
        assert [r.context for r in results] == [i]


def test_queues_notify_each_for_itself(bare):
    region = bare.region()
    queues = [bare.queue(key=100 + i) for i in range(3)]
    pairs = [bare.pair() for _ in range(3)]
    requests = [bare.requests(pair[0], queue) for pair, queue in zip(pairs, queues, strict=True)]
    for i in range(3):
        assert bare.receive(requests[i], region.buf(i, 1)) == 0
        assert bare.rio.RIONotify(queues[i]) == 0
    pairs[1][1].sendall(b"x")
    assert bare.until(lib.RIO_PORT_NOTIFY)[2] == 101
    pairs[0][1].sendall(b"x")
    pairs[2][1].sendall(b"x")
    keys = set()
    while len(keys) < 2:
        keys |= {event[2] for event in bare.wait(1)}
    assert keys == {100, 102}


def test_quiet_results_fire_nothing_and_are_dequeued(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8), 1, QUIET) == 0
    assert bare.rio.RIONotify(queue) == 0
    peer.sendall(b"x")
    bare.quiet()
    assert [r.context for r in bare.dequeue(queue)] == [1]
    assert bare.rio.RIONotify(queue) == lib.RIO_EALREADY  # it never fired


def test_a_queue_of_quiet_results_counts_as_empty(bare):
    requests, queue, _, _ = bare.connection()
    region = bare.region()
    assert bare.send(requests, region.buf(0, 1), 1, QUIET) == 0
    bare.wait(0.01)
    assert bare.rio.RIONotify(queue) == 0
    bare.quiet()
    assert bare.send(requests, region.buf(0, 1), 2) == 0
    bare.until(lib.RIO_PORT_NOTIFY)
    assert [r.context for r in bare.dequeue(queue)] == [1, 2]


def test_quiet_results_do_not_hide_a_loud_one(bare):
    requests, queue, _, _ = bare.connection(sends=8)
    region = bare.region()
    for i in range(8):
        assert bare.send(requests, region.buf(i, 1), i, QUIET if i != 3 else 0) == 0
    bare.wait(0.01)
    assert bare.rio.RIONotify(queue) == 0
    bare.until(lib.RIO_PORT_NOTIFY)
    assert [r.context for r in bare.dequeue(queue, 4)] == [0, 1, 2, 3]
    assert bare.rio.RIONotify(queue) == 0  # what is left is quiet
    bare.quiet()
    assert len(bare.dequeue(queue)) == 4


def test_a_polled_queue_cannot_notify(bare):
    queue = bare.queue(polled=True)
    assert bare.rio.RIONotify(queue) == lib.RIO_EINVAL


@pytest.mark.parametrize("handle", [NULL, 1, 2**64 - 1])
def test_notify_of_what_is_no_queue(bare, handle):
    assert bare.rio.RIONotify(ffi.cast("RIO_CQ", handle)) == lib.RIO_EINVAL
