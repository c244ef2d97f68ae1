"""What a child wrote before a ``communicate()`` was cancelled is there for the next one.

``Process.communicate`` reads each stream to its end. When it times out, asyncio forgets the blocks
read by then, and all of a stream that had ended before the other; ``subprocess.Popen`` keeps both.
The streams of children get this class when they are made.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader
from asyncio.subprocess import Process, SubprocessStreamProtocol
from typing import Any

_READS_FOR_COMMUNICATE: Any = Process._read_stream.__code__  # type: ignore[attr-defined]


class KeepingReader(StreamReader):
    """A stream of a child."""

    _ended_with: bytes | None = None
    """Everything ``communicate`` has read, once the stream has ended."""

    async def read(self, n: int = -1) -> bytes:
        """Read up to ``n`` bytes, or to the end; see ``asyncio.StreamReader.read``."""
        if n >= 0:
            return await super().read(n)
        if self._ended_with is not None and _is_communicating():
            return self._ended_with
        blocks = []
        try:
            while block := await super().read(self._limit):  # type: ignore[attr-defined]
                blocks.append(block)
        except BaseException:
            self._buffer[:0] = b"".join(blocks)  # type: ignore[attr-defined]
            raise
        data = b"".join(blocks)
        if _is_communicating():
            self._ended_with = data
        return data


def _is_communicating() -> bool:
    task = asyncio.current_task()
    coroutine = None if task is None else task.get_coro()
    return getattr(coroutine, "cr_code", None) is _READS_FOR_COMMUNICATE


def keep_output(protocol: Any) -> None:
    """Turn the new readers of a child's streams into ``KeepingReader`` objects."""
    if isinstance(protocol, SubprocessStreamProtocol):
        for reader in (protocol.stdout, protocol.stderr):
            if type(reader) is StreamReader:
                reader.__class__ = KeepingReader
