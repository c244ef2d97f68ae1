"""The soak for a moment on each loop, and proof that it finds what it is there to find."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from tests.loop.support import make_loop, provider_refusal
from tests.soak import laps, scheduling, sockets, streams, system
from tests.soak.ground import Ground, Wrong
from tests.soak.laps import Report, Soak

KINDS = [os.environ["ZERIO_PROVIDER"]] if "ZERIO_PROVIDER" in os.environ else ["uring", "epoll"]
LOADS = (*streams.LOADS, *sockets.LOADS, *system.LOADS, *scheduling.LOADS)

pytestmark = pytest.mark.timeout(200)

kept: list[Any] = []
"""What the planted faults leave behind."""


@pytest.fixture(params=KINDS)
def loop(request: pytest.FixtureRequest) -> Any:
    if refusal := provider_refusal(request.param):
        pytest.skip(refusal)
    return make_loop(request.param)


@pytest.fixture(autouse=True)
def tidied() -> Any:
    yield
    for thing in kept:
        if isinstance(thing, int):
            os.close(thing)
    kept.clear()
    gc.collect()  # what was planted here must not be found by the next test


def soak(loop: Any, *loads: Any, least_laps: int = 2) -> Report:
    return Soak(loop, loads, 0.1, 0.05, 1, least_laps).run()


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.__name__)
def test_each_load_finds_nothing_wrong(loop: Any, load: Any) -> None:
    report = soak(loop, load)
    assert report.faults == []
    assert report.laps


@pytest.mark.parametrize("threads", ["1", "4"])
def test_all_at_once_as_a_user_runs_it(threads: str) -> None:
    run = subprocess.run(
        [
            sys.executable,
            *["-X", "dev", "-m", "tests.soak", "--seconds", "2", "--lap", "1"],
            *["--threads", threads, "--provider", KINDS[0]],
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "nothing wrong, nothing left" in run.stdout


async def leave_descriptor(_: Ground) -> None:
    kept.append(os.dup(0))


async def leave_task(_: Ground) -> None:
    kept.append(asyncio.ensure_future(asyncio.sleep(3600)))


async def leave_connection(_: Ground) -> None:
    left, right = socket.socketpair()
    kept.append(await asyncio.open_connection(sock=left))
    kept.append(right)


async def leave_socket(_: Ground) -> None:
    socket.socket()  # its ResourceWarning is the find


async def leave_child(_: Ground) -> None:
    kept.append(subprocess.Popen(["true"]))


async def raise_in_callback(_: Ground) -> None:
    asyncio.get_running_loop().call_soon(lambda: 1 // 0)
    await asyncio.sleep(0.01)


async def change_a_byte(ground: Ground) -> None:
    ground.same("changed", b"abc", b"abd")


async def fail(_: Ground) -> None:
    raise Wrong("on purpose")


PLANTED = {
    leave_descriptor: "left 1 descriptors",
    leave_task: "left 1 tasks",
    leave_connection: "left 1 connections",
    leave_socket: "ResourceWarning: unclosed <socket.socket",
    leave_child: "left 1 children",
    raise_in_callback: "ZeroDivisionError",
    change_a_byte: "3 bytes came back for 3, differing at 2",
    fail: "on purpose",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("load", PLANTED, ids=lambda load: load.__name__)
def test_a_planted_fault_is_found(
    loop: Any, load: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(laps, "SETTLE", 0.2)
    report = soak(loop, load)
    assert any(PLANTED[load] in fault for fault in report.faults), report.faults
    for thing in kept:
        if isinstance(thing, subprocess.Popen):
            thing.wait()


def test_growing_memory_is_found(loop: Any) -> None:
    async def grow(_: Ground) -> None:
        kept.append([object() for _ in range(10_000)])

    report = soak(loop, grow, least_laps=8)
    assert any("blocks grew" in fault for fault in report.faults), report.faults
