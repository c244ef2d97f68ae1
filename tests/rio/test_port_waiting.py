"""The port's wait: posts, timeouts, bounds, signals, threads (rules 10 and 11)."""

import signal
import threading
import time

import pytest

from tests.rio.bare import NULL, SECONDS, descriptors_in_use, read_all
from tests.rio.isolated import isolated
from tests.rio.marks import with_posix_signals
from zerio_asyncio.rio import CompletionPort, Kind
from zerio_asyncio.rio._rio import ffi, lib


def test_nothing_comes_of_nothing(bare):
    assert bare.wait(0) == []
    end = time.monotonic() + 0.025
    waits = 0
    while time.monotonic() < end:  # a ring that was closed a moment ago may interrupt one of them
        assert bare.wait(0.03) == []
        waits += 1
    assert waits <= 3
    assert bare.table.pending(bare.port) == 0


def test_a_long_timeout_is_cut_short_by_an_event(bare):
    timer = threading.Timer(0.02, bare.table.post, (bare.port, 5))
    timer.start()
    start = time.monotonic()
    assert bare.until(lib.RIO_PORT_POST)[2] == 5
    assert time.monotonic() - start < SECONDS / 2
    timer.join()


@pytest.mark.parametrize("timeout_ns", [-1, -(2**63), 2**63 - 1, 10**18])
def test_extreme_timeouts_wait_and_wake(bare, timeout_ns):
    timer = threading.Timer(0.02, bare.table.post, (bare.port, 1))
    timer.start()
    events = ffi.new("rio_port_event[4]")
    assert bare.table.wait(bare.port, events, 4, timeout_ns) == 1
    assert events[0].kind == lib.RIO_PORT_POST
    timer.join()


@pytest.mark.parametrize("timeout_ns", [1, 999, 1000, 999_999, 1_000_001])
def test_short_timeouts_return(bare, timeout_ns):
    events = ffi.new("rio_port_event[4]")
    for _ in range(5):
        assert bare.table.wait(bare.port, events, 4, timeout_ns) == 0


def test_a_post_before_the_wait_is_seen_by_it(bare):
    assert bare.table.post(bare.port, 3) == 0
    assert bare.until(lib.RIO_PORT_POST)[2] == 3
    assert bare.wait(0) == []


def test_posts_from_many_threads_merge_but_none_is_lost(bare):
    """Each thread posts after it has left its mark; whoever wakes sees every mark before it."""
    marks, count, turns = [], 8, 300
    go = threading.Barrier(count)

    def poster():
        go.wait()
        for _ in range(turns):
            marks.append(None)
            assert bare.table.post(bare.port, 1) == 0

    threads = [threading.Thread(target=poster) for _ in range(count)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + SECONDS
    seen = 0
    while seen < count * turns:
        assert time.monotonic() < end, "a post was lost"
        events = bare.wait(0.5)
        if events:
            assert {event[0] for event in events} == {lib.RIO_PORT_POST}
            seen = len(marks)
    for thread in threads:
        thread.join()
    while bare.wait(0):
        pass
    assert bare.wait(0) == []


def test_one_post_at_a_time_wakes_each_wait(bare):
    done = threading.Event()
    turn = threading.Semaphore(0)

    def poster():
        for i in range(500):
            assert bare.table.post(bare.port, i) == 0
            assert turn.acquire(timeout=SECONDS)
        done.set()

    thread = threading.Thread(target=poster)
    thread.start()
    for i in range(500):
        assert bare.until(lib.RIO_PORT_POST)[2] == i
        turn.release()
    thread.join()
    assert done.is_set()


@with_posix_signals
def test_a_signal_ends_the_sleep_with_nothing(bare):
    received = []
    old = signal.signal(signal.SIGUSR1, lambda *_: received.append(1))
    events = ffi.new("rio_port_event[4]")
    main, ended = threading.main_thread().ident, threading.Event()

    def send():  # until one has come while it slept: before that it ends nothing
        while not ended.wait(0.03):
            signal.pthread_kill(main, signal.SIGUSR1)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        start = time.monotonic()
        assert bare.table.wait(bare.port, events, 4, int(SECONDS * 1e9)) == 0
        assert time.monotonic() - start < SECONDS / 2
        assert received
    finally:
        ended.set()
        sender.join()
        signal.signal(signal.SIGUSR1, old)


def test_a_wait_returns_no_more_than_asked(bare):
    pairs = [bare.pair("unix") for _ in range(10)]
    for i, (ours, peer) in enumerate(pairs):
        assert bare.table.watch(bare.port, ours.fileno(), lib.RIO_WATCH_READ, i) == 0
        peer.send(b"x")
    events = ffi.new("rio_port_event[16]")
    keys = set()
    end = time.monotonic() + SECONDS
    while len(keys) < 10:  # fair as well: all get their turn though three are asked at a time
        assert time.monotonic() < end, keys
        count = bare.table.wait(bare.port, events, 3, 10**8)
        assert 0 <= count <= 3
        for i in range(count):
            keys.add(events[i].key)
            pairs[events[i].key][0].recv(1)


@pytest.mark.parametrize("size", [1, 2])
def test_a_wait_for_one_loses_nothing(bare, size):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8)) == 0
    assert bare.rio.RIONotify(queue) == 0
    ours, other = bare.pair("unix")
    assert bare.table.watch(bare.port, ours.fileno(), lib.RIO_WATCH_READ, 1) == 0
    peer.sendall(b"x")
    other.send(b"y")
    assert bare.table.post(bare.port, 9) == 0
    kinds = set()
    events = ffi.new("rio_port_event[2]")
    end = time.monotonic() + SECONDS
    while kinds != {lib.RIO_PORT_NOTIFY, lib.RIO_PORT_READY, lib.RIO_PORT_POST}:
        assert time.monotonic() < end, kinds
        count = bare.table.wait(bare.port, events, size, 10**7)
        kinds |= {events[i].kind for i in range(count)}


def test_no_room_for_events_is_invalid(bare):
    events = ffi.new("rio_port_event[1]")
    assert bare.table.wait(bare.port, events, 0, 0) in {0, -lib.RIO_EINVAL}
    assert bare.table.wait(bare.port, NULL, 4, 0) in {-lib.RIO_EFAULT, -lib.RIO_EINVAL}


def test_unknown_options_are_refused(bare):
    assert not bare.table.create(ffi.new("rio_port_options *", (0, 1)))
    assert bare.error() == lib.RIO_EINVAL
    for depth in (1, 8, 32768):
        port = bare.table.create(ffi.new("rio_port_options *", (depth, 0)))
        assert port, depth
        bare.table.close(port)


def test_ports_come_and_go(bare):
    before = descriptors_in_use()
    for _ in range(100):
        bare.table.close(bare.new_port())
    assert descriptors_in_use() == before


class TestThreads:
    def test_a_parked_port_goes_on_in_another_thread_and_a_third(self, bare):
        requests, queue, _, peer = bare.connection()
        region = bare.region()
        for i in range(4):
            assert bare.receive(requests, region.buf(i * 100, 100), i) == 0
        bare.wait(0)
        failures = []

        def turn(i):
            try:
                peer.sendall(b"%d" % i)
                assert [r.context for r in bare.collect(queue, 1)] == [i]
                assert bare.send(requests, region.buf(0, 1), 10 + i) == 0
                assert [r.context for r in bare.collect(queue, 1)] == [10 + i]
                assert bare.table.post(bare.port, i) == 0
                assert bare.until(lib.RIO_PORT_POST)[2] == i
                assert bare.table.park(bare.port) == 0
            except BaseException as failure:
                failures.append(failure)

        assert bare.table.park(bare.port) == 0
        for i in range(3):
            thread = threading.Thread(target=turn, args=(i,))
            thread.start()
            thread.join()
        assert not failures, failures
        peer.sendall(b"home")
        assert [r.context for r in bare.collect(queue, 1)] == [3]
        assert len(peer.recv(10)) == 3

    def test_park_with_everything_in_flight(self, bare):
        """Accepts, connects, watches, receives and stuck sends outlive the thread they began in."""
        import socket

        listener = socket.create_server(("127.0.0.1", 0))
        bare.keep(listener)
        requests, queue, _, peer = bare.connection()
        region = bare.region(8 << 20)
        watched, other = bare.pair("unix")
        first = []

        def begin():
            first.append(bare.table.accept(bare.port, listener.fileno(), 1))
            first.append(bare.table.watch(bare.port, watched.fileno(), lib.RIO_WATCH_READ, 2))
            first.append(bare.receive(requests, region.buf(0, 100), 1))
            first.append(bare.send(requests, region.buf(4096, 4 << 20), 2))
            bare.wait(0.01)
            first.append(bare.table.park(bare.port))

        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
        assert first == [0] * 5
        with socket.create_connection(listener.getsockname()):
            assert bare.until(lib.RIO_PORT_ACCEPT)[1:3] == (0, 1)
        other.send(b"x")
        assert bare.until(lib.RIO_PORT_READY)[2] == 2
        assert bare.table.watch(bare.port, watched.fileno(), 0, 0) == 0
        peer.sendall(b"y")
        assert bare.collect(queue, 1) == [(0, 1, 0, 1)]
        reader = threading.Thread(target=read_all, args=(peer, 4 << 20))
        reader.start()
        assert bare.collect(queue, 1) == [(0, 4 << 20, 0, 2)]
        reader.join()

    def test_a_port_may_be_used_first_by_another_thread(self, bare):
        kinds = []

        def first_use():
            bare.table.post(bare.port, 1)
            kinds.append(bare.until(lib.RIO_PORT_POST)[0])
            bare.table.park(bare.port)

        thread = threading.Thread(target=first_use)
        thread.start()
        thread.join()
        assert kinds == [lib.RIO_PORT_POST]

    def test_parking_again_and_again_is_harmless(self, bare):
        for _ in range(3):
            assert bare.table.park(bare.port) == 0
        assert bare.wait(0) == []

    def test_closing_after_the_thread_has_ended(self, bare):
        requests, _, _, _ = bare.connection()
        region = bare.region()

        def use():
            bare.receive(requests, region.buf(0, 8))
            bare.wait(0)
            bare.table.park(bare.port)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        bare.close_port()

    def test_posting_while_the_port_closes(self, provider):
        """Another thread cannot know that the port is gone: it gets a refusal, never a crash."""
        isolated(post_while_closing, provider.name)


def post_while_closing(name):
    from zerio_asyncio.rio import by_name

    provider = by_name(name)
    for _ in range(60):
        port = provider.c.port.create(ffi.NULL)
        stop = threading.Event()

        def poster(port=port, stop=stop):
            while not stop.is_set():
                assert provider.c.port.post(port, 1) in {0, lib.RIO_EINVAL}

        thread = threading.Thread(target=poster)
        thread.start()
        time.sleep(0.001)
        provider.c.port.close(port)
        time.sleep(0.001)
        stop.set()
        thread.join()


class TestClass:
    def test_events_are_typed(self, port):
        port.post(2**64 - 1)
        (event,) = port.wait(1)
        assert (event.kind, event.key, event.error, event.queue) == (
            Kind.POST,
            2**64 - 1,
            None,
            None,
        )
        with pytest.raises(ValueError, match="has no socket"):
            event.take_socket()

    @pytest.mark.parametrize("timeout", [-1, float("nan"), -0.001])
    def test_timeouts_are_seconds_from_nought(self, port, timeout):
        with pytest.raises(ValueError, match="timeout"):
            port.wait(timeout)

    def test_giant_timeouts_are_cut_and_wait(self, port):
        threading.Timer(0.02, port.post).start()
        assert [event.kind for event in port.wait(1e300)] == [Kind.POST]

    @pytest.mark.parametrize("most", [0, -1, 1025])
    def test_events_have_a_limit(self, port, most):
        with pytest.raises(ValueError, match="most"):
            port.wait(0, most)

    def test_a_closed_port_says_so(self, provider):
        port = CompletionPort(provider)
        port.close()
        port.close()
        assert port.closed
        for call in (port.wait, port.post, port.park, port.statistics, port.pending):
            with pytest.raises(ValueError, match="port is closed"):
                call()
        with pytest.raises(ValueError, match="port is closed"):
            _ = port.address

    def test_an_unclosed_port_warns(self, provider):
        port = CompletionPort(provider)
        with pytest.warns(ResourceWarning, match="unclosed"):
            del port

    def test_addresses_are_integers(self, port, provider):
        assert port.address > 0
        assert provider.address > 0
        assert ffi.cast("rio_provider *", provider.address).name == provider.c.name

    def test_what_is_no_provider(self):
        with pytest.raises(TypeError):
            CompletionPort(5)
        with pytest.raises(ValueError, match="no provider is called 'nonesuch'"):
            CompletionPort("nonesuch")
