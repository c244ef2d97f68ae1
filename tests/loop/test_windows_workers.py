"""On Windows, workers of a supervisor and a reloader's children accept on one shared listener.

Its file belongs for life to the first completion port that takes it. So the standard loop serves
it in one process alone, and never again once that process is gone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time

import pytest

from tests.rio.isolated import FAKE

from . import windows_worker
from .support import SECONDS, WINDOWS, listener

pytestmark = [
    pytest.mark.skipif(not WINDOWS, reason="others share listeners by fork or by descriptor"),
    pytest.mark.ours,
    pytest.mark.timeout(150),  # each process takes seconds to start on a busy machine
]

PATIENCE = 60.0
"""Seconds for a process to start and serve."""

CLIENTS = 6


def environment(kind):
    fake = {windows_worker.FAKE: FAKE} if FAKE in sys.modules else {}
    return {**os.environ, "ZERIO_PROVIDER": kind, **fake}


@contextlib.contextmanager
def process(kind, *command, **options):
    command = [sys.executable, "-m", *command]
    with subprocess.Popen(command, env=environment(kind), **options) as one:
        try:
            yield one
        finally:
            one.kill()


@contextlib.contextmanager
def worker(kind, sock):
    command = windows_worker.__name__
    with process(kind, command, stdin=subprocess.PIPE) as one:
        one.stdin.write(sock.share(one.pid).hex().encode() + b"\n")
        one.stdin.close()
        yield one.pid


def ask(address):
    """Who answers some clients that come at once; nobody may be dropped."""
    with contextlib.ExitStack() as open_ones:
        clients = []
        for _ in range(CLIENTS):
            client = socket.create_connection(address, PATIENCE)
            clients.append(open_ones.enter_context(client))
            client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        for client in clients:
            said = b""
            while part := client.recv(65536):
                said += part
            head, _, body = said.partition(b"\r\n\r\n")
            assert b" 200 " in head.splitlines()[0]
            yield int(body.split()[0])


def ask_until(address, enough):
    """Ask until those who answered are enough; who they were."""
    deadline = time.monotonic() + PATIENCE
    found = set()
    while not enough(found):
        assert time.monotonic() < deadline, f"{found} answered"
        found.update(ask(address))
    return found


def test_workers_share_and_follow_one_another(kind):
    with listener() as sock:
        address = sock.getsockname()
        with worker(kind, sock) as stays:
            with worker(kind, sock) as goes:
                ask_until(address, {stays, goes}.issubset)
            with worker(kind, sock) as comes:
                ask_until(address, {stays, comes}.issubset)
        with worker(kind, sock) as alone:
            ask_until(address, {alone}.issubset)


def free_port():
    with listener() as sock:
        return sock.getsockname()[1]


def uvicorn(kind, port, *options):
    pytest.importorskip("uvicorn")
    name = windows_worker.__name__
    return process(
        kind, "uvicorn", f"{name}:application", "--loop", f"{name}:new_event_loop",
        "--port", str(port), "--http", "h11", "--lifespan", "off", "--no-access-log", *options,
    )  # fmt: skip


def wait_for(port):
    deadline = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < deadline, "nobody listens"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), SECONDS).close()
            return
        time.sleep(0.1)


def test_workers_of_uvicorn(kind):
    port = free_port()
    with uvicorn(kind, port, "--workers", "2"):
        wait_for(port)
        ask_until(("127.0.0.1", port), lambda found: len(found) == 2)
