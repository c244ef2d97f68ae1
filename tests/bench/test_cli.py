"""``python -m zerio_asyncio``: info and echo, as users start them."""

import json
import os
import selectors
import signal
import socket
import subprocess

import pytest

from zerio_asyncio.bench import peers

from .support import PATIENCE, finish, start

CLI = ("-m", "zerio_asyncio")
MODES = ("protocol", "buffered", "registered", "streams", "sock")


def ours_ready() -> bool:
    return peers.find("zerio").refusal is None


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(PATIENCE), "no line came"
    return process.stdout.readline()


def talk(port: int, data: bytes, host: str = "127.0.0.1") -> bytes:
    answer = b""
    with socket.create_connection((host, port), PATIENCE) as connection:
        connection.sendall(data)
        while len(answer) < len(data):
            part = connection.recv(65536)
            assert part
            answer += part
    return answer


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loop", ["asyncio", "zerio"])
def test_echo_serves_until_a_signal(loop: str, mode: str, ending: signal.Signals) -> None:
    if loop == "zerio" and not ours_ready():
        pytest.skip(str(peers.find("zerio").refusal))
    process = start(*CLI, "echo", "--loop", loop, "--mode", mode)
    try:
        line = first_line(process)
        assert line.startswith("echo on 127.0.0.1:"), process.stderr
        port = int(line.partition(":")[2].split(",")[0])
        data = os.urandom(200_000)
        assert talk(port, data[:10]) == data[:10]
        assert talk(port, data) == data
        process.send_signal(ending)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out, err) == (0, "", "")


def test_echo_ends_though_connections_are_open() -> None:
    process = start(*CLI, "echo", "--loop", "asyncio", "--mode", "sock")
    try:
        port = int(first_line(process).partition(":")[2].split(",")[0])
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(b"here")
            assert connection.recv(4)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out, err) == (0, "", "")


def test_echo_on_ipv6() -> None:
    process = start(*CLI, "echo", "--loop", "asyncio", "--host", "::1")
    try:
        line = first_line(process)
        assert line.startswith("echo on [::1]:")
        assert talk(int(line.partition("]:")[2].split(",")[0]), b"six", "::1") == b"six"
    finally:
        process.kill()
        process.communicate()


def test_echo_on_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, out, err = finish(*CLI, "echo", "--loop", "asyncio", "--port", port)
    assert (status, out) == (1, "")
    assert err.startswith("echo: ")
    assert len(err.splitlines()) == 1


def test_info_as_json() -> None:
    status, out, err = finish(*CLI, "info", "--json")
    assert err == ""
    facts = json.loads(out)
    assert status == (facts["provider"]["name"] is None)
    assert facts["provider"]["reason"]
    assert set(facts["provider"]["known"]) >= {"uring", "epoll"}
    assert facts["limits"]["RLIMIT_NOFILE"]["soft"] > 0
    assert "RLIMIT_MEMLOCK" in facts["limits"]
    assert facts["packages"]["cffi"]
    assert "kernel.io_uring_disabled" in facts


def test_info_for_people() -> None:
    status, out, _ = finish(*CLI, "info")
    assert status == 0
    for word in ("provider: ", "system: Linux", "python: CPython", "RLIMIT_MEMLOCK: ", "cffi: "):
        assert word in out


@pytest.mark.parametrize("provider", ["uring", "epoll"])
def test_info_follows_the_environment(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZERIO_PROVIDER", provider)
    status, out, _ = finish(*CLI, "info", "--json")
    facts = json.loads(out)
    if status == 0:
        assert facts["provider"]["name"] == provider
        assert "ZERIO_PROVIDER" in facts["provider"]["reason"]
    else:
        assert provider in facts["provider"]["reason"]


def test_info_with_a_provider_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZERIO_PROVIDER", "abacus")
    status, out, err = finish(*CLI, "info")
    assert (status, err) == (1, "")
    assert "'abacus'" in out


def test_help_lists_the_commands() -> None:
    status, out, _ = finish(*CLI, "--help")
    assert status == 0
    assert all(name in out for name in ("info", "echo", "bench"))


def test_an_unknown_command_is_refused() -> None:
    status, _, err = finish(*CLI, "sing")
    assert status == 2
    assert "sing" in err
