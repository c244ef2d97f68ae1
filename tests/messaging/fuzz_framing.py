"""Fuzzes the framer, guided by coverage of the bytes' way through it, with atheris.

    python -m tests.messaging.fuzz_framing -runs=200000
    python -m tests.messaging.fuzz_framing -max_total_time=300 CORPUS

The options are libFuzzer's; without ``-runs`` or ``-max_total_time`` it ends after 100,000 runs. It
needs atheris (the extra ``fuzz``; CPython 3.11 to 3.13) and Linux. A finding is written to a file
``crash-*``, and the exception tells what was wrong.

Each input says how its stream is cut, what the handler does, and the stream: raw bytes, or
lengths with bodies. What the framer hands over must be what the model in framing.py hands over.
Compiled code reports no coverage to atheris, so the model is what guides: its branches over the
same input are the framer's. ``compare`` runs without atheris, too; test_fuzzing.py does that.
"""

from __future__ import annotations

import struct
import sys

from zerio_asyncio.messaging.errors import FramingError
from zerio_asyncio.messaging.framing import MessageFramer

LIMIT = 300
RUNS = 100_000


class Source:
    """Takes numbers and bytes from an input; zeros when it is used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        self._at += size
        return part

    def rest(self) -> bytes:
        return self.take(len(self._data))


def stream_of(source: Source) -> bytes:
    """Half of all inputs are streams as they stand; the others are made of lengths and bodies."""
    if source.byte() & 1:
        return source.rest()
    stream = bytearray()
    for _ in range(source.byte() & 15):
        kind, size = source.byte(), source.byte()
        body = source.take(size)
        if kind < 200:
            length = len(body)
        elif kind < 220:
            length = LIMIT + size - 128
            body = body.ljust(max(0, length) if kind < 210 else 0, b".")
        else:
            length = struct.unpack("<i", source.take(4).ljust(4, b"\xff"))[0]
        stream += struct.pack("<i", length) + body
    return bytes(stream)


def model(stream: bytes) -> tuple[list[bytes], bool]:
    """What a framer hands over, and whether a bad length ends it."""
    messages = []
    at = 0
    while True:
        if len(stream) - at < 4:
            return messages, False
        length = int.from_bytes(stream[at : at + 4], "little", signed=True)
        if length < 0:
            return messages, True
        if length > LIMIT:
            return messages, True
        if len(stream) - at - 4 < length:
            return messages, False
        if length == 0:
            messages.append(b"")
        else:
            messages.append(stream[at + 4 : at + 4 + length])
        at += 4 + length


class Handler:
    """Checks views, keeps some of them and parts of some, and leaves now and then."""

    def __init__(self, habits: int) -> None:
        self._habits = habits
        self.messages: list[bytes] = []
        self._views: list[memoryview] = []
        self._parts: list[tuple[memoryview, bytes]] = []

    def __call__(self, view: memoryview) -> None:
        assert view.readonly
        assert view.contiguous
        assert view.nbytes == len(view)
        message = bytes(view)
        self.messages.append(message)
        count = len(self.messages)
        if self._habits & 1:
            self._views.append(view)
        if self._habits & 2 and count % 2:
            self._parts.append((view[1:], message[1:]))
        if self._habits & 4:
            hash(view)
        if self._habits & 8 and count % 3 == 0:
            raise KeyboardInterrupt

    def check_kept(self) -> None:
        for view in self._views:
            try:
                bytes(view)
            except ValueError:
                continue
            raise AssertionError("a kept view was not released")
        for part, wanted in self._parts:
            assert bytes(part) == wanted, "a kept part changed"


def feed(framer: MessageFramer, source: Source, stream: bytes) -> bool:
    """Feed the stream in the pieces that the input asks for; whether a length was bad."""
    at = 0
    while at < len(stream) or framer.left_over:
        size = (source.byte() & 63) if at < len(stream) else 0
        piece = stream[at : at + (size or 200)]
        at += len(piece)
        try:
            framer.feed(memoryview(piece))
        except KeyboardInterrupt:
            continue
        except FramingError:
            return True
    return False


def compare(data: bytes) -> None:
    """One run: ``AssertionError`` if the framer and the model disagree."""
    source = Source(data)
    handler = Handler(source.byte())
    cutting = Source(source.take(source.byte() & 31))
    stream = stream_of(source)
    framer = MessageFramer(handler, LIMIT)
    bad = feed(framer, cutting, stream)
    messages, wanted_bad = model(stream)
    assert handler.messages == messages, (handler.messages, messages)
    assert bad == wanted_bad, (bad, wanted_bad)
    assert framer.messages == len(messages)
    handler.check_kept()


def main() -> None:
    import atheris

    for function in (Source.byte, Source.take, Handler.__call__, Handler.check_kept):
        atheris.instrument_func(function)
    for function in (stream_of, model, feed, compare):
        globals()[function.__name__] = atheris.instrument_func(function)
    arguments = sys.argv
    if not any(a.startswith(("-runs", "-max_total_time")) for a in arguments):
        arguments = [*arguments, f"-runs={RUNS}"]
    atheris.Setup(arguments, lambda data: compare(data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
