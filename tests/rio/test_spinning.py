"""Ports that poll before they sleep, or never sleep (the option ``spin_ns``)."""

import math
import signal
import socket
import threading
import time

import pytest

from tests.rio.bare import SECONDS, pattern, read_all, reset
from tests.rio.isolated import isolated
from tests.rio.marks import with_fork, with_posix_signals
from zerio_asyncio.rio import CompletionPort, CompletionQueue, Kind
from zerio_asyncio.rio._rio import ffi, lib

EVER = -1
TURN_NS = 1_000_000  # RIO_SPIN_TURN_NS


@pytest.fixture(params=[EVER, 1, 100_000, 2**63 - 1], ids=["ever", "1ns", "100us", "century"])
def spinning(bare, request):
    """The same, but its port polls."""
    bare.close_port()
    bare.port = bare.table.create(ffi.new("rio_port_options *", {"spin_ns": request.param}))
    assert bare.port
    return bare


def until(bare, kind):
    """The event of this kind; nothing else comes, and waits may return with nothing before it."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        events = bare.wait(0.5)
        if events:
            assert [event[0] for event in events] == [kind]
            return events[0]
    raise AssertionError(f"no event of kind {kind}")


def test_a_timeout_is_not_exceeded_by_looking_for_signals(spinning):
    events = ffi.new("rio_port_event[4]")
    for timeout_ns in (1, 999, 50_000, 2 * TURN_NS):
        assert spinning.table.wait(spinning.port, events, 4, timeout_ns) == 0
    spinning.quiet()


def test_polling_for_ever_returns_for_signals(spinning):
    """Without a timeout, too: nothing else ends polling."""
    timer = threading.Timer(0.02, spinning.table.post, (spinning.port, 9))
    timer.start()
    events = ffi.new("rio_port_event[4]")
    count = 0
    while count == 0:
        count = spinning.table.wait(spinning.port, events, 4, -1)
    assert (count, events[0].kind, events[0].key) == (1, lib.RIO_PORT_POST, 9)
    timer.join()


def test_posts_wake_each_wait(spinning):
    turn = threading.Semaphore(0)

    def poster():
        for number in range(300):
            assert spinning.table.post(spinning.port, number) == 0
            assert turn.acquire(timeout=SECONDS)

    thread = threading.Thread(target=poster)
    thread.start()
    for number in range(300):
        assert until(spinning, lib.RIO_PORT_POST)[2] == number
        turn.release()
    thread.join()


@pytest.mark.parametrize("connections", [1, 3, 20])
def test_messages_back_and_forth(spinning, connections):
    queue = spinning.queue(512)
    region = spinning.region()
    pairs = [spinning.pair("tcp") for _ in range(connections)]
    requests = [spinning.requests(ours, queue, context=i) for i, (ours, _) in enumerate(pairs)]
    for turn in range(30):
        for i, each in enumerate(requests):
            assert spinning.receive(each, region.buf(i * 1024, 1024), turn) == 0
        spinning.wait(0.0001 * (turn % 3))  # polled already, or handed to the kernel, or neither
        for i, (_, peer) in enumerate(pairs):
            peer.sendall(b"%d:%d" % (i, turn))
        got = {}
        for result in spinning.collect(queue, connections):
            start = result.socket_context * 1024
            got[result.socket_context] = region.memory[start : start + result.bytes]
            assert (result.status, result.context) == (0, turn)
        assert got == {i: b"%d:%d" % (i, turn) for i in range(connections)}
        for i, each in enumerate(requests):
            assert spinning.send(each, region.buf(i * 1024, 2), 99) == 0
        assert [r.status for r in spinning.collect(queue, connections)] == [0] * connections
        for i, (_, peer) in enumerate(pairs):
            assert read_all(peer, 2) == (b"%d:%d" % (i, turn))[:2]


@pytest.mark.parametrize("kind", ["tcp", "unix", "udp"])
def test_several_receives_come_in_order(spinning, kind):
    requests, queue, _, peer = spinning.connection(kind)
    region = spinning.region()
    for turn in range(8):
        assert spinning.receive(requests, region.buf(turn * 4, 4), turn) == 0
    spinning.wait(0.0005)
    for turn in range(8):
        peer.send(b"%04d" % turn)
    results = spinning.collect(queue, 8)
    assert [(r.status, r.bytes, r.context) for r in results] == [(0, 4, i) for i in range(8)]
    assert region.memory[:32] == b"".join(b"%04d" % turn for turn in range(8))


def test_a_receive_of_all_waits_for_all(spinning):
    requests, queue, _, peer = spinning.connection()
    region = spinning.region()
    data = pattern(40_000)
    assert spinning.receive(requests, region.buf(0, 40_000), 1, lib.RIO_MSG_WAITALL) == 0
    for start in range(0, 40_000, 10_000):
        assert spinning.dequeue(queue) == []
        peer.sendall(data[start : start + 10_000])
        spinning.wait(0.002)
    assert spinning.collect(queue, 1) == [(0, 40_000, 0, 1)]
    assert region.memory[:40_000] == data


def test_a_question_for_bytes_is_answered_and_takes_none(spinning):
    if not spinning.provider.receives_memory:
        pytest.skip("the provider receives into registered memory alone")
    requests, queue, _, peer = spinning.connection()
    region = spinning.region()
    assert spinning.provider.c.receive_memory(requests, ffi.NULL, 0, 0, ffi.NULL)
    spinning.wait(0.0005)
    assert spinning.dequeue(queue) == []
    peer.sendall(b"here")
    assert spinning.collect(queue, 1) == [(0, 0, 0, 0)]
    assert spinning.receive(requests, region.buf(0, 16), 1) == 0
    assert spinning.collect(queue, 1) == [(0, 4, 0, 1)]


@pytest.mark.parametrize("ending", ["end", "reset"])
@pytest.mark.parametrize("early", [True, False], ids=["early", "late"])
def test_the_end_of_a_connection(spinning, ending, early):
    requests, queue, _, peer = spinning.connection()
    region = spinning.region()
    assert spinning.receive(requests, region.buf(0, 16), 1) == 0
    if not early:
        spinning.wait(0.003)
    if ending == "end":
        peer.shutdown(socket.SHUT_WR)
        expected = (0, 0, 0, 1)
    else:
        reset(peer)
        expected = (lib.RIO_ECONNRESET, 0, 0, 1)
    assert spinning.collect(queue, 1) == [expected]


def test_sends_beyond_the_sockets_room_while_a_receive_is_polled(spinning):
    requests, queue, _, peer = spinning.connection()
    region = spinning.region(4 << 20)
    region.memory[:] = pattern(4 << 20)
    assert spinning.receive(requests, region.buf(0, 16), 1) == 0
    assert spinning.send(requests, region.buf(16, (4 << 20) - 16), 2) == 0
    spinning.wait(0.002)
    got = []
    reader = threading.Thread(target=lambda: got.append(read_all(peer, (4 << 20) - 16)))
    reader.start()
    assert spinning.collect(queue, 1) == [(0, (4 << 20) - 16, 0, 2)]
    reader.join()
    assert got[0] == pattern(4 << 20)[16:]
    peer.sendall(b"thanks")
    assert spinning.collect(queue, 1) == [(0, 6, 0, 1)]


@pytest.mark.parametrize("waits", [0, 1, 3])
def test_a_socket_is_retired_while_its_receive_is_polled(spinning, waits):
    queue = spinning.queue(256)
    region = spinning.region()
    pairs = [spinning.pair() for _ in range(3)]
    requests = [spinning.requests(ours, queue, context=i) for i, (ours, _) in enumerate(pairs)]
    for each in requests:
        assert spinning.receive(each, region.buf(0, 16)) == 0
    for _ in range(waits):
        spinning.wait(0.0002)
    spinning.retire(pairs[1][0])
    pairs[1][0].close()
    aborted = spinning.collect(queue, 1)
    assert [(r.status, r.socket_context) for r in aborted] == [(lib.RIO_OPERATION_ABORTED, 1)]
    assert pairs[1][1].recv(10) == b""
    for i in (0, 2):
        pairs[i][1].sendall(b"alive")
    assert sorted(r.socket_context for r in spinning.collect(queue, 2)) == [0, 2]


def test_what_the_last_look_made_due_is_handed_over_before_the_sleep(bare):
    """A result that tells nobody makes room for the next receive, when there is no time to look."""
    bare.close_port()
    bare.port = bare.table.create(ffi.new("rio_port_options *", {"spin_ns": 1}))
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8), 1, lib.RIO_MSG_DONT_NOTIFY) == 0
    assert bare.receive(requests, region.buf(8, 8), 2) == 0
    assert bare.rio.RIONotify(queue) == 0
    assert bare.wait(0) == []
    peer.sendall(b"quiet")
    timer = threading.Timer(0.05, peer.sendall, (b"loud",))
    timer.start()
    events = ffi.new("rio_port_event[4]")
    end = time.monotonic() + SECONDS
    while bare.table.wait(bare.port, events, 4, int(SECONDS * 1e9)) == 0:
        assert time.monotonic() < end, "it slept over the second receive"
    assert events[0].kind == lib.RIO_PORT_NOTIFY
    assert [(r.bytes, r.context) for r in bare.dequeue(queue)] == [(5, 1), (4, 2)]
    timer.join()


def test_everything_else_that_a_port_reports(spinning):
    listener = socket.create_server(("127.0.0.1", 0))
    spinning.keep(listener)
    watched, other = spinning.pair("unix")
    assert spinning.table.accept(spinning.port, listener.fileno(), 1) == 0
    spinning.wait(0.002)
    with socket.create_connection(listener.getsockname()):
        event = until(spinning, lib.RIO_PORT_ACCEPT)
        assert event[1:3] == (0, 1)
        socket.socket(fileno=event[3]).close()
    assert spinning.table.accept_stop(spinning.port, listener.fileno()) == 0
    assert spinning.table.watch(spinning.port, watched.fileno(), lib.RIO_WATCH_READ, 2) == 0
    spinning.wait(0.002)
    other.send(b"x")
    assert until(spinning, lib.RIO_PORT_READY)[2] == 2
    watched.recv(1)
    assert spinning.table.watch(spinning.port, watched.fileno(), 0, 0) == 0
    spinning.quiet()


def test_a_parked_port_goes_on_in_another_thread(spinning):
    requests, queue, _, peer = spinning.connection()
    region = spinning.region()
    failures = []

    def turn(number):
        try:
            spinning.wait(0.0002)
            peer.sendall(b"%d" % number)
            assert [r.context for r in spinning.collect(queue, 1)] == [number]
            assert spinning.table.park(spinning.port) == 0
        except BaseException as failure:
            failures.append(failure)

    for number in range(4):
        assert spinning.receive(requests, region.buf(number * 16, 16), number) == 0
    for number in range(4):
        thread = threading.Thread(target=turn, args=(number,))
        thread.start()
        thread.join()
    assert not failures, failures
    assert region.memory[:64:16] == b"0123"


def test_a_port_closes_with_a_receive_that_is_polled(spinning):
    requests, _, _, _ = spinning.connection()
    region = spinning.region()
    assert spinning.receive(requests, region.buf(0, 16)) == 0
    spinning.wait(0.0001)
    spinning.close_port()


def test_what_polling_costs_in_system_calls(bare):
    """A ring shows in shared memory what is done; every other system has to be asked."""
    bare.close_port()
    bare.port = bare.table.create(ffi.new("rio_port_options *", {"spin_ns": EVER}))
    bare.wait(0)
    before = bare.statistics().system_calls
    bare.quiet(0.05)
    calls = bare.statistics().system_calls - before
    assert calls == 0 if bare.provider.name == "uring" else calls > 10


@with_fork
def test_a_child_is_kept_out(provider):
    isolated(fork_while_spinning, provider.name)


def fork_while_spinning(name):
    import os

    with CompletionPort(name, spin=math.inf) as port:
        port.wait(0.002)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                port.wait(0.01)
            except OSError:
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        port.post(3)
        assert [event.key for event in port.wait(1)] == [3]


class TestClass:
    @pytest.mark.parametrize("spin", [0, 1e-9, 0.001, 1e300, math.inf])
    def test_seconds_that_it_polls(self, provider, spin):
        with CompletionPort(provider, spin=spin) as port:
            start = time.monotonic()
            assert port.wait(0.02) == []
            assert time.monotonic() - start >= 0.015
            threading.Timer(0.02, port.post, (4,)).start()
            assert [(event.kind, event.key) for event in port.wait()] == [(Kind.POST, 4)]

    @pytest.mark.parametrize("spin", [-1, -1e-9, math.nan, -math.inf])
    def test_less_than_nothing_is_refused(self, provider, spin):
        with pytest.raises(ValueError, match="spin must be 0 or more seconds"):
            CompletionPort(provider, spin=spin)

    @with_posix_signals
    def test_handlers_run_while_it_polls(self, provider):
        seen = []
        old = signal.signal(signal.SIGUSR1, lambda *_: (seen.append(1), port.post(1)))
        main = threading.main_thread().ident
        try:
            with CompletionPort(provider, spin=math.inf) as port:
                threading.Timer(0.02, signal.pthread_kill, (main, signal.SIGUSR1)).start()
                assert [event.kind for event in port.wait()] == [Kind.POST]
            assert seen == [1]
        finally:
            signal.signal(signal.SIGUSR1, old)

    def test_queues_report_to_it(self, provider):
        with CompletionPort(provider, spin=math.inf) as port:
            queue = CompletionQueue(16, port)
            queue.notify()
            assert port.wait(0.005) == []
            port.post()
            assert [event.kind for event in port.wait(1)] == [Kind.POST]
