"""From the C counts to an HdrHistogram nothing is lost beyond its resolution."""

import itertools
import time

import pytest
from hdrh.histogram import HdrHistogram

from zerio_asyncio.bench._native import lib

from .support import load, server


def test_counts_stand_for_rising_values_a_thousandth_apart() -> None:
    values = [lib.load_value_ns(index) for index in range(lib.LOAD_COUNTS)]
    assert values[:2048] == list(range(2048))
    assert values == sorted(set(values))
    steps = (b / a for a, b in itertools.pairwise(values[1024:]))
    assert max(steps) < 1.001
    assert values[-1] < 2**36 <= values[-1] * 1.001


def test_every_request_of_the_window_is_in_the_histogram() -> None:
    with server() as listener:
        result = load(listener, requests_each=100)
    histogram = HdrHistogram.decode(result["hdr"])
    assert histogram.get_total_count() == result["requests"] == 200


def test_a_slow_server_has_high_latencies() -> None:
    def slow(data: bytes, seen: int) -> bytes:
        time.sleep(0.02)
        return data

    with server(slow) as listener:
        result = load(listener, connections=1, requests_each=5)
    latency = result["latency_us"]
    assert latency["p50"] >= 20_000  # type: ignore[index]
    assert latency["max"] >= latency["p999"] >= latency["p99"] >= latency["p50"]  # type: ignore[index]


def test_pipelined_requests_wait_for_those_before_them() -> None:
    def slow(data: bytes, seen: int) -> bytes:
        time.sleep(0.01)
        return data

    with server(slow) as listener:
        result = load(listener, connections=1, size=100_000, depth=4, requests_each=8)
    assert result["latency_us"]["p50"] >= 10_000  # type: ignore[index]


@pytest.mark.parametrize("percentile", ["p50", "p99", "p999", "max"])
def test_percentiles_agree_with_the_histogram(percentile: str) -> None:
    with server() as listener:
        result = load(listener, requests_each=200)
    histogram = HdrHistogram.decode(result["hdr"])
    share = {"p50": 50, "p99": 99, "p999": 99.9, "max": 100}[percentile]
    expected = histogram.get_value_at_percentile(share) / 1000
    assert result["latency_us"][percentile] == pytest.approx(expected, rel=0.002)  # type: ignore[index]
