"""A peer in TLS that spoils one of the flights it sends, and otherwise keeps to the standard.

A flight is what one side sends before it waits for the other: of a client its hello, then the end
of its handshake, then a message. The peer is an SSLObject of the interpreter, so each flight is as
it must be until it is spoilt, on its way to the socket.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import ssl
import time
from collections.abc import Callable

from .support import SECONDS

MESSAGE = bytes(number % 251 for number in range(3000))
"""What the peer sends when it thinks that the handshake is over; the loop's side sends it back."""

FLIGHTS = 3
WAYS = ("flip", "cut and end", "cut and wait", "twice", "record twice", "dribble", "as it is")
HARMLESS = ("dribble", "as it is")

ALERT = 21
WARNING, FATAL = 1, 2
CLOSE_NOTIFY = 0
# By their numbers (RFC 8446, 6.2); those of TLS 1.2 that servers still send are among them.
ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    116: "certificate_required",
    120: "no_application_protocol",
}


def records(data: bytes) -> list[bytes]:
    """What of it are whole records, each with its header, and the rest."""
    found = []
    while data:
        size = 5 + int.from_bytes(data[3:5], "big") if len(data) >= 5 else len(data)
        found.append(data[:size])
        data = data[size:]
    return found


def plain_alerts(data: bytes) -> list[tuple[int, int]]:
    """Level and number of the alerts that anybody can read."""
    return [
        (record[5], record[6])
        for record in records(data)
        if record[0] == ALERT and len(record) == 7 and record[3:5] == b"\0\2"
    ]


def says_why(data: bytes) -> bool:
    """Whether the last record is an alert: one that anybody can read, or one that is encrypted.

    In TLS 1.3 the latter looks like data, but has just two bytes, its true type and a tag.
    """
    last = records(data)[-1] if data else b""
    return last[:1] == bytes([ALERT]) or (last[:1], last[3:5]) == (b"\x17", b"\0\x13")


def is_strict(data: bytes) -> bool:
    """Whether all alerts are either a close_notify, or fatal and the last word."""
    found = records(data)
    return all(
        plain_alerts(record) == [(WARNING, CLOSE_NOTIFY)]
        or (plain_alerts(record)[0][0] == FATAL and place == len(found) - 1)
        for place, record in enumerate(found)
        if plain_alerts(record)
    )


def end_sending(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side may have reset it
        sock.shutdown(socket.SHUT_WR)


@dataclasses.dataclass(frozen=True)
class Spoil:
    """Which flight, in which way, and where in it, as a share of its length."""

    flight: int
    way: str
    where: float = 0.0
    bit: int = 0

    @property
    def harmless(self) -> bool:
        return self.way in HARMLESS

    def pieces(self, flight: int, data: bytes) -> list[bytes]:
        """What is sent in the place of a flight."""
        if flight != self.flight or self.way == "as it is":
            return [data]
        at = min(int(self.where * len(data)), len(data) - 1)
        if self.way == "flip":
            return [data[:at] + bytes([data[at] ^ 1 << self.bit]) + data[at + 1 :]]
        if self.way == "twice":
            return [data, data]
        if self.way == "record twice":
            parts = records(data)
            chosen = min(int(self.where * len(parts)), len(parts) - 1)
            return [b"".join([*parts[: chosen + 1], *parts[chosen:]])]
        if self.way == "dribble":
            return [*(data[at : at + 1] for at in range(100)), data[100:]]
        return [data[:at]]

    def is_last(self, flight: int) -> bool:
        return flight == self.flight and self.way.startswith("cut")


class HostilePeer:
    """Runs in a thread, to the end of the connection; ``is_up`` tells that the loop's side is."""

    def __init__(
        self, context: ssl.SSLContext, server_side: bool, spoil: Spoil, is_up: Callable[[], bool]
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self._side = context.wrap_bio(self._incoming, self._outgoing, server_side, name)
        self._spoil, self._is_up = spoil, is_up
        self._flight = 0
        self.raw = bytearray()
        self.answer = bytearray()
        self.was_reset = False

    @property
    def answered(self) -> bool:
        return self.answer == MESSAGE

    def play(self, sock: socket.socket) -> None:
        """Fails by TimeoutError if the other side does not end what cannot go on."""
        sock.settimeout(SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sock:
            try:
                if self._until(sock, self._side.do_handshake) and self._say(sock):
                    self._until(sock, self._listen)
                if self.answered:
                    self._finish(sock)
                self._wait_for_the_end(sock)
            except ConnectionError:
                self.was_reset = True  # as whoever has unread data at its end does

    def _say(self, sock: socket.socket) -> bool:
        self._side.write(MESSAGE)
        return self._send(sock)

    def _listen(self) -> None:
        while not self.answered:
            data = self._side.read(65536)
            if not data:
                return
            self.answer += data

    def _finish(self, sock: socket.socket) -> None:
        try:
            self._side.unwrap()
        except ssl.SSLError:
            pass  # it waits for the other side's word
        sock.sendall(self._outgoing.read())
        end_sending(sock)

    def _until(self, sock: socket.socket, step: Callable[[], None]) -> bool:
        """Takes the step as soon as enough has come; False if the peer is not to go on."""
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                over = False
            except ssl.SSLError:
                self._send(sock)  # the alert
                end_sending(sock)
                return False
            else:
                over = True
            if not self._send(sock):
                return False
            if over:
                return True
            data = sock.recv(65536)
            if not data:
                return False
            self.raw += data
            self._incoming.write(data)

    def _send(self, sock: socket.socket) -> bool:
        data = self._outgoing.read()
        if not data:
            return True
        flight, self._flight = self._flight, self._flight + 1
        for piece in self._spoil.pieces(flight, data):
            sock.sendall(piece)
        if not self._spoil.is_last(flight):
            return True
        if self._spoil.way == "cut and end":
            end_sending(sock)
        return False

    def _wait_for_the_end(self, sock: socket.socket) -> None:
        """Says nothing any more. A handshake has its limit; what comes later has none."""
        deadline = time.monotonic() + SECONDS
        sock.settimeout(0.02)
        while True:
            try:
                data = sock.recv(65536)
            except TimeoutError:
                if self._is_up():
                    return
                if time.monotonic() > deadline:
                    raise
            else:
                if not data:
                    return
                self.raw += data
