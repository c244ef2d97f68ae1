"""The classes over the queues: contexts, lifetimes, clear errors."""

import errno
import gc
import socket
import weakref

import pytest

from zerio_asyncio.rio import (
    CompletionPort,
    CompletionQueue,
    Flag,
    Kind,
    Region,
    RequestQueue,
    RioError,
    available,
)
from zerio_asyncio.rio._rio import lib


@pytest.fixture
def region(provider):
    with Region(provider, 65536) as made:
        yield made


@pytest.fixture
def pair():
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.settimeout(5)
    with ours, peer:
        yield ours, peer


def collect(port, queue, count):
    results = queue.dequeue()
    for _ in range(1000):
        if len(results) >= count:
            break
        port.wait(0.01)
        results += queue.dequeue()
    assert len(results) == count
    return results


def test_contexts_are_objects(port, region, pair):
    ours, peer = pair
    queue = CompletionQueue(8, port, key=5)
    socket_context, context = object(), {"any": "thing"}
    with RequestQueue(ours, queue, context=socket_context) as requests:
        requests.receive(region.slice(0, 100), context)
        assert queue.notify()
        assert not queue.notify()
        peer.send(b"hello")
        (event,) = port.wait(5)
        assert (event.kind, event.key, event.queue) == (Kind.NOTIFY, 5, queue)
        (result,) = queue.dequeue()
        assert (result.status, result.transferred, result.error) == (0, 5, None)
        assert result.socket_context is socket_context
        assert result.context is context


def test_commits_and_flags(port, region, pair):
    ours, peer = pair
    queue = CompletionQueue(16, port)
    with RequestQueue(ours, queue, max_receives=4, max_sends=4) as requests:
        region.slice().memory[:4] = b"abcd"
        for i in range(4):
            requests.send(region.slice(i, 1), i, Flag.DEFER | Flag.DONT_NOTIFY)
            requests.receive(region.slice(100 + i, 1), 10 + i, Flag.DEFER)
        requests.commit_sends()
        requests.commit_receives()
        peer.send(b"wxyz")
        results = collect(port, queue, 8)
        assert sorted(r.context for r in results) == [0, 1, 2, 3, 10, 11, 12, 13]
        assert peer.recv(10) == b"abcd"
        assert bytes(region.slice(100, 4).memory) == b"wxyz"


def test_a_slice_is_busy_until_the_dequeue(port, region, pair):
    ours, peer = pair
    queue = CompletionQueue(8, port)
    whole = region.slice(0, 1000)
    part = whole.part(10, 20)
    with RequestQueue(ours, queue) as requests:
        requests.receive(part)
        assert part.busy
        assert whole.busy
        peer.send(b"x")
        queue.notify()
        port.wait(5)
        assert part.busy
        queue.dequeue()
        assert not part.busy
        assert not whole.busy


def test_a_refused_request_holds_nothing(port, region, pair):
    ours, _ = pair
    queue = CompletionQueue(8, port)
    part = region.slice(0, 10)
    with RequestQueue(ours, queue, max_receives=0) as requests:
        with pytest.raises(RioError) as refusal:
            requests.receive(part)
        assert refusal.value.errno == errno.ENOBUFS
        assert not part.busy
        assert queue.outstanding == 0


def test_retired_requests_come_back_aborted(port, region, pair):
    ours, _ = pair
    queue = CompletionQueue(8, port)
    requests = RequestQueue(ours, queue, max_receives=3)
    slices = [region.slice(i * 10, 10) for i in range(3)]
    for i, part in enumerate(slices):
        requests.receive(part, i)
    requests.close()
    requests.close()
    results = collect(port, queue, 3)
    assert [r.context for r in results] == [0, 1, 2]
    assert [r.error.winsock for r in results] == [lib.RIO_OPERATION_ABORTED] * 3
    assert not any(part.busy for part in slices)


def test_memory_outlives_its_region_while_it_is_used(port, provider, pair):
    ours, peer = pair
    queue = CompletionQueue(8, port)
    region = Region(provider, 4096)
    held = weakref.ref(region)
    with RequestQueue(ours, queue) as requests:
        requests.receive(region.slice(0, 100), "late")
        region.close()
        with pytest.raises(ValueError, match="region is closed"):
            requests.receive(region.slice(0, 100))
        del region
        gc.collect()
        assert held() is not None  # the kernel may still write there
        peer.send(b"x")
        assert [r.context for r in collect(port, queue, 1)] == ["late"]
    gc.collect()
    assert held() is None


def test_a_dropped_completion_queue_keeps_its_memory_until_the_port_closes(provider, pair):
    ours, peer = pair
    port = CompletionPort(provider)
    queue = CompletionQueue(8, port)
    region = Region(provider, 4096)
    part = region.slice(0, 100)
    requests = RequestQueue(ours, queue)
    requests.receive(part)
    queue.close()
    held = weakref.ref(region)
    region.close()
    del region, part
    gc.collect()
    assert held() is not None
    peer.send(b"x")
    port.wait(0.01)
    requests.close()
    del requests, queue
    port.close()
    gc.collect()
    assert held() is None


def test_a_polled_queue_keeps_its_memory_until_it_closes(provider, pair):
    ours, _ = pair
    receives = CompletionQueue(8, provider=provider)
    sends = CompletionQueue(8, provider=provider)
    region = Region(provider, 4096)
    part = region.slice(0, 100)
    requests = RequestQueue(ours, receives, sends)
    requests.receive(part)
    receives.close()
    assert part.busy  # the other queue still holds the provider's own port
    sends.close()
    assert not part.busy
    requests.close()
    region.close()


def test_polled_queues_need_no_port(provider, region, pair):
    ours, peer = pair
    with CompletionQueue(8, provider=provider) as queue:
        requests = RequestQueue(ours, queue)
        requests.receive(region.slice(0, 10), "polled")
        peer.send(b"xyz")
        for _ in range(1000):
            results = queue.dequeue()
            if results:
                break
        assert [(r.transferred, r.context) for r in results] == [(3, "polled")]
        with pytest.raises(RioError) as refusal:
            queue.notify()
        assert refusal.value.errno == errno.EINVAL
        requests.close()


def test_resizing(port, pair):
    ours, _ = pair
    queue = CompletionQueue(4, port)
    with RequestQueue(ours, queue, max_receives=2, max_sends=2) as requests:
        with pytest.raises(RioError) as refusal:
            requests.resize(3, 2)
        assert refusal.value.errno == errno.ENOBUFS
        queue.resize(100)
        assert queue.size == 100
        requests.resize(50, 50)
        with pytest.raises(RioError) as refusal:
            queue.resize(99)
        assert refusal.value.errno == errno.ETOOMANYREFS


def test_closed_objects_say_so(port, region, pair):
    ours, _ = pair
    queue = CompletionQueue(8, port)
    requests = RequestQueue(ours, queue)
    requests.close()
    with pytest.raises(ValueError, match="request queue is closed"):
        requests.receive(region.slice())
    queue.close()
    queue.close()
    for call in (queue.dequeue, queue.notify, lambda: queue.resize(9)):
        with pytest.raises(ValueError, match="completion queue is closed"):
            call()
    with pytest.raises(ValueError, match="completion queue is closed"):
        RequestQueue(ours, queue)


def test_foreign_objects_say_so(port, region, pair):
    ours, _ = pair
    queue = CompletionQueue(8, port)
    with pytest.raises(TypeError, match="not a CompletionQueue"):
        RequestQueue(ours, port)
    with pytest.raises(TypeError, match="port must be"):
        CompletionQueue(8, queue)
    with RequestQueue(ours, queue) as requests, pytest.raises(TypeError, match="not a slice"):
        requests.receive(bytearray(10))
    with pytest.raises(ValueError, match="most"):
        queue.dequeue(5000)


def test_objects_of_two_providers_do_not_mix(port, provider, pair):
    ours, _ = pair
    others = [other for other in available() if other is not provider]
    if not others:
        pytest.skip("this machine has one provider only")
    queue = CompletionQueue(8, port)
    theirs = CompletionQueue(8, provider=others[0])
    with pytest.raises(ValueError, match="different providers"):
        RequestQueue(ours, queue, theirs)
    with Region(others[0], 4096) as foreign, RequestQueue(ours, queue) as requests:
        with pytest.raises(ValueError, match="another provider"):
            requests.receive(foreign.slice())
    theirs.close()


def test_a_dropped_request_queue_is_retired_with_a_warning(port, region, pair):
    ours, peer = pair
    queue = CompletionQueue(8, port)
    requests = RequestQueue(ours, queue)
    part = region.slice(0, 10)
    requests.receive(part)
    with pytest.warns(ResourceWarning, match="unclosed"):
        del requests
    (result,) = collect(port, queue, 1)
    assert result.error.winsock == lib.RIO_OPERATION_ABORTED
    assert not part.busy


def test_closing_the_port_first_is_forgiven(provider, pair):
    ours, _ = pair
    port = CompletionPort(provider)
    queue = CompletionQueue(8, port)
    region = Region(provider, 4096)
    part = region.slice(0, 10)
    requests = RequestQueue(ours, queue)
    requests.receive(part)
    port.close()
    assert queue.closed
    assert not part.busy
    requests.close()
    region.close()
