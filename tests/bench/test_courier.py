"""The generator of messages finds every wrong answer, keeps its times, tells what it sent."""

import contextlib
import errno
import os
import socket
import struct
import threading
import time

import pytest
from hdrh.histogram import HdrHistogram

from zerio_asyncio.bench.courier import Courier, CourierConfig, send_until_told
from zerio_asyncio.bench.generator import LoadError

from .support import PATIENCE, descriptors, echo, server

NAMES = 11
"""Bytes of the first message of peer-0 to peer-9, with its length."""


def courier(listener: socket.socket, **settings: object) -> Courier:
    chosen: dict[str, object] = {"connections": 2, "warmup_s": 0.0, "measure_s": 5.0}
    chosen["address"], chosen["port"] = listener.getsockname()
    return Courier(CourierConfig(**(chosen | settings)))  # type: ignore[arg-type]


def send(listener: socket.socket, **settings: object) -> dict[str, object]:
    with courier(listener, **settings) as run:
        run.connect()
        return run.run()


@pytest.mark.parametrize("size", [0, 1, 64, 1024, 100_000])
@pytest.mark.parametrize("burst", [1, 3, 50])
def test_counts_what_the_quota_asks(size: int, burst: int) -> None:
    with server() as listener:
        result = send(listener, size=size, burst=burst, bursts_each=20)
    assert result["requests"] == result["requests_all"] == 2 * 20 * burst
    histogram = HdrHistogram.decode(result["hdr"])
    assert histogram.get_total_count() == result["requests"]


@pytest.mark.parametrize("spin", [False, True])
@pytest.mark.parametrize("delay_us", [0, 200])
def test_either_way_to_wait(spin: bool, delay_us: int) -> None:
    with server() as listener:
        result = send(listener, spin=spin, delay_us=delay_us, bursts_each=30)
    assert result["requests"] == 60


def test_the_window_ends_by_time() -> None:
    with server() as listener:
        result = send(listener, connections=3, delay_us=1000, warmup_s=0.1, measure_s=0.2)
    assert 0 < result["requests"] < result["requests_all"]  # type: ignore[operator]
    assert result["wall_s"] >= 0.2  # type: ignore[operator]


@pytest.mark.parametrize("size", [0, 64])
@pytest.mark.parametrize("place", [0, 3, 5, 1000])
def test_a_changed_byte_is_found(size: int, place: int) -> None:
    def corrupt(data: bytes, seen: int) -> bytes:
        at = NAMES - 1 + place - seen
        if not 0 <= at < len(data):
            return data
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    with server(corrupt) as listener, pytest.raises(LoadError) as found:
        send(listener, connections=1, size=size, bursts_each=500)
    frame = 4 + size
    assert f"message {place // frame}, byte {place % frame}: " in str(found.value)


def test_more_than_was_sent_is_found() -> None:
    def twice(data: bytes, seen: int) -> bytes:
        return data if seen == 0 else data + data

    with server(twice) as listener, pytest.raises(LoadError, match="more bytes came back"):
        send(listener)


def test_a_closed_connection_is_found() -> None:
    with server(lambda data, seen: data if seen < 2000 else None) as listener:
        with pytest.raises(LoadError, match="closed the connection"):
            send(listener)


def test_silence_is_found() -> None:
    with server(lambda data, seen: data if seen == 0 else b"") as listener:
        with pytest.raises(LoadError, match="silent"):
            send(listener, stall_s=0.1)


def test_a_server_that_does_not_repeat_the_name_is_refused() -> None:
    with server(lambda data, seen: data.upper()) as listener, pytest.raises(OSError) as refused:
        send(listener)
    assert refused.value.errno == errno.EPROTO


def test_bursts_are_as_old_as_their_times() -> None:
    """A server that stalls for 100 ms is charged for all that should have been sent meanwhile."""
    stalled = threading.Event()

    def stall(data: bytes, seen: int) -> bytes:
        if seen > 0 and not stalled.is_set():
            stalled.set()
            time.sleep(0.1)
        return data

    with server(stall) as listener:
        result = send(listener, connections=1, delay_us=10_000, bursts_each=20)
    histogram = HdrHistogram.decode(result["hdr"])
    # Due at 0, 10, 20, ... 90 ms, answered from 100 ms on: half a millisecond for rounding.
    for index in range(9):
        share = 100 * (20 - index - 0.5) / 20
        assert histogram.get_value_at_percentile(share) >= (100 - 10 * index - 0.5) * 1e6


def test_connections_take_turns() -> None:
    begun: list[float] = []

    def note(data: bytes, seen: int) -> bytes:
        if seen > 0:
            begun.append(time.monotonic())
        return data

    with server(note) as listener:
        send(listener, connections=4, delay_us=400_000, bursts_each=1)
    assert len(begun) == 4
    assert max(begun) - min(begun) >= 0.25, "the fourth is due 300 ms after the first"


def collected(**settings: object) -> tuple[dict[str, object], list[bytes]]:
    """Run one way; the result, and what each connection sent behind its name."""
    streams: dict[int, bytearray] = {}

    def keep(data: bytes, seen: int) -> bytes:
        stream = streams.setdefault(threading.get_ident(), bytearray())
        stream += data
        return data if seen == 0 else b""

    with server(keep) as listener:
        with courier(listener, one_way=True, **settings) as run:
            run.connect()
            result = run.run()
    return result, [bytes(stream) for stream in streams.values()]


@pytest.mark.parametrize("size", [0, 1, 64, 5000])
def test_one_way_sends_whole_frames_and_tells_how_many(size: int) -> None:
    result, streams = collected(size=size, bursts_each=3000, connections=2)
    assert (result["requests_all"], result["requests"]) == (6000, 0)
    by_name = {stream[4:10]: stream[NAMES - 1 :] for stream in streams}
    first, second = by_name[b"peer-0"], by_name[b"peer-1"]
    frame = 4 + size
    for stream in (first, second):
        assert len(stream) == 3000 * frame
        assert {stream[at : at + 4] for at in range(0, len(stream), frame)} == {
            struct.pack("<I", size)
        }
    # The second goes through the same ring from its own place on.
    assert first[61 * frame : 161 * frame] == second[: 100 * frame]


def test_one_way_ends_when_told_at_the_end_of_a_message() -> None:
    out, into = os.pipe()
    with server(lambda data, seen: data if seen == 0 else b"") as listener:
        with courier(listener, one_way=True, measure_s=PATIENCE) as run:
            run.connect()
            timer = threading.Timer(0.1, os.write, (into, b"\n"))
            timer.start()
            result = send_until_told(run, out)
            timer.join()
    os.close(out)
    os.close(into)
    assert 0 < result["wall_s"] < PATIENCE  # type: ignore[operator]
    assert result["requests_all"] > 0  # type: ignore[operator]


def test_one_way_wants_no_answers() -> None:
    with server(echo) as listener, pytest.raises(LoadError, match="more bytes came back"):
        send(listener, one_way=True)


def test_no_descriptor_is_kept() -> None:
    before = descriptors()
    with server() as listener:
        send(listener, connections=10, bursts_each=1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with contextlib.suppress(OSError), Courier(CourierConfig(port=port)) as run:
        run.connect()
    assert descriptors() == before


@pytest.mark.parametrize(
    "setting",
    [
        {"connections": 0},
        {"size": -1},
        {"burst": 0},
        {"delay_us": 1_000_000},
        {"measure_s": 0},
        {"bursts_each": 1},
        {"one_way": True, "delay_us": 1},
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        CourierConfig(**setting)  # type: ignore[arg-type]
