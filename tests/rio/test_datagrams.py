"""Datagrams: RIOSendEx, RIOReceiveEx, and plain requests on datagram sockets.

nc-mswsock-lpfn_riosendex, -rioreceiveex; rules 2 and 8.
"""

import socket

import pytest

from tests.rio.bare import NULL
from zerio_asyncio.rio import CompletionQueue, Region, RequestQueue, addresses
from zerio_asyncio.rio._rio import ffi, lib

FAMILIES = {"udp": (socket.AF_INET, "127.0.0.1"), "udp6": (socket.AF_INET6, "::1")}


@pytest.fixture(autouse=True)
def _capable(provider):
    if not provider.has_datagrams:
        pytest.skip(f"{provider.name} has no datagrams")


def bound(bare, kind="udp"):
    family, host = FAMILIES[kind]
    pair = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in pair:
        sock.bind((host, 0))
        sock.settimeout(5)
    pair[0].setblocking(False)
    bare.keep(*pair)
    return pair


def receive_ex(
    bare, requests, data, remote=NULL, *, local=NULL, flags_out=NULL, context=0, flags=0
):
    done = bare.rio.RIOReceiveEx(
        requests, data, 1, local, remote, NULL, flags_out, flags, ffi.cast("void *", context)
    )
    return 0 if done else bare.error()


def send_ex(bare, requests, data, remote=NULL, *, local=NULL, context=0, flags=0, count=1):
    done = bare.rio.RIOSendEx(
        requests, data, count, local, remote, NULL, NULL, flags, ffi.cast("void *", context)
    )
    return 0 if done else bare.error()


@pytest.mark.parametrize("kind", ["udp", "udp6"])
def test_addresses_go_with_the_data(bare, kind):
    ours, peer = bound(bare, kind)
    queue = bare.queue()
    requests = bare.requests(ours, queue)
    region = bare.region()
    assert receive_ex(bare, requests, region.buf(0, 2000), region.buf(4096, 28), context=1) == 0
    peer.sendto(b"question", ours.getsockname())
    assert bare.collect(queue, 1) == [(0, 8, 0, 1)]
    assert region.memory[:8] == b"question"
    sender = addresses.unpack(region.memory[4096 : 4096 + 28])
    assert sender == peer.getsockname()
    region.memory[:6] = b"answer"
    assert send_ex(bare, requests, region.buf(0, 6), region.buf(4096, 28), context=2) == 0
    assert bare.collect(queue, 1) == [(0, 6, 0, 2)]
    assert peer.recvfrom(100) == (b"answer", ours.getsockname())


def test_each_datagram_takes_one_receive_in_order(bare):
    ours, peer = bound(bare)
    queue = bare.queue()
    requests = bare.requests(ours, queue, receives=10)
    region = bare.region()
    for i in range(10):
        data, remote = region.buf(i * 100, 100), region.buf(8192 + i * 28, 28)
        assert receive_ex(bare, requests, data, remote, context=i) == 0
    for i in range(10):
        peer.sendto(b"d" * (i + 1), ours.getsockname())
    results = bare.collect(queue, 10)
    assert results == [(0, i + 1, 0, i) for i in range(10)]
    for i in range(10):
        assert addresses.unpack(region.memory[8192 + i * 28 : 8220 + i * 28]) == peer.getsockname()


def test_sends_to_many_addresses_keep_their_order(bare):
    ours, _ = bound(bare)
    peers = [bound(bare)[1] for _ in range(4)]
    queue = bare.queue()
    requests = bare.requests(ours, queue, sends=32)
    region = bare.region()
    for i, peer in enumerate(peers):
        raw = addresses.pack(socket.AF_INET, peer.getsockname())
        region.memory[4096 + i * 28 : 4096 + i * 28 + len(raw)] = raw
    for i in range(32):
        region.memory[i * 2 : i * 2 + 2] = b"%02d" % i
        remote = region.buf(4096 + i % 4 * 28, 28)
        assert send_ex(bare, requests, region.buf(i * 2, 2), remote, context=i, flags=2) == 0
    assert bare.commit(bare.rio.RIOSend, requests) == 0
    assert [(r.status, r.bytes, r.context) for r in bare.collect(queue, 32)] == [
        (0, 2, i) for i in range(32)
    ]
    for i, peer in enumerate(peers):
        assert [peer.recv(10) for _ in range(8)] == [b"%02d" % n for n in range(i, 32, 4)]


def test_an_empty_datagram_is_data(bare):
    ours, peer = bound(bare)
    queue = bare.queue()
    requests = bare.requests(ours, queue)
    region = bare.region()
    for i in range(2):
        assert receive_ex(bare, requests, region.buf(0, 100), region.buf(4096, 28), context=i) == 0
    peer.sendto(b"", ours.getsockname())
    peer.sendto(b"next", ours.getsockname())
    assert bare.collect(queue, 2) == [(0, 0, 0, 0), (0, 4, 0, 1)]


def test_an_empty_datagram_is_sent_with_no_data(bare):
    ours, peer = bound(bare)
    ours.connect(peer.getsockname())
    queue = bare.queue()
    requests = bare.requests(ours, queue)
    region = bare.region()
    assert bare.rio.RIOSend(requests, NULL, 0, 0, ffi.cast("void *", 1))
    assert bare.collect(queue, 1) == [(0, 0, 0, 1)]
    assert peer.recv(10) == b""
    raw = addresses.pack(socket.AF_INET, peer.getsockname())
    region.memory[: len(raw)] = raw
    assert send_ex(bare, requests, NULL, region.buf(0, 28), context=2, count=0) == 0
    assert bare.collect(queue, 1) == [(0, 0, 0, 2)]
    assert peer.recv(10) == b""


def test_a_datagram_that_is_too_long_is_cut_and_says_so(bare):
    ours, peer = bound(bare)
    queue = bare.queue()
    requests = bare.requests(ours, queue)
    region = bare.region(4096)
    region.memory[:] = b"\xee" * 4096
    assert receive_ex(bare, requests, region.buf(0, 10), region.buf(100, 28), context=1) == 0
    assert receive_ex(bare, requests, region.buf(200, 100), region.buf(128, 28), context=2) == 0
    peer.sendto(b"0123456789ABC", ours.getsockname())
    peer.sendto(b"fits", ours.getsockname())
    first, second = bare.collect(queue, 2)
    assert first.status == lib.RIO_EMSGSIZE
    assert first.bytes <= 10
    assert region.memory[:11] == b"0123456789\xee"
    assert addresses.unpack(region.memory[100:128]) == peer.getsockname()
    assert second == (0, 4, 0, 2)


def test_a_datagram_that_no_packet_holds_is_refused_by_the_system(bare):
    ours, peer = bound(bare)
    ours.connect(peer.getsockname())
    queue = bare.queue()
    requests = bare.requests(ours, queue)
    region = bare.region(1 << 17)
    assert bare.send(requests, region.buf(0, 1 << 17), 1) == 0
    assert bare.send(requests, region.buf(0, 100), 2) == 0
    results = bare.collect(queue, 2)
    assert [(r.status, r.context) for r in results] == [(lib.RIO_EMSGSIZE, 1), (0, 2)]
    assert len(peer.recv(1000)) == 100


def test_plain_requests_on_a_connected_socket(bare):
    requests, queue, _, peer = bare.connection("udp")
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 100), 1) == 0
    peer.send(b"in")
    assert bare.collect(queue, 1) == [(0, 2, 0, 1)]
    assert bare.send(requests, region.buf(0, 2), 2) == 0
    assert bare.collect(queue, 1) == [(0, 2, 0, 2)]
    assert peer.recv(10) == b"in"


def test_unix_datagrams_have_bounds_too(bare):
    requests, queue, _, peer = bare.connection("unix-datagram")
    region = bare.region()
    for i in range(3):
        assert bare.receive(requests, region.buf(i * 100, 100), i) == 0
    for size in (1, 50, 7):
        peer.send(b"u" * size)
    assert bare.collect(queue, 3) == [(0, 1, 0, 0), (0, 50, 0, 1), (0, 7, 0, 2)]
    assert bare.send(requests, region.buf(0, 100), 9) == 0
    assert bare.collect(queue, 1) == [(0, 100, 0, 9)]
    assert len(peer.recv(1000)) == 100


def test_an_unreachable_port_does_not_end_the_socket(bare):
    """On an unconnected socket nobody hears of it, as with RIO."""
    ours, peer = bound(bare)
    nobody = bound(bare)[1]
    where = nobody.getsockname()
    nobody.close()
    queue = bare.queue()
    requests = bare.requests(ours, queue)
    region = bare.region()
    raw = addresses.pack(socket.AF_INET, where)
    region.memory[4096 : 4096 + len(raw)] = raw
    assert receive_ex(bare, requests, region.buf(0, 100), region.buf(8192, 28), context=1) == 0
    for i in range(3):
        assert send_ex(bare, requests, region.buf(0, 5), region.buf(4096, 28), context=10 + i) == 0
        assert bare.collect(queue, 1) == [(0, 5, 0, 10 + i)]
    bare.quiet(0.02)
    peer.sendto(b"alive", ours.getsockname())
    assert bare.collect(queue, 1) == [(0, 5, 0, 1)]


def test_refused_arguments(bare):
    ours, _ = bound(bare)
    requests = bare.requests(ours, bare.queue())
    region = bare.region(4096)
    good = region.buf(0, 100)
    fault = {lib.RIO_EFAULT, lib.RIO_EINVAL}
    assert receive_ex(bare, requests, good, region.buf(100, 27)) in fault  # no room
    assert receive_ex(bare, requests, good, region.buf(4090, 28)) in fault
    assert send_ex(bare, requests, good, region.buf(4090, 28)) in fault
    assert send_ex(bare, requests, good, region.buf(100, 4)) in fault
    foreign = ffi.new("RIO_BUF *", (lib.RIO_INVALID_BUFFERID, 0, 28))
    assert receive_ex(bare, requests, good, foreign) == lib.RIO_EFAULT
    assert send_ex(bare, requests, good, foreign) == lib.RIO_EFAULT
    local = region.buf(200, 28)  # reserved, must be null
    assert send_ex(bare, requests, good, NULL, local=local) in {lib.RIO_EINVAL, lib.RIO_EOPNOTSUPP}
    for flags in (lib.RIO_MSG_WAITALL, 16):  # WAITALL is not supported on UDP
        assert receive_ex(bare, requests, good, flags=flags) == lib.RIO_EINVAL


def test_retire_aborts_receives(bare):
    ours, _ = bound(bare)
    queue = bare.queue()
    requests = bare.requests(ours, queue)
    region = bare.region()
    for i in range(3):
        data, remote = region.buf(i * 100, 100), region.buf(4096 + i * 28, 28)
        assert receive_ex(bare, requests, data, remote, context=i) == 0
    bare.wait(0.005)
    bare.retire(ours)
    assert bare.collect(queue, 3) == [(lib.RIO_OPERATION_ABORTED, 0, 0, i) for i in range(3)]


def test_growing_keeps_addresses_in_flight(bare):
    ours, peer = bound(bare)
    queue = bare.queue()
    requests = bare.requests(ours, queue, receives=2)
    region = bare.region()
    for i in range(12):
        data, remote = region.buf(i * 100, 100), region.buf(4096 + i * 28, 28)
        if i in {2, 5, 9}:
            assert bare.rio.RIOResizeRequestQueue(requests, i + 4, 8)
            bare.wait(0)
        assert receive_ex(bare, requests, data, remote, context=i) == 0
    for i in range(12):
        peer.sendto(b"%02d" % i, ours.getsockname())
    assert [r.context for r in bare.collect(queue, 12)] == list(range(12))
    for i in range(12):
        assert region.memory[i * 100 : i * 100 + 2] == b"%02d" % i
        assert addresses.unpack(region.memory[4096 + i * 28 :][:28]) == peer.getsockname()


def test_the_classes_do_it_too(bare, port, provider):
    ours, peer = bound(bare)
    queue = CompletionQueue(8, port)
    with Region(provider, 4096) as region, RequestQueue(ours, queue) as requests:
        data, where = region.slice(0, 1000), region.slice(1000, addresses.ADDRESS_SIZE)
        requests.receive_from(data, where, "in")
        assert data.busy
        assert where.busy
        peer.sendto(b"hello", ours.getsockname())
        while not (results := queue.dequeue()):
            port.wait(0.01)
        assert results[0][:2] == (0, 5)
        assert not where.busy
        assert addresses.unpack(where.memory) == peer.getsockname()
        requests.send_to(data.part(0, 5), where, "out")
        while not (results := queue.dequeue()):
            port.wait(0.01)
        assert results[0].context == "out"
        assert peer.recv(10) == b"hello"
        with pytest.raises(ValueError, match="28 bytes"):
            requests.receive_from(data, region.slice(0, 20))
