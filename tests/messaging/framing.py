"""The wire format once more, in plain Python: what the framer must make of a stream of bytes.

Shared by the tests of the framer and the fuzzer.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable
from typing import Any

from zerio_asyncio.messaging.errors import FramingError
from zerio_asyncio.messaging.framing import MessageFramer


def expected(stream: bytes, limit: int) -> tuple[list[bytes], bool, int]:
    """The messages, whether a bad length follows them, and the bytes of one that has begun."""
    messages = []
    at = 0
    while len(stream) - at >= 4:
        (length,) = struct.unpack_from("<i", stream, at)
        if not 0 <= length <= limit:
            return messages, True, 0
        if len(stream) - at - 4 < length:
            break
        messages.append(stream[at + 4 : at + 4 + length])
        at += 4 + length
    return messages, False, len(stream) - at


def chunks_of(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The stream in pieces; those of one cut twice are empty."""
    places = [0, *sorted(cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(places)]


def feed(framer: MessageFramer, chunks: Iterable[bytes]) -> bool:
    """Feed all chunks, each in memory that is overwritten after it; whether a length was bad."""
    for chunk in chunks:
        memory = bytearray(chunk)
        view = memoryview(memory)
        try:
            framer.feed(view)
        except FramingError:
            return True
        finally:
            view.release()
            memory[:] = b"\xee" * len(memory)
    return False


def check(stream: bytes, cuts: Iterable[int], limit: int) -> None:
    """The framer agrees with ``expected``, however the stream is cut."""
    got: list[Any] = []
    framer = MessageFramer(lambda view: got.append(bytes(view)), limit)
    bad = feed(framer, chunks_of(stream, cuts))
    messages, wanted_bad, pending = expected(stream, limit)
    assert got == messages
    assert bad == wanted_bad
    assert framer.messages == len(messages)
    if not bad:
        assert framer.pending == pending
