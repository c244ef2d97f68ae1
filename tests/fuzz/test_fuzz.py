"""A few dozen seeds on each provider, and canaries: what is broken on purpose must be found."""

from __future__ import annotations

import pytest

from tests.loop.support import PROVIDERS, WINDOWS, provider_refusal

from .__main__ import main

pytestmark = [
    pytest.mark.skipif(WINDOWS, reason="programs of Unix sockets, watched through /proc"),
    pytest.mark.timeout(180),
]


def fuzz(*arguments: str) -> int:
    return main(["--jobs=2", "--limit=60", *arguments])


@pytest.fixture(params=PROVIDERS)
def provider(request):
    if refusal := provider_refusal(request.param):
        pytest.skip(f"the system refuses the provider {request.param}: {refusal}")
    return request.param


@pytest.mark.parametrize("hostile", [False, True], ids=["calm", "hostile"])
def test_random_programs(provider, hostile, capsys):
    status = fuzz("--seeds=0:80", f"--provider={provider}", *["--hostile"] * hostile)
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize("kind", ["pairs", "datagrams", "scheduling"])
def test_the_standard_loop_bears_the_same(kind, capsys):
    """The oracle: the programs ask for nothing that asyncio does not do."""
    assert fuzz("--seeds=0:60", "--provider=std", f"--kinds={kind}") == 0, capsys.readouterr().out


@pytest.mark.parametrize("kind", ["pairs", "servers", "messages", "queues"])
def test_a_flipped_bit_is_found(kind, provider, capsys):
    seeds = "0:80" if kind == "messages" else "0:12"  # few of these write by hand, and get through
    assert (
        fuzz(f"--seeds={seeds}", f"--provider={provider}", f"--kinds={kind}", "--canary=byte") == 1
    )
    told = capsys.readouterr().out
    assert "differs at byte" in told or "bytes came as" in told


def test_a_crash_is_outlived_and_told(capsys):
    assert fuzz("--seeds=0:6", "--provider=std", "--kinds=scheduling", "--canary=crash") == 1
    told = capsys.readouterr().out
    assert "seed 2: crashed by SIGSEGV" in told
    assert "seed 5: crashed by SIGSEGV" in told
    assert "python -m tests.fuzz --seeds=2:3 --provider=std --kinds=scheduling" in told
    assert "4 seeds good, 2 bad" in told


def test_a_hang_is_ended_and_told(capsys):
    arguments = ["--seeds=2:4", "--provider=std", "--kinds=scheduling", "--canary=hang"]
    assert fuzz(*arguments, "--limit=2") == 1
    told = capsys.readouterr().out
    assert "seed 2: hung" in told
    assert "threading.py" in told
    assert "1 seeds good, 1 bad" in told
