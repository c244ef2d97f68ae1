"""Many datagrams at once: a burst for posted receives, and send_datagrams_now."""

import socket

import pytest

from tests.rio.bare import NULL
from zerio_asyncio.rio import addresses
from zerio_asyncio.rio._rio import ffi, lib

DEEP = 100
"""Requests of one test: more than any provider takes in one system call."""


@pytest.fixture(autouse=True)
def _capable(provider):
    if not provider.has_datagrams:
        pytest.skip(f"{provider.name} has no datagrams")


def bound(bare):
    pair = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in pair:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
    pair[0].setblocking(False)
    bare.keep(*pair)
    return pair


class Datagrams:
    """An array of rio_datagram and everything that it points to."""

    def __init__(self, *datagrams):
        self.array = ffi.new("rio_datagram[]", len(datagrams))
        self.kept = []
        for one, (data, address) in zip(self.array, datagrams, strict=True):
            memory = ffi.from_buffer(data)
            remote = ffi.NULL
            if address is not None:
                remote = ffi.new("RIO_SOCKADDR_INET *")
                raw = addresses.pack(socket.AF_INET, address)
                ffi.buffer(remote)[: len(raw)] = raw
            self.kept += [memory, remote]
            one.memory, one.length, one.remote = memory, len(data), remote


def send_now(bare, requests, datagrams, count=None):
    count = len(datagrams.array) if count is None else count
    return bare.provider.c.send_datagrams_now(requests, datagrams.array, count)


@pytest.fixture
def _now(provider):
    if not provider.acts_now:
        pytest.skip(f"{provider.name} sends nothing without a request")


def test_a_burst_fills_the_posted_receives_in_order(bare):
    ours, peer = bound(bare)
    queue = bare.queue(DEEP)
    requests = bare.requests(ours, queue, receives=DEEP, sends=0)
    region = bare.region(1 << 16)
    for number in range(DEEP):
        data = region.buf(number * 64, 64)
        flags = lib.RIO_MSG_DEFER
        assert bare.rio.RIOReceiveEx(
            requests, data, 1, NULL, region.buf(32768 + number * 32, 28), NULL, NULL, flags,
            ffi.cast("void *", number),
        )  # fmt: skip
    for number in range(DEEP + 3):
        peer.sendto(b"%d" % number, ours.getsockname())
    assert bare.commit(bare.rio.RIOReceive, requests) == 0
    results = bare.collect(queue, DEEP)
    assert [r.context for r in results] == list(range(DEEP))
    for number, result in enumerate(results):
        assert region.memory[number * 64 :][: result.bytes] == b"%d" % number
        raw = region.memory[32768 + number * 32 :][:28]
        assert addresses.unpack(raw) == peer.getsockname()
    assert [ours.recv(10) for _ in range(3)] == [b"%d" % (DEEP + n) for n in range(3)]


@pytest.mark.usefixtures("_now")
def test_a_burst_of_receives_costs_few_system_calls(bare):
    ours, peer = bound(bare)
    queue = bare.queue(DEEP)
    requests = bare.requests(ours, queue, receives=DEEP, sends=0)
    region = bare.region(1 << 16)
    for number in range(DEEP):
        peer.sendto(b"x", ours.getsockname())
        assert bare.receive(requests, region.buf(number, 1), number, lib.RIO_MSG_DEFER) == 0
    before = bare.statistics().system_calls
    assert bare.commit(bare.rio.RIOReceive, requests) == 0
    assert len(bare.collect(queue, DEEP)) == DEEP
    assert bare.statistics().system_calls - before < DEEP // 2


def test_an_error_amid_a_burst_is_told_in_its_place(bare):
    ours, peer = bound(bare)
    ours.connect(peer.getsockname())
    queue = bare.queue()
    requests = bare.requests(ours, queue)
    region = bare.region(1 << 17)
    for number, size in enumerate([5, 1 << 17, 6, 7]):
        assert bare.send(requests, region.buf(0, size), number, lib.RIO_MSG_DEFER) == 0
    assert bare.commit(bare.rio.RIOSend, requests) == 0
    assert [(r.status, r.bytes, r.context) for r in bare.collect(queue, 4)] == [
        (0, 5, 0),
        (lib.RIO_EMSGSIZE, 0, 1),
        (0, 6, 2),
        (0, 7, 3),
    ]
    assert [len(peer.recv(100)) for _ in range(3)] == [5, 6, 7]


def test_sends_that_must_wait_go_out_in_order(bare):
    requests, queue, ours, peer = bare.connection("unix-datagram", sends=DEEP)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least that the system allows
    region = bare.region()
    for number in range(DEEP):
        region.memory[number * 8 : number * 8 + 8] = b"%8d" % number
        assert bare.send(requests, region.buf(number * 8, 8), number, lib.RIO_MSG_DEFER) == 0
    assert bare.commit(bare.rio.RIOSend, requests) == 0
    bare.wait(0)
    contexts = [result.context for result in bare.dequeue(queue, DEEP)]
    assert 0 < len(contexts) < DEEP
    received = []
    while len(received) < DEEP:
        received.append(int(peer.recv(100)))
        bare.wait(0)
        contexts += [result.context for result in bare.dequeue(queue, DEEP)]
    assert received == list(range(DEEP))
    contexts += [result.context for result in bare.collect(queue, DEEP - len(contexts))]
    assert contexts == list(range(DEEP))


@pytest.mark.usefixtures("_now")
def test_datagrams_are_sent_now_with_no_result(bare):
    ours, peer = bound(bare)
    queue = bare.queue()
    requests = bare.requests(ours, queue)
    where = peer.getsockname()
    many = [b"%d" % number for number in range(DEEP)]
    datagrams = Datagrams(*[(data, where) for data in many])
    before = bare.statistics()
    assert send_now(bare, requests, datagrams) == DEEP
    after = bare.statistics()
    assert after.bytes_sent - before.bytes_sent == sum(map(len, many))
    assert after.system_calls - before.system_calls < DEEP // 2
    assert [peer.recv(10) for _ in many] == many
    assert send_now(bare, requests, Datagrams((b"", where))) == 1
    assert peer.recv(10) == b""
    bare.quiet(0.01)


@pytest.mark.usefixtures("_now")
def test_what_the_first_datagram_meets_is_told(bare):
    ours, peer = bound(bare)
    requests = bare.requests(ours, bare.queue())
    where = peer.getsockname()
    big, small = (bytes(1 << 17), where), (b"small", where)
    assert send_now(bare, requests, Datagrams(big, small)) == -lib.RIO_EMSGSIZE
    assert send_now(bare, requests, Datagrams(small, big, small)) == 1
    assert peer.recv(10) == b"small"
    assert send_now(bare, requests, Datagrams((b"nobody", None))) == -lib.RIO_EDESTADDRREQ


@pytest.mark.usefixtures("_now")
def test_now_is_as_much_as_there_is_room_for(bare):
    requests, queue, ours, peer = bare.connection("unix-datagram")
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least that the system allows
    datagrams = Datagrams(*[(b"%d" % number, None) for number in range(DEEP)])
    done = send_now(bare, requests, datagrams)
    assert 0 < done < DEEP
    assert send_now(bare, requests, datagrams) == -lib.RIO_EWOULDBLOCK
    assert [int(peer.recv(10)) for _ in range(done)] == list(range(done))
    region = bare.region()
    assert bare.send(requests, region.buf(0, 1), 1) == 0
    assert send_now(bare, requests, datagrams) == -lib.RIO_EALREADY  # its result is not fetched
    assert bare.collect(queue, 1) == [(0, 1, 0, 1)]
    assert send_now(bare, requests, datagrams, 1) == 1


@pytest.mark.usefixtures("_now")
def test_refused_arguments_of_send_datagrams_now(bare):
    entry = bare.provider.c.send_datagrams_now
    ours, peer = bound(bare)
    requests = bare.requests(ours, bare.queue())
    good = Datagrams((b"good", peer.getsockname()))
    assert entry(requests, good.array, 0) == -lib.RIO_EINVAL
    assert entry(requests, NULL, 1) == -lib.RIO_EFAULT
    nowhere = Datagrams((b"good", peer.getsockname()))
    nowhere.array[0].memory = NULL
    assert entry(requests, nowhere.array, 1) == -lib.RIO_EFAULT
    stream, *_ = bare.connection("tcp")
    assert entry(stream, good.array, 1) == -lib.RIO_EOPNOTSUPP
    assert entry(ffi.cast("RIO_RQ", 0), good.array, 1) == -lib.RIO_EINVAL
    bare.retire(ours)
    assert entry(requests, good.array, 1) == -lib.RIO_EINVAL
