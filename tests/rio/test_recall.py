"""recall_receives: what the kernel holds comes back, and no byte is lost or taken afterwards."""

import random
import socket
import threading
import time

import pytest

from tests.rio.bare import SECONDS, Bare, connected, pattern, read_all, reset
from tests.rio.isolated import isolated
from tests.rio.marks import with_fork
from zerio_asyncio.rio import (
    CompletionPort,
    CompletionQueue,
    Region,
    RequestQueue,
    RioError,
    by_name,
)
from zerio_asyncio.rio._rio import ffi, lib

ABORTED = lib.RIO_OPERATION_ABORTED
WAITALL, DEFER = lib.RIO_MSG_WAITALL, lib.RIO_MSG_DEFER


def recall(bare, requests):
    return bare.provider.c.recall_receives(requests)


@pytest.fixture
def bare(bare):
    if bare.provider.name == "winsock":
        pytest.skip("Registered I/O takes nothing back, as the last test shows")
    return bare


def test_handles_that_are_none(bare):
    requests, queue, ours, _ = bare.connection()
    answers = {lib.RIO_EINVAL}
    for wrong in (0, 1, 0xFFFFFFFF, 2**63, queue, bare.port):
        handle = ffi.cast("RIO_RQ", wrong)
        assert recall(bare, handle) in answers
    bare.retire(ours)
    assert recall(bare, requests) == lib.RIO_EINVAL


def test_nothing_to_take_back_costs_nothing(bare):
    requests, _, _, _ = bare.connection()
    bare.wait(0)
    before = bare.statistics().system_calls
    for _ in range(3):
        assert recall(bare, requests) == 0
    assert bare.statistics().system_calls == before


@pytest.mark.parametrize("kind", ["tcp", "unix", "udp", "udp6"])
@pytest.mark.parametrize("begun", [False, True])
def test_what_comes_afterwards_stays_in_the_socket(bare, kind, begun):
    requests, queue, ours, peer = bare.connection(kind)
    region = bare.region()
    for i in range(5):
        assert bare.receive(requests, region.buf(i * 100, 100), i) == 0
    if begun:
        bare.wait(0)
    assert recall(bare, requests) == 0
    assert bare.collect(queue, 5) == [(ABORTED, 0, 0, i) for i in range(5)]
    peer.send(b"for another")
    bare.quiet(0.02)
    ours.settimeout(SECONDS)
    assert ours.recv(100) == b"for another"


def test_only_what_the_kernel_holds_costs_system_calls(bare):
    requests, queue, _, _ = bare.connection()
    region = bare.region()
    bare.wait(0)
    if bare.provider.name == "overlapped":
        pytest.skip("each of its receives is with the system at once")
    before = bare.statistics().system_calls
    assert bare.receive(requests, region.buf(0, 100), 1) == 0
    assert recall(bare, requests) == 0
    assert bare.dequeue(queue) == [(ABORTED, 0, 0, 1)]
    assert bare.statistics().system_calls == before
    assert bare.receive(requests, region.buf(0, 100), 2) == 0
    bare.wait(0)
    before = bare.statistics().system_calls
    assert recall(bare, requests) == 0
    assert bare.dequeue(queue) == [(ABORTED, 0, 0, 2)]
    assert bare.statistics().system_calls - before == (bare.provider.name == "uring")


def test_results_that_were_there_are_kept(bare):
    requests, queue, ours, peer = bare.connection()
    region = bare.region()
    for i in range(3):
        assert bare.receive(requests, region.buf(i * 100, 100), i) == 0
    peer.sendall(b"first")
    end = time.monotonic() + SECONDS
    while bare.statistics().completions == 0:
        assert time.monotonic() < end
        bare.wait(0.01)
    assert recall(bare, requests) == 0
    assert bare.collect(queue, 3) == [(0, 5, 0, 0), (ABORTED, 0, 0, 1), (ABORTED, 0, 0, 2)]
    assert region.memory[:5] == b"first"
    ours.settimeout(SECONDS)
    peer.sendall(b"second")
    assert ours.recv(100) == b"second"


def test_receives_go_on_after_it(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    for turn in range(10):
        assert bare.receive(requests, region.buf(0, 100), turn) == 0
        bare.wait(0)
        assert recall(bare, requests) == 0
        assert bare.receive(requests, region.buf(100, 100), 100 + turn) == 0
        peer.sendall(b"%d" % turn)
        assert bare.collect(queue, 2) == [(ABORTED, 0, 0, turn), (0, 1, 0, 100 + turn)]
        assert region.memory[100:101] == b"%d" % turn


def test_a_slot_is_freed_by_its_dequeue(bare):
    requests, queue, _, _ = bare.connection(receives=2)
    region = bare.region()
    for i in range(2):
        assert bare.receive(requests, region.buf(0, 8), i) == 0
    assert recall(bare, requests) == 0
    assert bare.receive(requests, region.buf(0, 8), 9) == lib.RIO_ENOBUFS
    assert len(bare.collect(queue, 2)) == 2
    assert bare.receive(requests, region.buf(0, 8), 9) == 0


def test_deferred_receives_are_taken_back_too(bare):
    requests, queue, ours, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8), 1) == 0
    assert bare.receive(requests, region.buf(8, 8), 2, DEFER) == 0
    assert recall(bare, requests) == 0
    assert bare.collect(queue, 2) == [(ABORTED, 0, 0, 1), (ABORTED, 0, 0, 2)]
    bare.commit(bare.rio.RIOReceive, requests)
    peer.sendall(b"x")
    bare.quiet(0.02)
    assert ours.recv(8) == b"x"


def test_a_receive_that_waits_for_all_gives_what_it_has(bare):
    requests, queue, ours, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 1000), 1, WAITALL) == 0
    assert bare.receive(requests, region.buf(2000, 1000), 2, WAITALL) == 0
    peer.sendall(b"part")
    for _ in range(10):
        bare.wait(0.002)
    assert recall(bare, requests) == 0
    first, second = bare.collect(queue, 2)
    ours.settimeout(SECONDS)
    if first.status == 0:
        assert first == (0, 4, 0, 1)
        assert region.memory[:4] == b"part"
    else:
        assert first == (ABORTED, 0, 0, 1)
        assert ours.recv(100) == b"part"
    assert second == (ABORTED, 0, 0, 2)


@pytest.mark.parametrize("begun", [False, True])
def test_probes(bare, begun):
    requests, queue, ours, peer = bare.connection()
    for i in range(2):
        context = ffi.cast("void *", i)
        assert bare.provider.c.receive_memory(requests, ffi.NULL, 0, 0, context)
    if begun:
        bare.wait(0)
    assert recall(bare, requests) == 0
    assert bare.collect(queue, 2) == [(ABORTED, 0, 0, 0), (ABORTED, 0, 0, 1)]
    peer.sendall(b"x")
    bare.quiet(0.02)
    assert ours.recv(10) == b"x"


def test_the_end_and_errors_are_told_later(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8), 1) == 0
    bare.wait(0)
    assert recall(bare, requests) == 0
    assert bare.collect(queue, 1) == [(ABORTED, 0, 0, 1)]
    peer.shutdown(socket.SHUT_WR)
    assert bare.receive(requests, region.buf(0, 8), 2) == 0
    assert bare.collect(queue, 1) == [(0, 0, 0, 2)]
    assert recall(bare, requests) == 0
    reset(peer)


def test_sends_are_left_alone(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region(8 << 20)
    assert bare.send(requests, region.buf(0, 8 << 20), 1) == 0
    assert bare.receive(requests, region.buf(0, 8), 2) == 0
    bare.wait(0)
    assert recall(bare, requests) == 0
    assert bare.collect(queue, 1) == [(ABORTED, 0, 0, 2)]
    reader = threading.Thread(target=read_all, args=(peer, 8 << 20))
    reader.start()
    assert bare.collect(queue, 1) == [(0, 8 << 20, 0, 1)]
    reader.join()


def test_retiring_after_it(bare):
    requests, queue, ours, _ = bare.connection()
    region = bare.region()
    for i in range(3):
        assert bare.receive(requests, region.buf(0, 8), i) == 0
    bare.wait(0)
    assert recall(bare, requests) == 0
    bare.retire(ours)
    assert bare.collect(queue, 3) == [(ABORTED, 0, 0, i) for i in range(3)]


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_no_byte_is_lost_or_moved(bare, kind):
    """Receives and calls of the socket itself in turns, while the peer sends all the time."""
    requests, queue, ours, peer = bare.connection(kind)
    region = bare.region()
    size = 2 << 20
    sent = pattern(size)
    sender = threading.Thread(target=peer.sendall, args=(sent,))
    sender.start()
    chance = random.Random(7)
    got = bytearray()
    end = time.monotonic() + 3 * SECONDS
    while len(got) < size:
        assert time.monotonic() < end
        count = chance.randint(1, 4)
        for i in range(count):
            assert bare.receive(requests, region.buf(i * 5000, chance.randint(1, 5000)), i) == 0
        for _ in range(chance.randint(0, 2)):
            bare.wait(0)
        assert recall(bare, requests) == 0
        for done in bare.collect(queue, count):
            assert (done.status, done.bytes) == (ABORTED, 0) or (done.status == 0 < done.bytes)
            got += region.memory[done.context * 5000 : done.context * 5000 + done.bytes]
        try:
            got += ours.recv(chance.randint(1, 20000))
        except BlockingIOError:
            continue
    sender.join()
    assert got == sent


def test_no_datagram_is_lost_or_moved(bare):
    requests, queue, ours, peer = bare.connection("udp")
    region = bare.region()
    chance = random.Random(8)
    got = []
    for turn in range(300):
        count = chance.randint(1, 4)
        for i in range(count):
            assert bare.receive(requests, region.buf(i * 100, 100), i) == 0
        if chance.random() < 0.5:
            bare.wait(0)
        peer.send(b"%d" % turn)
        if chance.random() < 0.5:
            bare.wait(0)
        assert recall(bare, requests) == 0
        for done in bare.collect(queue, count):
            if done.status == 0:
                got.append(bytes(region.memory[done.context * 100 :][: done.bytes]))
        try:
            got.append(ours.recv(100))
        except BlockingIOError:
            continue
    assert got == [b"%d" % turn for turn in range(300)]


def test_another_thread_is_refused_or_served(bare):
    """Where the ring is another thread's, nothing is changed."""
    requests, queue, ours, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8), 1) == 0
    bare.wait(0)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(recall(bare, requests)))
    thread.start()
    thread.join()
    peer.sendall(b"x")
    if answers == [0]:
        assert bare.collect(queue, 1) == [(ABORTED, 0, 0, 1)]
        assert ours.recv(8) == b"x"
    else:
        assert answers == [lib.RIO_EINVAL]
        assert bare.collect(queue, 1) == [(0, 1, 0, 1)]


def test_after_a_park(bare):
    requests, queue, ours, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8), 1) == 0
    bare.wait(0)
    assert bare.table.park(bare.port) == 0
    assert recall(bare, requests) == 0
    assert bare.collect(queue, 1) == [(ABORTED, 0, 0, 1)]
    peer.sendall(b"x")
    bare.quiet(0.01)
    assert ours.recv(8) == b"x"


@with_fork
def test_a_child_of_a_fork_is_refused(provider):
    isolated(fork_and_recall, provider.name)


def fork_and_recall(name):
    import os

    bare = Bare(by_name(name))
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8), 1) == 0
    bare.wait(0)
    child = os.fork()
    if child == 0:
        os._exit(recall(bare, requests) != lib.RIO_ENETDOWN)
    assert os.waitpid(child, 0)[1] == 0
    peer.sendall(b"x")
    assert bare.collect(queue, 1) == [(0, 1, 0, 1)]
    bare.close()


def test_the_class_and_who_refuses(provider):
    with CompletionPort(provider) as port, CompletionQueue(8, port) as queue:
        ours, peer = connected("tcp", provider)
        ours.setblocking(False)
        with ours, peer, Region(provider, 64) as region:
            part = region.slice()
            requests = RequestQueue(ours, queue)
            requests.receive(part, "mine")
            port.wait(0)
            if provider.name == "winsock":
                with pytest.raises(RioError, match="WSAEOPNOTSUPP"):
                    requests.recall_receives()
            else:
                requests.recall_receives()
                results = queue.dequeue()
                while not results:
                    port.wait(0.01)
                    results = queue.dequeue()
                assert [(r.status, r.transferred, r.context) for r in results] == [
                    (ABORTED, 0, "mine")
                ]
                assert not part.busy
            requests.close()
