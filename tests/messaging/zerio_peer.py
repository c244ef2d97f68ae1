"""Peers that behave as the C# sources of Zerio do, over blocking sockets and threads.

Written from what ``MessageFramer``, ``Session``, ``SessionManager``, ``ZerioServer`` and
``ZerioClient`` do, the odd parts included: the framer delivers an empty message only when another
byte arrives, and has a buffer of a fixed size; an id is kept by the first that has it, and answers
go to whoever has it; the server accepts nobody while it waits for an introduction.
"""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections.abc import Callable

from ..loop.support import SECONDS, listener

FRAMING_BUFFER_LENGTH = 64 * 1024


def ascii_string(data: bytes) -> str:
    """``Encoding.ASCII.GetString``: what is not ASCII becomes a question mark."""
    return "".join(chr(byte) if byte < 0x80 else "?" for byte in data)


def ascii_bytes(text: str) -> bytes:
    """``Encoding.ASCII.GetBytes``: the same."""
    return text.encode("ascii", "replace")


class CopyBeyondBuffer(Exception):
    """C# would write past its buffer, or ask for a negative number of bytes."""


class Framer:
    """``MessageFramer``."""

    def __init__(self, framed: Callable[[bytes], None]) -> None:
        self._framed = framed
        self._buffer = bytearray()
        self._length: int | None = None

    def submit(self, data: bytes) -> None:
        offset = 0
        while len(data) - offset > 0:
            wanted = 4 if self._length is None else self._length
            count = min(wanted - len(self._buffer), len(data) - offset)
            if count < 0 or len(self._buffer) + count > FRAMING_BUFFER_LENGTH:
                raise CopyBeyondBuffer(wanted)
            self._buffer += data[offset : offset + count]
            offset += count
            if len(self._buffer) != wanted:
                return
            message = bytes(self._buffer)
            self._buffer.clear()
            if self._length is None:
                (self._length,) = struct.unpack("<i", message)
            else:
                self._length = None
                self._framed(message)


class Session:
    """``Session``: the first message is the peer id, whatever it is."""

    def __init__(
        self,
        sock: socket.socket,
        handshake: Callable[[str, Session], None],
        message: Callable[[str, bytes], None],
        closed: Callable[[Session], None],
    ) -> None:
        self.sock = sock
        self.peer_id: str | None = None
        self.failure: Exception | None = None
        self._handshake = handshake
        self._message = message
        self._closed = closed
        self._framer = Framer(self._framed)
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        try:
            while data := self.sock.recv(65536):
                self._framer.submit(data)
        except (OSError, CopyBeyondBuffer) as failure:
            self.failure = failure
        self._closed(self)

    def _framed(self, message: bytes) -> None:
        if self.peer_id is None:
            self.peer_id = ascii_string(message)
            self._handshake(self.peer_id, self)
        else:
            self._message(self.peer_id, message)

    def send(self, message: bytes) -> None:
        self.sock.sendall(struct.pack("<i", len(message)) + message)

    def close(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        self._thread.join(SECONDS)


class CSharpClient:
    """``ZerioClient``; ``start`` blocks, as there, but not for ever."""

    def __init__(self, address: tuple[str, int], peer_id: str) -> None:
        self.events: queue.Queue[object] = queue.Queue()
        self._answered = threading.Event()
        self._address = address
        self._peer_id = peer_id

    def start(self) -> bool:
        """Whether the server answered in the time that a test has."""
        sock = socket.create_connection(self._address, SECONDS)
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.session = Session(
            sock,
            lambda peer_id, session: self._answered.set(),
            lambda peer_id, message: self.events.put(message),
            lambda session: self.events.put(None),
        )
        self.session.send(ascii_bytes(self._peer_id))
        return self._answered.wait(SECONDS)

    def send(self, message: bytes) -> None:
        self.session.send(message)

    def next(self) -> object:
        """The next message, or None for the end."""
        return self.events.get(timeout=SECONDS)

    def stop(self) -> None:
        self.session.close()


class CSharpServer:
    """``ZerioServer`` and its ``SessionManager``."""

    def __init__(self) -> None:
        self._listener = listener()
        self.address = self._listener.getsockname()
        self.events: queue.Queue[tuple[str, object]] = queue.Queue()
        self._by_peer_id: dict[str, Session] = {}
        self._sessions: list[Session] = []
        self._handshake = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            session = Session(sock, self._introduced, self._message, self._closed)
            self._sessions.append(session)
            if not self._handshake.acquire(timeout=SECONDS):
                return
            self.events.put(("connected", session.peer_id))

    def _introduced(self, peer_id: str, session: Session) -> None:
        self._by_peer_id.setdefault(peer_id, session)  # TryAdd
        self.send(peer_id, ascii_bytes(peer_id))
        self._handshake.release()

    def _message(self, peer_id: str, message: bytes) -> None:
        self.events.put((peer_id, message))

    def _closed(self, session: Session) -> None:
        self._by_peer_id.pop(session.peer_id or "", None)
        self.events.put(("disconnected", session.peer_id))

    def send(self, peer_id: str, message: bytes) -> None:
        session = self._by_peer_id.get(peer_id)
        if session is not None:
            session.send(message)

    def next(self) -> tuple[str, object]:
        return self.events.get(timeout=SECONDS)

    def stop(self) -> None:
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        self._handshake.release()
        self._thread.join(SECONDS)
        for session in self._sessions:
            session.close()
