"""The benchmark's command line, run as users run it."""

import json
from pathlib import Path

import pytest

from .support import finish

BENCH = ("-m", "zerio_asyncio.bench")
SHORT = ("--rounds", "1", "--seconds", "0.1", "--warmup", "0.05", "--connections", "3")
PEERS = ("--peer", "asyncio", "--peer", "c-epoll")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.timeout(150)  # measures eight times and more, on a busy machine slowly
def test_tables_json_and_picture(tmp_path: Path) -> None:
    data, picture = tmp_path / "figures.json", tmp_path / "figures.png"
    files = ("--json", str(data), "--plot", str(picture))
    status, out, err = finish(
        *BENCH, *SHORT, *PEERS, "--mode", "protocol", "--mode", "streams", *files
    )
    assert (status, err) == (0, "")
    assert "protocol, 1 KiB × 3" in out
    assert "C epoll" in out
    assert "CPU µs" in out
    read = json.loads(data.read_text())
    assert [row["mode"] for row in read["rows"]] == ["protocol", "streams"]
    for row in read["rows"]:
        assert [peer["peer"] for peer in row["peers"]] == ["asyncio", "c-epoll"]
        for peer in row["peers"]:
            assert peer["error"] is None
            assert peer["median"]["cpu_us"] > 0
            assert len(peer["rounds"]) == len(peer["hdr"]) == 1
    assert read["settings"]["rounds"] == 1
    assert picture.read_bytes().startswith(PNG)


def test_the_same_under_the_packages_command() -> None:
    status, out, _ = finish("-m", "zerio_asyncio", "bench", "--list")
    assert status == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "ready" in lines["asyncio"]
    assert "ready" in lines["c-epoll"]
    assert {"uvloop", "rloop", "zerio", "zerio-uring", "zerio-epoll"} <= set(lines)


def test_quick_has_two_rows() -> None:
    status, out, _ = finish(*BENCH, "--quick", *SHORT[:6], "--peer", "asyncio")
    assert status == 0
    assert "protocol, 1 KiB × 50" in out
    assert "pingpong, 1 KiB × 1" in out
    assert "× 500" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mode", "carrier-pigeon"), "no mode 'carrier-pigeon'"),
        (("--peer", "twisted"), "no peer 'twisted'"),
        (("--rounds", "0"), "must be positive"),
        (("--seconds", "0"), "must be positive"),
        (("--server-core", "4096"), "CPU 4096 is not among"),
        (("--mode", "scheduler", "--peer", "c-epoll"), "nothing to run"),
        (("--json", "/nowhere/at/all.json"), "there is no folder /nowhere/at"),
        (("--size", "-1", "--mode", "sock"), "must be"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    status, _, err = finish(*BENCH, *arguments)
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("module", ["rich", "hdrh"])
def test_a_missing_extra_is_explained(module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None\n"
    code += "from zerio_asyncio.bench.command import main; sys.exit(main(['--quick']))"
    status, _, err = finish("-c", code)
    assert status == 2
    assert f"{module} is missing: install what the benchmark needs" in err
    assert "zerio-asyncio[bench]" in err


def test_without_the_compiled_part_it_says_so() -> None:
    code = "import sys; sys.modules['zerio_asyncio.bench._native'] = None\n"
    code += "from zerio_asyncio.bench.command import main; sys.exit(main(['--quick']))"
    status, _, err = finish("-c", code)
    assert status == 2
    assert "needs its compiled part" in err
