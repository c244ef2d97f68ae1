"""The framer in the core: messages out of chunks, whichever way a stream is cut."""

from __future__ import annotations

import gc
import itertools
import struct
import sys
import tracemalloc
import weakref

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zerio_asyncio.messaging.errors import FramingError
from zerio_asyncio.messaging.framing import MessageFramer

from .framing import check, chunks_of, expected, feed
from .support import framed

LIMIT = 100_000


def collecting(limit=LIMIT):
    got = []
    return MessageFramer(lambda view: got.append(bytes(view)), limit), got


messages = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.integers(0, 9000).map(lambda size: bytes(range(256)) * (size // 256) + b"x" * size),
    ),
    max_size=12,
)


@given(messages, st.data())
@settings(deadline=None)
def test_every_cut_of_a_valid_stream_gives_the_same_messages(messages, data):
    stream = b"".join(map(framed, messages))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=30))
    framer, got = collecting()
    assert not feed(framer, chunks_of(stream, cuts))
    assert got == messages
    assert framer.pending == 0


def test_every_pair_of_cuts_of_a_short_stream():
    messages = [b"", b"a", b"bc", b"", b"defghij"]
    stream = b"".join(map(framed, messages))
    for cuts in itertools.combinations_with_replacement(range(len(stream) + 1), 2):
        check(stream, cuts, 7)


def test_one_byte_at_a_time():
    stream = framed(b"first") + framed(b"") + framed(bytes(1000))
    check(stream, range(len(stream)), 1000)


lengths = st.one_of(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-3, 40),
    st.sampled_from([0, 30, 31, 2**31 - 1, -(2**31), -1]),
)


@given(st.lists(st.tuples(lengths, st.binary(max_size=40)), max_size=8), st.data())
@settings(deadline=None)
@example([(2**31 - 1, b"")], None)
@example([(-1, b"x")], None)
def test_hostile_streams_are_cut_off_at_the_bad_length(parts, data):
    stream = b"".join(struct.pack("<i", length) + body for length, body in parts)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20)) if data else []
    check(stream, cuts, 30)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
def test_noise(stream, cuts):
    check(stream, [min(cut, len(stream)) for cut in cuts], 64)


@pytest.mark.parametrize("length", [-1, -(2**31), 101, 2**31 - 1])
def test_the_error_names_the_length(length):
    framer, got = collecting(100)
    with pytest.raises(FramingError, match=str(length)):
        framer.feed(memoryview(framed(b"good") + struct.pack("<i", length)))
    assert got == [b"good"]


def test_memory_grows_with_what_arrives_not_with_what_is_announced():
    framer, _ = collecting(2**31 - 1)
    before = sys.getallocatedblocks()
    for _ in range(3):
        framer.feed(memoryview(struct.pack("<i", 2**31 - 1) + b"some"))
        assert framer.pending == 8
        framer, _ = collecting(2**31 - 1)
    assert sys.getallocatedblocks() - before < 100


def test_views_are_read_only_bytes_in_one_piece():
    seen = []

    def look(view):
        seen.append((view.readonly, view.format, view.itemsize, view.ndim, view.contiguous))
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 1

    framer = MessageFramer(look, LIMIT)
    stream = framed(b"in place") + framed(b"cut")
    framer.feed(memoryview(stream[:-1]))
    framer.feed(memoryview(stream[-1:]))
    assert seen == [(True, "B", 1, 1, True)] * 2


def stream_of(*messages):
    """Cut so that the first and the last straddle, and the others lie whole in the second piece."""
    stream = b"".join(map(framed, messages))
    return memoryview(stream[:5]), memoryview(stream[5:-1]), memoryview(stream[-1:])


def test_a_kept_view_is_released():
    kept = []
    framer = MessageFramer(kept.append, LIMIT)
    for chunk in stream_of(b"one", b"two", b"three", b"four"):
        framer.feed(chunk)
    assert len(kept) == 4
    assert len({id(view) for view in kept}) == 4
    for view in kept:
        with pytest.raises(ValueError, match="released"):
            bytes(view)


def test_a_kept_part_stays_as_it_was():
    kept = []
    framer = MessageFramer(lambda view: kept.append(view[1:]), LIMIT)
    wanted = [b"one", b"two", b"three", b"four", b"five"]
    for chunk in stream_of(*wanted):
        framer.feed(chunk)
    for _ in range(3):  # what is put together now must not go where the kept parts are
        for chunk in stream_of(b"111", b"222", b"33333"):
            framer.feed(chunk)
    assert [bytes(part) for part in kept[:5]] == [message[1:] for message in wanted]


def test_an_object_made_from_a_view_keeps_the_memory():
    kept = []
    framer = MessageFramer(lambda view: kept.append(memoryview(view)), LIMIT)
    for chunk in stream_of(b"one", b"two", b"three"):
        framer.feed(chunk)
    assert [bytes(part) for part in kept] == [b"one", b"two", b"three"]


def test_each_message_has_a_hash_of_its_own():
    """A view remembers its hash, and one view serves many messages."""
    found = []
    known = {b"one": 1, b"two": 2, b"six": 6}
    framer = MessageFramer(lambda view: found.append(known.get(view)), LIMIT)
    framer.feed(memoryview(b"".join(map(framed, known))))
    assert found == [1, 2, 6]


def test_a_weak_reference_to_a_view_dies_with_it():
    references = []
    framer = MessageFramer(lambda view: references.append(weakref.ref(view)), LIMIT)
    framer.feed(memoryview(framed(b"one") + framed(b"two")))
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    assert references[0] is not references[1], "the second view is another object"


def test_an_argument_before_the_message():
    got = []
    framer = MessageFramer(lambda *arguments: got.append(arguments[0]), LIMIT, "peer")
    framer.feed(memoryview(framed(b"")))
    assert got == ["peer"]


def test_the_handler_can_be_another_from_one_message_to_the_next():
    got = []

    def first(view):
        got.append(("first", bytes(view)))
        framer.set_handler(second, 1000, "name")

    def second(name, view):
        got.append((name, bytes(view)))

    framer = MessageFramer(first, 5)
    framer.feed(memoryview(framed(b"short") + framed(b"a longer one")))
    assert got == [("first", b"short"), ("name", b"a longer one")]


def test_nothing_is_handed_over_after_stop():
    got = []

    def stopping(view):
        got.append(bytes(view))
        framer.stop()

    framer = MessageFramer(stopping, LIMIT)
    framer.feed(memoryview(framed(b"one") + framed(b"two")))
    framer.feed(memoryview(framed(b"three")))
    assert got == [b"one"]
    assert framer.stopped


def test_what_a_handler_raises_comes_out():
    def failing(view):
        raise LookupError(bytes(view))

    framer = MessageFramer(failing, LIMIT)
    first, rest = framed(b"one")[:6], framed(b"one")[6:] + framed(b"two")
    framer.feed(memoryview(first))
    with pytest.raises(LookupError, match="one"):
        framer.feed(memoryview(rest))
    assert not framer.left_over


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("cut", range(1, 21))
def test_an_interrupt_loses_no_message(leave, cut):
    got = []

    def interrupted(view):
        got.append(bytes(view))
        if len(got) % 2:
            raise leave

    framer = MessageFramer(interrupted, LIMIT)
    stream = framed(b"one") + framed(b"two") + framed(b"three")
    for chunk in (stream[:cut], stream[cut:], b"", b"", framed(b"four")):
        try:
            framer.feed(memoryview(chunk))
        except leave:
            pass
    while framer.left_over:
        try:
            framer.feed(memoryview(b""))
        except leave:
            pass
    assert got == [b"one", b"two", b"three", b"four"]


def test_feeding_from_inside_a_handler_is_refused():
    def again(view):
        framer.feed(memoryview(b""))

    framer = MessageFramer(again, LIMIT)
    with pytest.raises(RuntimeError, match="inside"):
        framer.feed(memoryview(framed(b"one")))


@pytest.mark.parametrize("what", [b"bytes", None, "text"])
def test_only_views_are_fed(what):
    framer, _ = collecting()
    with pytest.raises(TypeError):
        framer.feed(what)


def test_views_that_are_not_of_bytes_in_one_piece_are_refused():
    framer, _ = collecting()
    for view in (memoryview(b"abcdef")[::2], memoryview(bytes(8)).cast("i")):
        with pytest.raises(BufferError):
            framer.feed(view)


def test_a_limit_beyond_the_wire_format_is_refused():
    with pytest.raises(ValueError, match="length_max"):
        MessageFramer(print, 2**31)


def test_no_block_is_allocated_and_nothing_collected_over_many_messages():
    """Views come and go, so nothing is left, and the collector is not even called."""
    count = 0

    def counting(view):
        nonlocal count
        count += 1

    framer = MessageFramer(counting, LIMIT)
    stream = framed(b"x" * 64) * 300
    views = [memoryview(chunk) for chunk in chunks_of(stream, range(0, len(stream), 1000))]
    for view in views:
        framer.feed(view)
    gc.collect()
    gc.disable()  # counted by hand below: a collection of someone else's garbage is not ours
    try:
        before, pending = sys.getallocatedblocks(), gc.get_count()[0]
        for _ in range(100):
            for view in views:
                framer.feed(view)
        assert sys.getallocatedblocks() - before < 10
        assert gc.get_count()[0] - pending < 10
    finally:
        gc.enable()
    assert count == 300 * 101


def test_the_model_itself():
    """The tests above lean on it."""
    assert expected(framed(b"a") + b"\x02\x00", 10) == ([b"a"], False, 2)
    assert expected(framed(b"ab"), 1) == ([], True, 0)
    assert chunks_of(b"abc", [1, 1, 3]) == [b"a", b"", b"bc", b""]


def traced_while_feeding(framer, *chunks):
    """Bytes in use after each chunk, over those before."""
    tracemalloc.start()
    try:
        found = []
        for chunk in chunks:
            framer.feed(memoryview(chunk))
            found.append(tracemalloc.get_traced_memory()[0])
        return found
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("how", ["delivers", "keeps"])
def test_what_a_large_message_needed_is_given_back(how):
    size = 16 << 20
    kept = []

    def handler(view):
        if how == "keeps":
            kept.append(view[:10])

    framer = MessageFramer(handler, size)
    stream = framed(bytes(size))
    chunks = [stream[start : start + (1 << 20)] for start in range(0, len(stream), 1 << 20)]
    used = traced_while_feeding(framer, *chunks)
    assert used[-2] >= size
    assert (used[-1] >= size) == (how == "keeps")


def test_memory_grows_with_what_has_come():
    framer = MessageFramer(lambda view: None, 1 << 30)
    header = framed(b"").replace(bytes(4), struct.pack("<i", 1 << 30))
    used = traced_while_feeding(framer, header, bytes(10_000), bytes(90_000), bytes(100_000))
    for have, memory in zip((0, 10_000, 100_000, 200_000), used, strict=True):
        assert have <= memory <= 8 * have + 20_000
