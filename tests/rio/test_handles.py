"""Whatever is passed as a handle, an offset or a flag: a documented error, never a crash (rule 13).

The storms run in processes of their own, so that a crash is one red line with its example.
"""

import itertools
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.rio.bare import NULL, Bare
from tests.rio.isolated import isolated
from zerio_asyncio.rio import by_name
from zerio_asyncio.rio._rio import ffi, lib

WRONG = [0, 1, 7, 8, 0xFFFFFFFF, 2**32, 2**47, 2**63, 2**64 - 8, 2**64 - 1]


def every_entry(bare, cq, rq, port, buf):
    """(name, refused code or 0) of every entry with these handles; nothing else is wrong."""
    rio, table = bare.rio, bare.table
    results = ffi.new("RIORESULT[4]")
    events = ffi.new("rio_port_event[4]")
    ours = bare.spare.fileno()

    def true(answer):
        return 0 if answer else bare.error()

    yield "receive", true(rio.RIOReceive(rq, buf, 1, 0, NULL))
    yield "send", true(rio.RIOSend(rq, buf, 1, 0, NULL))
    yield "commit", true(rio.RIOSend(rq, NULL, 0, lib.RIO_MSG_COMMIT_ONLY, NULL))
    yield "receive_ex", true(rio.RIOReceiveEx(rq, buf, 1, NULL, buf, NULL, NULL, 0, NULL))
    yield "send_ex", true(rio.RIOSendEx(rq, buf, 1, NULL, buf, NULL, NULL, 0, NULL))
    yield "resize_rq", true(rio.RIOResizeRequestQueue(rq, 4, 4))
    yield "notify", rio.RIONotify(cq)
    yield "resize_cq", true(rio.RIOResizeCompletionQueue(cq, 64))
    made = rio.RIOCreateRequestQueue(ours, 1, 1, 1, 1, cq, cq, NULL)
    yield "create_rq", true(made)
    count = rio.RIODequeueCompletion(cq, results, 4)
    yield "dequeue", bare.error() if count == lib.RIO_CORRUPT_CQ else 0
    yield "wait", -min(table.wait(port, events, 4, 0), 0)
    yield "post", table.post(port, 1)
    yield "watch", table.watch(port, ours, 1, 1)
    yield "unwatch", table.watch(port, ours, 0, 0)
    yield "accept", table.accept(port, ours, 1)
    yield "accept_stop", table.accept_stop(port, ours)
    yield "connect", table.connect(port, ours, bytes(16), 16, 1)
    yield "connect_stop", table.connect_stop(port, ours)
    yield "retire", table.retire(port, ours)
    yield "park", table.park(port)
    yield "statistics", table.statistics(port, ffi.new("rio_port_statistics *"))
    assert table.pending(port) in {0, 1}


def handles(value):
    return (
        ffi.cast("RIO_CQ", value),
        ffi.cast("RIO_RQ", value),
        ffi.cast("rio_port *", value),
    )


def expect_refusals(answers, codes=frozenset({lib.RIO_EINVAL})):
    for name, code in answers:
        allowed = codes | ({lib.RIO_EFAULT} if name in {"receive", "send"} else set())
        assert code in allowed, f"{name} answered {code}"


@pytest.fixture
def target(bare):
    bare.spare = socket.socket()
    bare.keep(bare.spare)
    return bare


@pytest.mark.parametrize("value", WRONG, ids=hex)
def test_bits_that_are_no_handle(target, value):
    buf = target.region(4096).buf(0, 64)
    expect_refusals(every_entry(target, *handles(value), buf))


def test_handles_of_another_kind(target):
    requests, queue, _, _ = target.connection()
    region = target.region()
    as_number = [int(ffi.cast("uintptr_t", h)) for h in (queue, requests, target.port, region.id)]
    cq, rq, port, buffer = as_number
    buf = region.buf(0, 64)
    for wrong in (port, buffer):
        cq_, rq_, _ = handles(wrong)
        answers = every_entry(target, cq_, rq_, ffi.cast("rio_port *", cq), buf)
        expect_refusals(answers)
    answers = every_entry(target, *handles(rq)[:1], *handles(cq)[1:], buf)
    expect_refusals(answers)
    for wrong in as_number[:3]:
        data = ffi.new("RIO_BUF *", (ffi.cast("RIO_BUFFERID", wrong), 0, 8))
        assert target.send(requests, data) == lib.RIO_EFAULT
        target.rio.RIODeregisterBuffer(ffi.cast("RIO_BUFFERID", wrong))
    target.rio.RIOCloseCompletionQueue(ffi.cast("RIO_CQ", rq))
    assert target.send(requests, buf, 5) == 0  # and nothing of it was harmed
    assert target.collect(queue, 1) == [(0, 64, 0, 5)]


def test_closed_handles(target):
    requests, queue, ours, _ = target.connection()
    port = target.new_port()
    target.table.close(port)
    target.retire(ours)
    target.rio.RIOCloseCompletionQueue(queue)
    buf = target.region(4096).buf(0, 64)
    expect_refusals(
        every_entry(target, queue, requests, port, buf),
        frozenset({lib.RIO_EINVAL, lib.RIO_OPERATION_ABORTED}),
    )
    target.table.close(port)
    target.table.close(NULL)


def test_queues_of_two_ports_do_not_mix(bare):
    other = Bare(bare.provider)
    try:
        ours, _ = bare.pair()
        theirs = other.queue()
        mine = bare.queue()
        made = bare.rio.RIOCreateRequestQueue(ours.fileno(), 1, 1, 1, 1, mine, theirs, NULL)
        assert not made
        assert bare.error() == lib.RIO_EINVAL
    finally:
        other.close()


def test_handles_of_another_provider_are_foreign(bare):
    from zerio_asyncio.rio import available

    for provider in available():
        if provider is bare.provider:
            continue
        other = Bare(provider)
        try:
            ours, _ = bare.pair()
            theirs = other.queue()
            mine = bare.queue()
            for queue in (theirs, mine):
                rio = other.rio if queue == mine else bare.rio
                made = rio.RIOCreateRequestQueue(ours.fileno(), 1, 1, 1, 1, queue, queue, NULL)
                assert not made
                assert bare.error() == lib.RIO_EINVAL
            events = ffi.new("rio_port_event[1]")
            assert other.table.wait(bare.port, events, 1, 0) == -lib.RIO_EINVAL
            assert not other.rio.RIOCreateCompletionQueue(8, bare.notification())
            assert bare.error() == lib.RIO_EINVAL
        finally:
            other.close()


@pytest.mark.parametrize("storm", ["random_handles", "random_requests"])
def test_storms(provider, storm):
    isolated(globals()[storm], provider.name)


# What follows runs in a process of its own. `derandomize`: a red test stays red.
STORM = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def random_handles(name):
    bare = Bare(by_name(name))
    bare.spare = socket.socket()
    requests, queue, _, _ = bare.connection()
    region = bare.region(4096)
    real = [int(ffi.cast("uintptr_t", h)) for h in (queue, requests, bare.port, region.id)]
    buf = region.buf(0, 64)
    near = st.builds(
        lambda base, delta, bit: ((base + delta) ^ (1 << bit)) & (2**64 - 1),
        st.sampled_from(real),
        st.integers(-64, 64),
        st.integers(0, 63),
    )

    @STORM
    @given(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 2**16), near))
    def storm(value):
        if value in real:
            return
        expect_refusals(every_entry(bare, *handles(value), buf))
        data = ffi.new("RIO_BUF *", (ffi.cast("RIO_BUFFERID", value), 0, 8))
        assert bare.receive(requests, data) == lib.RIO_EFAULT
        bare.rio.RIODeregisterBuffer(ffi.cast("RIO_BUFFERID", value))
        bare.rio.RIOCloseCompletionQueue(ffi.cast("RIO_CQ", value))
        bare.table.close(ffi.cast("rio_port *", value))

    storm()
    assert bare.send(requests, buf, 5) == 0
    assert bare.collect(queue, 1) == [(0, 64, 0, 5)]
    bare.close()


def random_requests(name):
    """Any arguments on living queues: accepted ones give exactly one result, refused ones none."""
    bare = Bare(by_name(name))
    region = bare.region(4096)
    dead = bare.region(4096)
    bare.rio.RIODeregisterBuffer(dead.id)
    ids = [region.id, dead.id, lib.RIO_INVALID_BUFFERID, NULL]
    sizes = st.one_of(st.integers(0, 5000), st.sampled_from([2**31, 2**32 - 1, 4096, 4095]))
    request = st.tuples(
        st.booleans(),
        st.sampled_from(range(4)),
        sizes,
        sizes,
        st.sampled_from([0, 1, 1, 1, 1, 2, 2**32 - 1]),
        st.one_of(st.integers(0, 15), st.integers(0, 2**32 - 1)),
        st.booleans(),
    )
    counter = itertools.count(1)

    @STORM
    @given(st.lists(request, max_size=20), st.booleans())
    def storm(calls, stream):
        requests, queue, ours, peer = bare.connection("unix" if stream else "udp")
        accepted = []
        for sends, which, offset, length, count, flags, null in calls:
            data = NULL if null else ffi.new("RIO_BUF *", (ids[which], offset, length))
            context = next(counter)
            entry = bare.rio.RIOSend if sends else bare.rio.RIOReceive
            if entry(requests, data, count, flags, ffi.cast("void *", context)):
                assert flags < 8, "unknown flags, or a commit with a context, were accepted"
                accepted.append(context)
            else:
                assert bare.error() in {lib.RIO_EINVAL, lib.RIO_EFAULT, lib.RIO_ENOBUFS}
        bare.wait(0)
        early = bare.dequeue(queue)
        bare.retire(ours)
        results = early + bare.collect(queue, len(accepted) - len(early))
        assert sorted(r.context for r in results) == accepted
        ours.close()
        peer.close()
        bare.rio.RIOCloseCompletionQueue(queue)
        bare._sockets.clear()
        bare._queues.clear()

    storm()
    bare.close()
