"""Servers that misbehave on purpose, and short settings, for the benchmark's tests."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from zerio_asyncio.bench import peers
from zerio_asyncio.bench.load import Load, LoadConfig

PATIENCE = 30.0
"""Seconds for anything that another process does."""

Answer = Callable[[bytes, int], "bytes | None"]
"""Of what came and the number of bytes before it; None closes the connection."""


def echo(data: bytes, _: int) -> bytes:
    return data


def _serve(
    connection: socket.socket, answer: Answer, context: ssl.SSLContext | None = None
) -> None:
    seen = 0
    with contextlib.ExitStack() as closed, contextlib.suppress(OSError):
        closed.callback(lambda: connection.close())
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        while data := connection.recv(65536):
            back = answer(data, seen)
            if back is None:
                return
            seen += len(data)
            connection.sendall(back)


@contextlib.contextmanager
def server(
    answer: Answer = echo, path: str | None = None, context: ssl.SSLContext | None = None
) -> Iterator[socket.socket]:
    """An echo server in threads, as good or as bad as ``answer`` is; yields its listener."""
    family = socket.AF_INET if path is None else socket.AF_UNIX
    threads: list[threading.Thread] = []
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0) if path is None else path)
        listener.listen(128)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                thread = threading.Thread(target=_serve, args=(connection, answer, context))
                threads.append(thread)
                thread.start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # ends accept; close alone does not
            for thread in (acceptor, *threads):
                thread.join(PATIENCE)


def load(listener: socket.socket, **settings: object) -> dict[str, object]:
    """Run the generator once, shortly, on a listener's address."""
    chosen: dict[str, object] = {"connections": 2, "warmup_s": 0.0, "measure_s": 5.0}
    if listener.family == socket.AF_UNIX:
        chosen["address"] = listener.getsockname()
    else:
        chosen["address"], chosen["port"] = listener.getsockname()
    with Load(LoadConfig(**(chosen | settings))) as run:  # type: ignore[arg-type]
        run.connect()
        return run.run()


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start Python as a user would, with this package on its path."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=peers.environment() | {"PYTHONUNBUFFERED": "", "COLUMNS": "200"},
    )


def finish(*arguments: str, patience: float = 4 * PATIENCE) -> tuple[int, str, str]:
    """Run Python to its end: exit status, output, errors."""
    process = start(*arguments)
    try:
        out, err = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, err


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}
