"""More than fits: shallow submission queues, many sockets, no descriptors, missing system calls."""

import os
import socket
import time

import pytest

from tests.rio.bare import NULL, SECONDS, Bare
from tests.rio.isolated import isolated
from tests.rio.marks import with_descriptor_limit, with_seccomp
from tests.rio.seccomp import forbid
from zerio_asyncio.rio import by_name
from zerio_asyncio.rio._rio import ffi, lib

SHALLOW = 8  # entries of the submission queue, the least that LoopOptions allows
MANY = 150  # sockets: many times that


@pytest.fixture
def shallow(bare):
    """The same, but its port has a shallow submission queue."""
    bare.close_port()
    bare.port = bare.table.create(ffi.new("rio_port_options *", (SHALLOW, 0)))
    assert bare.port
    return bare


@pytest.fixture
def crowd(shallow):
    """Many connections on one completion queue, each with its socket context."""
    queue = shallow.queue(MANY * 16)
    pairs = [shallow.pair("unix") for _ in range(MANY)]
    requests = [shallow.requests(pair[0], queue, context=i) for i, pair in enumerate(pairs)]
    return queue, pairs, requests


def test_more_receives_than_submissions(shallow, crowd):
    queue, pairs, requests = crowd
    region = shallow.region()
    for turn in range(3):
        for i, each in enumerate(requests):
            assert shallow.receive(each, region.buf(i * 16, 16), turn) == 0
        for i, (_, peer) in enumerate(pairs):
            peer.send(b"%d:%d" % (turn, i))
        results = shallow.collect(queue, MANY)
        assert sorted(r.socket_context for r in results) == list(range(MANY))
        for result in results:
            assert (result.status, result.context) == (0, turn)
            at = result.socket_context * 16
            expected = b"%d:%d" % (turn, result.socket_context)
            assert region.memory[at : at + result.bytes] == expected


def test_more_sends_than_submissions(shallow, crowd):
    queue, pairs, requests = crowd
    region = shallow.region()
    region.memory[:16] = b"sixteen bytes..."
    for each in requests:
        for i in range(8):
            assert shallow.send(each, region.buf(i * 2, 2), i) == 0
    results = shallow.collect(queue, MANY * 8)
    for socket_context in range(MANY):
        mine = [r.context for r in results if r.socket_context == socket_context]
        assert mine == list(range(8))
    for _, peer in pairs:
        assert peer.recv(100) == b"sixteen bytes..."


@pytest.mark.parametrize("waited", [True, False], ids=["in kernel", "unsubmitted"])
def test_retiring_more_than_submissions(shallow, crowd, waited):
    queue, pairs, requests = crowd
    region = shallow.region(1 << 20)
    for i, each in enumerate(requests):
        assert shallow.receive(each, region.buf(0, 16), 1000 + i) == 0
        assert shallow.send(each, region.buf(0, 1 << 20), 2000 + i) == 0
    if waited:
        shallow.wait(0)
    for ours, _ in pairs:
        shallow.retire(ours)
        ours.close()
    results = shallow.collect(queue, MANY * 2)
    assert {r.status for r in results if r.context < 2000} == {lib.RIO_OPERATION_ABORTED}
    expected = [*range(1000, 1000 + MANY), *range(2000, 2000 + MANY)]
    assert sorted(r.context for r in results) == expected


def test_closing_with_more_than_submissions(shallow, crowd):
    _, pairs, requests = crowd
    region = shallow.region()
    region.memory[:] = b"\xee" * len(region.memory)
    for i, each in enumerate(requests):
        assert shallow.receive(each, region.buf(i * 16, 16), i) == 0
    shallow.wait(0)
    for i, each in enumerate(requests):
        assert shallow.receive(each, region.buf(i * 16, 16), i) == 0
    shallow.close_port()
    for _, peer in pairs:
        peer.send(b"late")
    time.sleep(0.01)
    assert set(region.memory[:]) == {0xEE}


def test_watching_more_than_submissions(shallow):
    pairs = [shallow.pair("unix") for _ in range(MANY)]
    for key, (ours, peer) in enumerate(pairs):
        assert shallow.table.watch(shallow.port, ours.fileno(), lib.RIO_WATCH_READ, key) == 0
        peer.send(b"x")
    keys = set()
    end = time.monotonic() + SECONDS
    while len(keys) < MANY:
        assert time.monotonic() < end, len(keys)
        for kind, _, key, _ in shallow.wait(0.1):
            assert kind == lib.RIO_PORT_READY
            if key not in keys:
                keys.add(key)
                pairs[key][0].recv(1)
    for ours, _ in pairs:
        assert shallow.table.watch(shallow.port, ours.fileno(), 0, 0) == 0
    shallow.quiet(0.02)


def test_results_that_nobody_waits_for_pile_up_and_are_all_there(bare):
    """More results than any ring of the kernel's holds at first; the last wait finds them all."""
    queue = bare.queue(8192)
    region = bare.region()
    pairs = [bare.pair("unix") for _ in range(100)]
    requests = [bare.requests(pair[0], queue, receives=64, sends=0) for pair in pairs]
    for each in requests:
        for i in range(64):
            assert bare.receive(each, region.buf(i, 1), i) == 0
    bare.wait(0)
    for _, peer in pairs:
        peer.send(b"x" * 64)
    results = []
    end = time.monotonic() + SECONDS
    while len(results) < 6400:
        assert time.monotonic() < end, len(results)
        bare.wait(0)
        results += bare.dequeue(queue, 500)
    assert {(r.status, r.bytes) for r in results} == {(0, 1)}


def test_spinning_needs_no_sleep(bare):
    """pending and wait(0) alone, as a loop that spins does it."""
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    for i in range(50):
        assert bare.receive(requests, region.buf(0, 8), i) == 0
        bare.wait(0)
        peer.send(b"x")
        end = time.monotonic() + SECONDS
        while not (results := bare.dequeue(queue)):
            assert time.monotonic() < end
            bare.wait(0)
        assert [r.context for r in results] == [i]


def test_pending_knows_what_wait_would_find(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.table.post(bare.port, 1) == 0
    assert bare.table.pending(bare.port) == 1
    bare.until(lib.RIO_PORT_POST)
    assert bare.receive(requests, region.buf(0, 8)) == 0
    bare.wait(0)
    assert bare.table.pending(bare.port) == 0
    assert bare.rio.RIONotify(queue) == 0
    peer.send(b"x")
    while not bare.dequeue(queue):
        bare.wait(0.001)
    assert bare.send(requests, region.buf(0, 8)) == 0
    while not bare.dequeue(queue):
        bare.wait(0.001)
    while bare.wait(0):
        pass
    assert bare.table.pending(bare.port) == 0


@with_descriptor_limit
def test_without_descriptors_a_port_is_refused_and_leaves_nothing(provider):
    isolated(no_descriptors, provider.name)


def no_descriptors(name):
    provider = by_name(name)
    bare = Bare(provider)
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(4):  # refused at each of the descriptors that a port needs
        highest = max(int(number) for number in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
        holes = []
        while True:
            try:
                holes.append(os.dup(0))
            except OSError:
                break
        for _ in range(min(spare, len(holes))):
            os.close(holes.pop())
        made = provider.c.port.create(NULL)
        if not made:
            assert lib.rio_last_error() == lib.RIO_EMFILE
        else:
            provider.c.port.close(made)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in holes:
            os.close(number)
    before = len(os.listdir("/proc/self/fd"))
    again = Bare(provider)
    again.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert bare.table.post(bare.port, 1) == 0
    bare.until(lib.RIO_PORT_POST)
    bare.close()


@with_seccomp
def test_an_old_kernel_without_epoll_pwait2(provider):
    """Linux before 5.11, or a filter that does not know the call: timeouts still work."""
    isolated(old_kernel, provider.name)


def old_kernel(name):
    import errno

    forbid(441, errno.ENOSYS)
    bare = Bare(by_name(name))
    start = time.monotonic()
    assert bare.wait(0.0203) == []
    assert time.monotonic() - start >= 0.02
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8), 1) == 0
    peer.send(b"x")
    assert bare.collect(queue, 1) == [(0, 1, 0, 1)]
    bare.close()


def test_one_endless_sender_does_not_starve_the_others(bare):
    queue = bare.queue(4096)
    region = bare.region(1 << 20)
    greedy_ours, greedy = bare.pair()
    busy = bare.requests(greedy_ours, queue, receives=64, context=1)
    greedy.setblocking(False)
    ours, peer = bare.pair()
    calm = bare.requests(ours, queue, context=2)
    assert bare.receive(calm, region.buf(1 << 19, 10), 0) == 0
    for i in range(64):
        assert bare.receive(busy, region.buf(i * 4096, 4096), i) == 0
    peer.send(b"calm")
    seen = False
    for _ in range(2000):
        try:
            greedy.send(bytes(65536))
        except BlockingIOError:
            pass
        bare.wait(0)
        for result in bare.dequeue(queue):
            if result.socket_context == 2:
                seen = True
                assert (result.status, result.bytes) == (0, 4)
            else:
                at = result.context * 4096
                assert bare.receive(busy, region.buf(at, 4096), result.context) == 0
        if seen:
            return
    pytest.fail("the calm connection starved")


def test_many_listeners_and_connects_with_a_shallow_queue(shallow):
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(20)]
    shallow.keep(*listeners)
    for key, listener in enumerate(listeners):
        assert shallow.table.accept(shallow.port, listener.fileno(), key) == 0
    clients = []
    for key, listener in enumerate(listeners * 3):
        made = socket.socket()
        made.setblocking(False)
        shallow.keep(made)
        clients.append(made)
        raw = socket.inet_aton("127.0.0.1")
        address = socket.AF_INET.to_bytes(2, "little")
        address += listener.getsockname()[1].to_bytes(2, "big") + raw + bytes(8)
        code = shallow.table.connect(shallow.port, made.fileno(), address, 16, 1000 + key)
        assert code == 0
    accepted, ended = [], set()
    end = time.monotonic() + SECONDS
    while len(accepted) < 60 or len(ended) < 60:
        assert time.monotonic() < end, (len(accepted), len(ended))
        for kind, status, key, value in shallow.wait(0.1):
            assert status == 0
            if kind == lib.RIO_PORT_ACCEPT:
                shallow.keep(socket.socket(fileno=value))
                accepted.append(key)
            else:
                ended.add(key)
    assert sorted(accepted) == sorted([*range(20)] * 3)
    for listener in listeners:
        assert shallow.table.accept_stop(shallow.port, listener.fileno()) == 0


@with_descriptor_limit
@pytest.mark.parametrize("locked", [8 << 20, 64 << 10, 0])
def test_what_the_probe_says_holds_under_a_limit_of_locked_memory(provider, locked):
    """Common limits are 8 MiB and 64 KiB; root knows none, so the test is somebody else."""
    isolated(locked_memory, provider.name, locked)


def locked_memory(name, locked):
    provider = by_name(name)
    import resource

    resource.setrlimit(resource.RLIMIT_MEMLOCK, (locked, locked))
    if os.getuid() == 0:
        # Locked memory is counted by user: one that no other run of this suite is.
        os.setgid(65534)
        os.setuid(100_000 + os.getpid())
    refusal = provider.probe()
    if refusal is not None:
        assert locked == 0, f"refused with {locked} bytes: {refusal}"
        assert not provider.c.port.create(NULL)
        return
    if locked < 8 << 20:
        # The kernel gives a ring's memory back in its own time, behind all rings that are closed
        # anywhere on the machine: that of the probe may still be counted. Then the code is clear.
        spare = provider.c.port.create(NULL)
        if not spare:
            assert lib.rio_last_error() == lib.RIO_ENOBUFS
            return
        provider.c.port.close(spare)
        return
    bare = Bare(provider)
    requests, queue, _, peer = bare.connection("unix")  # needs no module that nobody may read
    region = bare.region(1 << 20)
    assert bare.receive(requests, region.buf(0, 100), 1) == 0
    peer.send(b"x")
    assert bare.collect(queue, 1) == [(0, 1, 0, 1)]
    bare.close()
    deep = provider.c.port.create(ffi.new("rio_port_options *", (1024, 0)))
    assert deep, lib.rio_last_error()
    provider.c.port.close(deep)


@with_descriptor_limit
@pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""),
    reason="the address sanitizer ends a program that finds no memory",
)
def test_the_first_send_finds_no_memory(provider):
    """It is refused, and nothing else is different: there is room later."""
    isolated(send_without_memory, provider.name)


def send_without_memory(name):
    import resource

    bare = Bare(by_name(name))
    many = 1 << 18  # whose memory the system is asked for, however much of it lies free here
    ours, peer = bare.pair("unix")
    queue, region = bare.queue(2 * many), bare.region()
    requests = bare.requests(ours, queue, receives=1, sends=many)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as sizes:
        used = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), before[1]))
    try:
        for _ in range(2):
            assert bare.send(requests, region.buf(0, 8), 1) == lib.RIO_ENOBUFS
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert bare.send(requests, region.buf(0, 8), 2) == 0
    assert bare.collect(queue, 1) == [(0, 8, 0, 2)]
    assert len(peer.recv(100)) == 8
    bare.close()
