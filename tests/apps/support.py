"""What the applications' tests share: data to compare, ports, processes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from typing import Any

SECONDS = 30.0
"""The longest that a process may take to start or to end."""

ROOT = pathlib.Path(__file__).parents[2]

KIB = 1024
MIB = 1024 * KIB


def payload(size: int, seed: int = 0) -> bytes:
    """The same random bytes each time: compresses badly, repeats nowhere."""
    return random.Random(f"{seed}/{size}").randbytes(size)


def digest(parts: bytes | Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in [parts] if isinstance(parts, bytes) else parts:
        found.update(part)
    return found.hexdigest()


def parts_of(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


async def until_it_accepts(port: int) -> None:
    """Some servers say that they listen before they do."""
    deadline = asyncio.get_running_loop().time() + SECONDS
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.02)
        else:
            writer.close()
            await writer.wait_closed()
            return


async def in_parallel(workers: int, *, work: Any) -> list[Any]:
    """Runs ``work(number)`` that often at once; the first failure is raised."""
    return await asyncio.gather(*(work(number) for number in range(workers)))


class Process:
    """A server in a process of its own, its output in a file."""

    def __init__(
        self, command: list[str], kind: str, variables: dict[str, str] | None = None, **options: Any
    ) -> None:
        environment = dict(os.environ, PYTHONUNBUFFERED="1", **(variables or {}))
        environment.pop("ZERIO_PROVIDER", None)
        if kind != "std":
            environment["ZERIO_PROVIDER"] = kind
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=environment,
            **{"cwd": ROOT, **options},  # from there `-m` finds tests.apps.site
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def output(self) -> str:
        return os.pread(self._log.fileno(), MIB, 0).decode(errors="replace")

    async def printed(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Waits for the pattern in the output."""
        deadline = asyncio.get_running_loop().time() + SECONDS
        while True:
            ended = self._process.poll() is not None
            found = list(re.finditer(pattern, self.output()))
            if len(found) >= times:
                return found[times - 1]
            assert not ended, self.output()
            assert asyncio.get_running_loop().time() < deadline, self.output()
            await asyncio.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Its exit status; fails, with the output, if it does not end."""
        try:
            return await asyncio.to_thread(self._process.wait, SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running:\n{self.output()}") from None

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()


@contextlib.asynccontextmanager
async def process(command: list[str], kind: str, **options: Any) -> AsyncIterator[Process]:
    """Runs a Python module, ``[name, arguments...]``, with the provider of ``kind``."""
    started = Process([sys.executable, "-m", *command], kind, **options)
    try:
        yield started
    finally:
        started.close()
