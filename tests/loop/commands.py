"""The command ``openssl`` as the other side of a TLS connection.

It can do what Python's ``ssl`` cannot: change the keys of a connection, ask for another handshake
or for a client's certificate, by a letter on its standard input. It says what it has done, and with
``-msg`` each message of the handshake that it sends or gets, so tests wait for its words.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading
from typing import Any, final

import pytest

from .support import SECONDS

with_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="this system has no command openssl"
)


@final
class Openssl:
    """``openssl`` with these arguments; all methods block, for threads."""

    def __init__(self, *arguments: object) -> None:
        self._process = subprocess.Popen(
            ["openssl", *map(str, arguments)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._pieces: queue.Queue[bytes] = queue.Queue()
        self._unread = bytearray()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def __enter__(self) -> Openssl:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reading.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        piece = b"-"
        while piece:
            piece = os.read(self._process.stdout.fileno(), 65536)
            self._pieces.put(piece)

    def say(self, words: bytes) -> None:
        """A letter and a newline are a command, if nothing else comes with them."""
        stdin: Any = self._process.stdin
        stdin.write(words)

    def until(self, words: bytes) -> bytes:
        """What it has said up to these words, and since the last ones that were waited for."""
        while words not in self._unread:
            try:
                piece = self._pieces.get(timeout=SECONDS)
            except queue.Empty:
                raise AssertionError(f"never said {words!r}, but {self._unread!r}") from None
            if not piece:
                raise AssertionError(f"ended without {words!r}: {self._unread!r}")
            self._unread += piece
        said, _, rest = bytes(self._unread).partition(words)
        self._unread = bytearray(rest)
        return said + words

    def last_words(self) -> bytes:
        """All that it still says until it ends."""
        while piece := self._pieces.get(timeout=SECONDS):
            self._unread += piece
        return bytes(self._unread)
