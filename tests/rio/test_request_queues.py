"""Request queues: making, limits, resizing, what a refusal leaves behind.

nc-mswsock-lpfn_riocreaterequestqueue, -rioresizerequestqueue; rules 1 and 5.
"""

import socket
import tempfile

import pytest

from tests.rio.bare import NULL
from zerio_asyncio.rio._rio import ffi, lib


def create(bare, sock, queue, *, counts=(1, 1), limits=(4, 4), sends_to=None):
    number = sock if isinstance(sock, int) else sock.fileno()
    made = bare.rio.RIOCreateRequestQueue(
        number, limits[0], counts[0], limits[1], counts[1], queue, sends_to or queue, NULL
    )
    return 0 if made else bare.error()


@pytest.mark.parametrize("counts", [(0, 1), (1, 0), (2, 1), (1, 2), (0, 0), (0xFFFFFFFF, 1)])
def test_a_request_has_one_buffer(bare, counts):
    ours, _ = bare.pair()
    assert create(bare, ours, bare.queue(), counts=counts) == lib.RIO_EINVAL


def test_one_direction_may_be_absent_but_not_both(bare):
    queue = bare.queue()
    (one, _), (two, _), (three, _) = bare.pair(), bare.pair(), bare.pair()
    assert create(bare, one, queue, limits=(0, 0)) == lib.RIO_EINVAL
    assert create(bare, two, queue, limits=(0, 1)) == 0
    assert create(bare, three, queue, limits=(1, 0)) == 0


def test_requests_of_an_absent_direction_find_no_room(bare):
    (one, _), (two, _) = bare.pair(), bare.pair()
    region = bare.region()
    only_sends = bare.requests(one, bare.queue(), receives=0, sends=1)
    only_receives = bare.requests(two, bare.queue(), receives=1, sends=0)
    assert bare.receive(only_sends, region.buf(0, 8)) == lib.RIO_ENOBUFS
    assert bare.send(only_receives, region.buf(0, 8)) == lib.RIO_ENOBUFS


@pytest.mark.parametrize("limits", [(0xFFFFFFFF, 1), (1, 0xFFFFFFFF), (0x80000000, 0x80000000)])
def test_limits_that_no_queue_holds_are_refused(bare, limits):
    ours, _ = bare.pair()
    code = create(bare, ours, bare.queue(16), limits=limits)
    assert code in {lib.RIO_ENOBUFS, lib.RIO_EINVAL}
    assert create(bare, ours, bare.queue(16)) == 0


def test_what_is_no_socket(bare):
    queue = bare.queue()
    with tempfile.TemporaryFile() as plain:
        assert create(bare, plain, queue) == lib.RIO_ENOTSOCK
    assert create(bare, plain_number := 987_654, queue) == lib.RIO_ENOTSOCK, plain_number
    number = ffi.cast("uintptr_t", -1)
    assert not bare.rio.RIOCreateRequestQueue(int(number), 1, 1, 1, 1, queue, queue, NULL)
    assert bare.error() == lib.RIO_ENOTSOCK


def test_raw_sockets_are_not_supported(bare):
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError:
        pytest.skip("raw sockets are forbidden here")
    with raw:
        assert create(bare, raw, bare.queue()) == lib.RIO_EOPNOTSUPP


def test_a_socket_has_one_request_queue(bare):
    requests, queue, ours, peer = bare.connection()
    assert create(bare, ours, queue) == lib.RIO_EINVAL
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 10), 9) == 0  # the first one is unharmed
    peer.sendall(b"x")
    assert bare.collect(queue, 1) == [(0, 1, 0, 9)]


def test_a_retired_socket_may_get_another_request_queue(bare):
    first, queue, ours, peer = bare.connection()
    assert bare.table.retire(bare.port, ours.fileno()) == 0
    if bare.provider.c.capabilities & lib.RIO_CAP_CLOSE_ENDS:  # it has one for its life
        again = bare.rio.RIOCreateRequestQueue(ours.fileno(), 1, 1, 1, 1, queue, queue, NULL)
        assert again == lib.RIO_INVALID_RQ
        assert bare.error() == lib.RIO_EINVAL
        return
    second = bare.requests(ours, queue, context=77)
    region = bare.region()
    assert bare.receive(first, region.buf(0, 10)) != 0
    assert bare.receive(second, region.buf(0, 10), 5) == 0
    peer.sendall(b"xyz")
    assert bare.collect(queue, 1) == [(0, 3, 77, 5)]


def test_contexts_come_back_with_all_their_bits(bare):
    ours, _ = bare.pair()
    queue = bare.queue()
    context = 0xFEDC_BA98_7654_3210
    requests = bare.requests(ours, queue, context=context)
    region = bare.region()
    for value in (0, 1, 2**63, 2**64 - 1):
        assert bare.send(requests, region.buf(0, 1), value) == 0
        assert bare.collect(queue, 1) == [(0, 1, context, value)]


@pytest.mark.parametrize("direction", ["receive", "send"])
def test_a_full_request_queue_refuses_until_a_dequeue(bare, direction):
    requests, queue, _, peer = bare.connection(receives=3, sends=3)
    region = bare.region()
    call = getattr(bare, direction)
    for i in range(3):
        assert call(requests, region.buf(i, 1), i) == 0
    for _ in range(3):
        assert call(requests, region.buf(3, 1), 99) == lib.RIO_ENOBUFS
    if direction == "receive":
        peer.sendall(b"abc")
    results = []
    while not results:
        bare.wait(0.01)  # complete now, yet not dequeued: no slot is free
        if direction == "send":
            assert call(requests, region.buf(3, 1), 99) == lib.RIO_ENOBUFS
        results = bare.dequeue(queue, 1)
    assert [r.context for r in results] == [0]
    assert call(requests, region.buf(3, 1), 3) == 0
    assert call(requests, region.buf(3, 1), 99) == lib.RIO_ENOBUFS
    if direction == "receive":
        peer.sendall(b"d")
    assert [r.context for r in bare.collect(queue, 3)] == [1, 2, 3]
    assert bare.dequeue(queue) == []


def test_resize_grows_and_shrinks_what_is_reserved(bare):
    ours, _ = bare.pair()
    queue = bare.queue(64)
    requests = bare.requests(ours, queue, receives=2, sends=2)
    assert bare.rio.RIOResizeRequestQueue(requests, 32, 32)
    assert not bare.rio.RIOResizeRequestQueue(requests, 33, 32)
    assert bare.error() == lib.RIO_ENOBUFS
    assert bare.rio.RIOResizeRequestQueue(requests, 1, 1)
    assert bare.rio.RIOResizeCompletionQueue(queue, 2)


def test_resize_to_nothing_is_invalid(bare):
    requests, _, _, _ = bare.connection()
    assert not bare.rio.RIOResizeRequestQueue(requests, 0, 0)
    assert bare.error() == lib.RIO_EINVAL


def test_resize_below_what_is_outstanding_is_too_many_references(bare):
    requests, queue, _, peer = bare.connection(receives=4, sends=4)
    region = bare.region()
    for i in range(3):
        assert bare.receive(requests, region.buf(i, 1), i) == 0
    assert not bare.rio.RIOResizeRequestQueue(requests, 2, 4)
    assert bare.error() == lib.RIO_ETOOMANYREFS
    assert bare.rio.RIOResizeRequestQueue(requests, 3, 0)
    peer.sendall(b"abc")
    assert [r.context for r in bare.collect(queue, 3)] == [0, 1, 2]
    assert bare.rio.RIOResizeRequestQueue(requests, 0, 1)


def test_resize_keeps_requests_in_flight_and_their_order(bare):
    requests, queue, _, peer = bare.connection(receives=2, sends=2)
    region = bare.region()
    for i in range(2):
        assert bare.receive(requests, region.buf(i * 4, 4), i) == 0
    for size in (3, 5, 9, 17, 30):
        assert bare.rio.RIOResizeRequestQueue(requests, size, 2)
        bare.wait(0)
    for i in range(2, 30):
        assert bare.receive(requests, region.buf(i * 4, 4), i) == 0
    peer.sendall(b"".join(b"%04d" % i for i in range(30)))
    results = bare.collect(queue, 30)
    assert [r.context for r in results] == list(range(30))
    for i in range(30):
        assert region.memory[i * 4 : i * 4 + 4] == b"%04d" % i


def test_many_request_queues_on_one_completion_queue(bare):
    """As many as a small limit of descriptors allows; each result finds its owner."""
    queue = bare.queue(4096)
    region = bare.region()
    pairs = [bare.pair("unix") for _ in range(100)]
    queues = [bare.requests(one, queue, context=i) for i, (one, _) in enumerate(pairs)]
    for i, requests in enumerate(queues):
        assert bare.receive(requests, region.buf(i * 8, 8), 1000 + i) == 0
    for i, (_, peer) in enumerate(pairs):
        peer.sendall(b"%03d" % i)
    results = bare.collect(queue, 100)
    assert sorted(r.socket_context for r in results) == list(range(100))
    for result in results:
        assert (result.status, result.bytes) == (0, 3)
        assert result.context == 1000 + result.socket_context
        at = result.socket_context * 8
        assert region.memory[at : at + 3] == b"%03d" % result.socket_context
