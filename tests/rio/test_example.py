"""examples/rio_echo.py, started as a user would start it."""

import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from tests.rio.bare import pattern, read_all, reset
from tests.rio.isolated import ROOT
from tests.rio.marks import with_sent_signals

pytestmark = with_sent_signals


@pytest.fixture
def server(provider):
    command = [sys.executable, "examples/rio_echo.py", "--port", "0", "--provider", provider.name]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    found = re.fullmatch(rf"echo on 127\.0\.0\.1:(\d+), provider {provider.name}\n", line)
    assert found, line + process.stderr.read()
    process.address = ("127.0.0.1", int(found[1]))
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def stop(process, number):
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


def echo(address, data):
    with socket.create_connection(address, timeout=10) as sock:
        writer = threading.Thread(target=sock.sendall, args=(data,))
        writer.start()
        assert read_all(sock, len(data)) == data
        writer.join()
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_it_echoes_and_ends_on_a_signal(server, number):
    echo(server.address, b"hello")
    echo(server.address, pattern(3 << 20))
    stop(server, number)


def test_many_clients_at_once(server):
    socks = [socket.create_connection(server.address, timeout=10) for _ in range(200)]
    for turn in range(3):
        for i, sock in enumerate(socks):
            sock.sendall(b"%d:%d" % (turn, i))
        for i, sock in enumerate(socks):
            expected = b"%d:%d" % (turn, i)
            assert read_all(sock, len(expected)) == expected
    for i, sock in enumerate(socks):
        (reset if i % 2 else socket.socket.close)(sock)
    echo(server.address, b"still there")
    stop(server, signal.SIGTERM)


def test_it_ends_with_clients_connected(server):
    with socket.create_connection(server.address, timeout=10) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        stop(server, signal.SIGINT)
        assert sock.recv(1) == b""
