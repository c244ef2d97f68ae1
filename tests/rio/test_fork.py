"""fork: the child is refused, the parent goes on as if nothing had happened (rule 14)."""

import os
import traceback
import warnings

import pytest

from tests.rio.bare import NULL, Bare
from tests.rio.isolated import isolated
from tests.rio.marks import with_fork
from zerio_asyncio.rio import CompletionPort, CompletionQueue, RioError, by_name
from zerio_asyncio.rio._rio import ffi, lib

DOWN = lib.RIO_ENETDOWN


pytestmark = with_fork


def in_child(function):
    """Run in a forked child; the child's traceback is the parent's error."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-3000:])
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as report:
        text = report.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"child ended with {status}:\n{text}"


@pytest.mark.parametrize("scene", ["refusals", "close_in_child", "new_port", "classes", "polled"])
def test_fork(provider, scene):
    isolated(globals()[scene], provider.name)


def begin(name):
    bare = Bare(by_name(name))
    requests, queue, ours, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 100), 1) == 0
    assert bare.rio.RIONotify(queue) == 0
    bare.wait(0)
    return bare, requests, queue, ours, peer, region


def parent_goes_on(bare, requests, queue, peer, region):
    peer.sendall(b"for the parent")
    assert bare.collect(queue, 1) == [(0, 14, 0, 1)]
    assert region.memory[:14] == b"for the parent"
    region.memory[:3] = b"abc"
    assert bare.send(requests, region.buf(0, 3), 2) == 0
    assert bare.collect(queue, 1) == [(0, 3, 0, 2)]
    assert peer.recv(10) == b"abc"
    bare.close()


def refusals(name):
    bare, requests, queue, ours, peer, region = begin(name)
    table, port, number = bare.table, bare.port, ours.fileno()
    data = region.buf(200, 8)

    def child():
        rio = bare.rio
        assert bare.receive(requests, data) == DOWN
        assert bare.send(requests, data) == DOWN
        assert bare.commit(rio.RIOSend, requests) == DOWN
        assert not rio.RIOReceiveEx(requests, data, 1, NULL, data, NULL, NULL, 0, NULL)
        assert bare.error() == DOWN
        assert not rio.RIOSendEx(requests, data, 1, NULL, data, NULL, NULL, 0, NULL)
        assert bare.error() == DOWN
        assert not rio.RIOResizeRequestQueue(requests, 9, 9)
        assert bare.error() == DOWN
        assert not rio.RIOResizeCompletionQueue(queue, 99)
        assert bare.error() == DOWN
        assert not rio.RIOCreateCompletionQueue(8, bare.notification())
        assert bare.error() == DOWN
        assert not rio.RIOCreateRequestQueue(peer.fileno(), 1, 1, 1, 1, queue, queue, NULL)
        assert bare.error() == DOWN
        assert rio.RIONotify(queue) == DOWN
        results = ffi.new("RIORESULT[4]")
        assert rio.RIODequeueCompletion(queue, results, 4) in {0, lib.RIO_CORRUPT_CQ}
        events = ffi.new("rio_port_event[4]")
        assert table.wait(port, events, 4, 0) == -DOWN
        assert table.wait(port, events, 4, -1) == -DOWN
        assert table.pending(port) == 0
        assert table.post(port, 1) == DOWN
        assert table.watch(port, number, 1, 1) == DOWN
        assert table.accept(port, number, 1) == DOWN
        assert table.accept_stop(port, number) == DOWN
        assert table.connect(port, number, bytes(16), 16, 1) == DOWN
        assert table.connect_stop(port, number) == DOWN
        assert table.retire(port, number) == DOWN
        assert table.park(port) == DOWN
        assert table.statistics(port, ffi.new("rio_port_statistics *")) == DOWN

    in_child(child)
    parent_goes_on(bare, requests, queue, peer, region)


def close_in_child(name):
    bare, requests, queue, ours, peer, region = begin(name)

    def child():
        bare.rio.RIOCloseCompletionQueue(queue)
        bare.table.close(bare.port)
        assert bare.table.post(bare.port, 1) == lib.RIO_EINVAL
        bare.rio.RIODeregisterBuffer(region.id)
        ours.close()

    for _ in range(3):
        in_child(child)
    parent_goes_on(bare, requests, queue, peer, region)


def new_port(name):
    """The child makes its own, before and after it closes its copy; a grandchild too."""
    bare, requests, queue, _, peer, region = begin(name)

    def child(depth=2):
        for close_first in (False, True):
            if close_first:
                bare.table.close(bare.port)
            own = Bare(by_name(name))
            mine, results, _, friend = own.connection()
            memory = own.region(4096)
            assert own.receive(mine, memory.buf(0, 10), 7) == 0
            friend.sendall(b"child")
            assert own.collect(results, 1) == [(0, 5, 0, 7)]
            if depth:
                in_child(lambda: child(depth - 1))
            assert own.send(mine, memory.buf(0, 5), 8) == 0
            assert own.collect(results, 1) == [(0, 5, 0, 8)]
            own.close()

    in_child(child)
    parent_goes_on(bare, requests, queue, peer, region)


def classes(name):
    port = CompletionPort(name)
    queue = CompletionQueue(8, port)

    def child():
        for call in (port.post, port.statistics, lambda: port.wait(0), queue.notify):
            try:
                call()
            except RioError as error:
                assert error.winsock == DOWN, call
            else:
                raise AssertionError(f"{call} was not refused")
        port.close()
        with CompletionPort(name) as own:
            own.post(4)
            assert [event.key for event in own.wait(1)] == [4]

    in_child(child)
    port.post(3)
    assert [event.key for event in port.wait(1)] == [3]
    port.close()


def polled(name):
    """A queue that is only polled belongs to the parent as well."""
    bare = Bare(by_name(name))
    ours, peer = bare.pair()
    queue = bare.queue(polled=True)
    requests = bare.requests(ours, queue)
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 100), 1) == 0
    assert bare.dequeue(queue) == []

    def child():
        assert bare.receive(requests, region.buf(0, 8)) == DOWN
        results = ffi.new("RIORESULT[4]")
        assert bare.rio.RIODequeueCompletion(queue, results, 4) in {0, lib.RIO_CORRUPT_CQ}
        bare.rio.RIOCloseCompletionQueue(queue)

    in_child(child)
    peer.sendall(b"x")
    assert bare.collect(queue, 1) == [(0, 1, 0, 1)]
    bare.close()
