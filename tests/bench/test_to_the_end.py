"""The command runs to its end on every system, and its figures can be true.

They are not compared with anything: what is fast is the benchmark's own business.
"""

from __future__ import annotations

import json
import pathlib

import pytest

from zerio_asyncio.bench import peers

from .support import finish

OWN = peers.BOTH_PROVIDERS[1]
"""On what every machine has."""

BOUNDS = {"cpu_us": 1e5, "p50_us": 1e7, "message_ns": 1e7}
"""What no machine reaches: a tenth of a second of CPU for a request, and so on."""


@pytest.mark.timeout(300)  # five processes of Python, each of which may be slow to start
@pytest.mark.parametrize("mode", ["protocol", "datagram", "messaging", "messaging-latency"])
def test_every_mode_runs_to_the_end(mode: str, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "all.json"
    names = [peers.LIMIT, OWN]
    arguments = [word for name in names for word in ("--peer", name)]
    arguments += ["--mode", mode, "--rounds", "1", "--seconds", "0.3", "--warmup", "0.1"]
    arguments += ["--connections", "20"]
    status, out, err = finish(
        "-m", "zerio_asyncio", "bench", *arguments, "--json", str(target), patience=280
    )
    assert status == 0, out + err
    rows = json.loads(target.read_text(encoding="utf-8"))["rows"]
    assert rows
    for row in rows:
        assert {found["peer"] for found in row["peers"]} == {*names}
        for found in row["peers"]:
            assert found["error"] is None
            assert_plausible(row["figure"], found)


def assert_plausible(figure: str, found: dict[str, object]) -> None:
    (sample,) = found["rounds"]  # type: ignore[misc]
    assert 0 <= sample[figure] < BOUNDS[figure]  # type: ignore[call-overload]
    for name in ("requests_s", "messages_s"):
        assert sample.get(name, 1) > 0  # type: ignore[attr-defined]
