"""Each example is started as a user would start it, talked to with plain sockets, and ended."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from typing import Any

import pytest

from zerio_asyncio.messaging.framing import MARK
from zerio_asyncio.messaging.introduction import AGREED, QUESTION
from zerio_asyncio.messaging.requests import HEAD, SUBSCRIBE
from zerio_asyncio.rio import available

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
WINDOWS = sys.platform == "win32"
SECONDS = 45 if WINDOWS else 20


def start(name: str, *arguments: str, stderr: Any = subprocess.PIPE) -> subprocess.Popen[str]:
    # -X dev: an example leaves nothing unclosed behind it.
    return subprocess.Popen(
        [sys.executable, "-X", "dev", str(EXAMPLES / name), *arguments],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def complaints(errors: str) -> str:
    """What was written there, but for slow steps, of which debug mode tells: time is no test."""
    lines = errors.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("Executing <"))


@contextlib.contextmanager
def serving(name: str, *arguments: str, end: int = signal.SIGTERM):
    """Runs a server and gives its address; afterwards it must have ended cleanly."""
    # A file, for nobody reads meanwhile: a server that complains would stop at a full pipe.
    with tempfile.TemporaryFile("w+") as errors:
        process = start(name, *arguments, stderr=errors)

        def told() -> str:
            errors.seek(0)
            return errors.read()

        try:
            line = process.stdout.readline()
            found = re.search(r"([\d.]+):(\d+)", line)
            assert found, (line, told())
            yield found[1], int(found[2])
            process.send_signal(end)  # on Windows the end of it, at once
            process.communicate(timeout=SECONDS)
            assert process.returncode == (1 if WINDOWS else 0), told()
            assert complaints(told()) == ""
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()


def dial(address) -> socket.socket:
    return socket.create_connection(address, timeout=SECONDS)


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(size - len(data))
        assert part, f"the end after {len(data)} of {size} bytes"
        data += part
    return bytes(data)


SERVERS = [
    ("echo_protocol.py",),
    ("echo_buffered.py",),
    ("echo_registered.py",),
    ("echo_streams.py", "server"),
]


@pytest.mark.parametrize("command", SERVERS, ids=lambda command: command[0])
def test_echo_servers_echo(command):
    with serving(*command) as address, dial(address) as first, dial(address) as second:
        for sock in (first, second):
            sock.sendall(b"hello\n")
            assert receive_exactly(sock, 6) == b"hello\n"
        large = bytes(range(11, 250)) * 500 + b"\n"
        for _ in range(3):
            first.sendall(large[-60_000:])
            assert receive_exactly(first, 60_000) == large[-60_000:]


@pytest.mark.skipif(WINDOWS, reason="no SIGINT can be sent to another process here")
@pytest.mark.parametrize("command", SERVERS, ids=lambda command: command[0])
def test_echo_servers_end_on_an_interrupt(command):
    with serving(*command, end=signal.SIGINT) as address, dial(address) as sock:
        sock.sendall(b"x\n")
        assert receive_exactly(sock, 2) == b"x\n"


def test_a_client_that_resets_does_not_disturb_an_echo_server():
    with serving("echo_protocol.py") as address:
        with dial(address) as rude:
            rude.sendall(b"x" * 100_000)
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with dial(address) as polite:
            polite.sendall(b"still there?")
            assert receive_exactly(polite, 12) == b"still there?"


def test_a_given_port_is_used():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving("echo_protocol.py", "--port", str(port)) as address:
        assert address == ("127.0.0.1", port)


def run(name: str, *arguments: str) -> str:
    process = start(name, *arguments)
    output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    assert complaints(errors) == ""
    return output


def test_the_streams_client_talks_to_the_streams_server():
    with serving("echo_streams.py", "server") as (host, number):
        port = str(number)
        output = run("echo_streams.py", "client", "a", "b c", "--host", host, "--port", port)
        assert output == "a\nb c\n"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner is new in 3.11")
def test_with_runner():
    lines = run("with_runner.py").splitlines()
    assert lines[:2] == ["first on RioEventLoop", "second on RioEventLoop"]
    assert lines[2].startswith("provider: ")
    wanted = os.environ.get("ZERIO_PROVIDER")
    assert not wanted or lines[2] == f"provider: {wanted}"


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="policies ended with 3.15")
def test_with_policy(monkeypatch):
    if sys.version_info >= (3, 14):  # asyncio warns of its own policies there
        monkeypatch.setenv("PYTHONWARNINGS", "ignore:'asyncio:DeprecationWarning")
    assert run("with_policy.py") == "running on RioEventLoop\na subprocess, too\n"


def test_the_chat_server():
    with serving("chat_server.py") as address, dial(address) as ann, dial(address) as bob:
        members = []
        for sock, name in ((ann, b"Ann"), (bob, b"Bob")):
            lines = sock.makefile("rb")
            assert lines.readline() == b"your name?\n"
            sock.sendall(name + b"\n")
            assert lines.readline() == b"* " + name + b" is here\n"
            members.append(lines)
        to_ann, to_bob = members
        assert to_ann.readline() == b"* Bob is here\n"
        ann.sendall(b"hello, Bob\n")
        assert to_bob.readline() == b"Ann: hello, Bob\n"
        with dial(address) as impostor:
            lines = impostor.makefile("rb")
            assert lines.readline() == b"your name?\n"
            impostor.sendall(b"Ann\n")
            assert lines.readline() == b"that name is taken or empty\n"
            assert lines.readline() == b""
            lines.close()
        bob.shutdown(socket.SHUT_WR)
        assert to_ann.readline() == b"* Bob has left\n"
        for lines in members:
            lines.close()


REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


@pytest.mark.parametrize("end", [signal.SIGTERM, *([] if WINDOWS else [signal.SIGINT])])
def test_a_server_on_all_cores(end):
    with serving("all_cores.py", "--threads", "3", end=end) as address:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(dial(address)) for _ in range(12)]
            threads = set()
            for sock in clients:
                sock.sendall(REQUEST + REQUEST[:20])
                answers = sock.makefile("rb")
                for left in (REQUEST[20:], b""):
                    assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
                    assert answers.readline().startswith(b"Content-Length: ")
                    assert answers.readline() == b"\r\n"
                    threads.add(answers.readline())
                    sock.sendall(left)
                answers.close()
        assert all(line.startswith(b"served by ") for line in threads)


def message(body: bytes) -> bytes:
    return struct.pack("<i", len(body)) + body


def receive_message(sock: socket.socket) -> bytes:
    (length,) = struct.unpack("<i", receive_exactly(sock, 4))
    return receive_exactly(sock, length)


def test_orders_between_the_zerio_server_and_client():
    with serving("zerio_server.py") as (host, port):
        output = run("zerio_client.py", f"{host}:{port}", "--orders", "95", "--burst", "10")
        assert output.startswith("95 orders acknowledged: median ")
        with dial((host, port)) as sock:  # and any other client
            sock.sendall(message(b"plain") + message(struct.pack("<qidi", 42, 7, 1.5, 10)))
            assert receive_message(sock) == b"plain"
            assert receive_message(sock) == struct.pack("<qi4x", 42, 7)


def test_the_zerio_client_without_a_server():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start("zerio_client.py", f"127.0.0.1:{port}")
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "ConnectionRefusedError" in errors


def test_market_data():
    with serving("market_data.py", "serve", "--rate", "1000") as (host, port):
        address = f"{host}:{port}"
        output = run("market_data.py", "watch", address, "EURUSD", "USDJPY", "--ticks", "20")
        lines = output.splitlines()
        assert len(lines) == 20
        assert {line.split()[1] for line in lines} <= {"EURUSD", "USDJPY"}
        numbers = [int(line.split()[0]) for line in lines]
        assert numbers == sorted(set(numbers))


def test_a_slow_watcher_of_market_data_sees_the_latest():
    def watch(sock, name):
        sock.sendall(message(name + QUESTION.encode()))
        assert receive_message(sock) == name + AGREED.encode()
        sock.sendall(message(HEAD.pack(MARK, SUBSCRIBE, 0) + b"prices.EURUSD"))

    def number_of_next(sock):
        return struct.unpack("<8sdq", receive_message(sock))[2]

    with (
        serving("market_data.py", "serve", "--rate", "100000") as address,
        dial(address) as slow,
        dial(address) as quick,
    ):
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        watch(slow, b"slow")
        watch(quick, b"quick")
        # One reads nothing meanwhile: what is not kept for it is missed.
        while (last := number_of_next(quick)) < 40_000:
            pass
        seen = 1
        while number_of_next(slow) < last:
            seen += 1
        assert seen < last / 8, "half of its symbol's, which is one of four"


def test_a_chat_of_messages():
    with serving("zerio_chat.py", "serve") as (host, port):
        room = f"{host}:{port}"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, str(EXAMPLES / "zerio_chat.py"), "join", room]
        with subprocess.Popen([*command, "Ann"], **pipes) as ann:
            assert ann.stdout.readline() == "* Ann is here\n"
            with subprocess.Popen([*command, "Bob"], **pipes) as bob:
                assert bob.stdout.readline() == "* Bob is here\n"
                assert ann.stdout.readline() == "* Bob is here\n"
                ann.stdin.write("hello, Bob\n")
                ann.stdin.flush()
                assert bob.stdout.readline() == "Ann: hello, Bob\n"
                bob.stdin.close()
                assert bob.wait(SECONDS) == 0
            assert ann.stdout.readline() == "* Bob has left\n"
            ann.stdin.close()
            assert ann.wait(SECONDS) == 0


NO_NUMBER = "invalid literal for int() with base 10: 'x'"


def test_requests_with_timeouts():
    with serving("zerio_rpc.py", "serve") as (host, port):
        questions = ["add 2 3", "sleep 60", "add 2 x", "sleep 0", "nonsense"]
        output = run("zerio_rpc.py", "ask", f"{host}:{port}", *questions, "--timeout", "2")
        assert output.splitlines() == [
            "add 2 3: 5",
            "sleep 60: no answer in time",
            f"add 2 x: refused: on_request raised ValueError: {NO_NUMBER}",
            "sleep 0: slept",
            "nonsense: refused: add A B, or sleep SECONDS",
        ]


def test_every_example_is_tested_and_tells_how_to_run_it():
    text = pathlib.Path(__file__).read_text()
    tested_elsewhere = {"rio_echo.py"}  # tests/rio/test_example.py
    for path in EXAMPLES.glob("*.py"):
        assert path.name in text, f"no test starts {path.name}"
        opening = path.read_text().split('"""')[1]
        if path.name not in tested_elsewhere:
            assert f"python examples/{path.name}" in opening


def test_pytest_asyncio():
    """The suite of the example passes on every provider of this machine."""
    folder = EXAMPLES / "pytest_asyncio"
    command = [sys.executable, "-m", "pytest", "-c", str(folder / "pytest.ini"), str(folder), "-v"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [provider.name for provider in available()]
    ids = [f"[{name}]" for name in names] if len(names) > 1 else [""]
    for test in ids:
        assert f"test_echo{test} PASSED" in done.stdout


@pytest.mark.parametrize("wait", ["block", "hybrid(20)"])
def test_the_latency_of_messages(wait):
    lines = run("zerio_latency.py", "--messages", "50", "--size", "9", "--wait", wait).splitlines()
    assert lines[0] == f"50 round trips of 9 bytes, waiting by {wait}"
    names, values = zip(*(line.split()[:2] for line in lines[1:]), strict=True)
    assert names == ("p50", "p90", "p99", "p99.9", "max")
    times = [float(value) for value in values]
    assert times == sorted(times)
    assert times[0] > 0
