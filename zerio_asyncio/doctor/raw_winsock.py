"""Winsock and Registered I/O by the system's own functions, for the facts of windows_facts.py.

Nothing of a provider stands in between: what is measured here is Windows. Structures and codes:
https://learn.microsoft.com/windows/win32/api/mswsock/ns-mswsock-rio_extension_function_table
https://learn.microsoft.com/windows/win32/winsock/windows-sockets-error-codes-2
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import socket
import struct
import time
import uuid
from typing import TYPE_CHECKING, Any, ClassVar, final

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 0.3
"""Seconds that a result may take over loopback. Where none is expected, this is waited out."""

REGISTERED = 0x100 | 0x01  # WSA_FLAG_REGISTERED_IO, WSA_FLAG_OVERLAPPED
PLAIN = 0x01
GET_MULTIPLE = 0xC8000024  # SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER
GET_ONE = 0xC8000006  # SIO_GET_EXTENSION_FUNCTION_POINTER
FIONBIO = 0x8004667E - (1 << 32)  # a long
MULTIPLE_RIO = uuid.UUID("8509e081-96dd-4005-b165-9e2ee8c79e3f").bytes_le
ACCEPT_EX = uuid.UUID("b5367df1-cbac-11cf-95ca-00805f48a192").bytes_le
UPDATE_ACCEPT_CONTEXT = 0x700B
INVALID_BUFFER = 0xFFFFFFFF
BUFFER_BYTES = 65536
NOT_SUPPORTED, NOT_A_SOCKET, ABORTED, FAULT = 10045, 10038, 10053, 10014
WSA_IO_PENDING = 997

_POINTER, _DWORD, _INT, _SOCKET = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_size_t


class _Slice(ctypes.Structure):
    _fields_ = (("buffer", _POINTER), ("offset", _DWORD), ("length", _DWORD))


class _Result(ctypes.Structure):
    _fields_ = (
        ("status", ctypes.c_int32),
        ("transferred", _DWORD),
        ("socket_context", ctypes.c_uint64),
        ("request_context", ctypes.c_uint64),
    )


class _Overlapped(ctypes.Structure):
    _fields_ = (
        ("internal", ctypes.c_size_t),
        ("high", ctypes.c_size_t),
        ("offset", ctypes.c_uint64),
        ("event", _POINTER),
    )


class _Page(ctypes.Structure):  # PSAPI_WORKING_SET_EX_INFORMATION; bit 0: it is there
    _fields_ = (("address", ctypes.c_size_t), ("attributes", ctypes.c_size_t))


class _Bytes(ctypes.Structure):  # WSABUF
    _fields_ = (("length", _DWORD), ("memory", ctypes.c_char_p))


ENTRIES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("receive", (_INT, _POINTER, _POINTER, _DWORD, _DWORD, _POINTER)),
    ("receive_ex", (_INT, *[_POINTER] * 9)),
    ("send", (_INT, _POINTER, _POINTER, _DWORD, _DWORD, _POINTER)),
    ("send_ex", (_INT, *[_POINTER] * 9)),
    ("close_queue", (None, _POINTER)),
    ("create_queue", (_POINTER, _DWORD, _POINTER)),
    ("create_requests", (_POINTER, _SOCKET, *[_DWORD] * 4, *[_POINTER] * 3)),
    ("dequeue", (_DWORD, _POINTER, _POINTER, _DWORD)),
    ("deregister", (None, _POINTER)),
    ("notify", (_INT, _POINTER)),
    ("register", (_POINTER, _POINTER, _DWORD)),
    ("resize_queue", (_INT, _POINTER, _DWORD)),
    ("resize_requests", (_INT, _POINTER, _DWORD, _DWORD)),
)
"""RIO's functions in the order of the table: result and arguments."""


class UntriedError(Exception):
    """What a fact needs could not be made."""


@final
class Winsock:
    """The system's functions; some may be ``replaced``, for tests."""

    replaced: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        load: Any = getattr(ctypes, "WinDLL", None)
        if load is None:
            raise UntriedError("this system has no Winsock")
        self.ws2: Any = load("ws2_32", use_last_error=True)
        self.kernel: Any = load("kernel32", use_last_error=True)
        self.nt: Any = load("ntdll")
        for name, function in self.replaced.items():
            setattr(self.ws2, name, function)
        self.ws2.WSASocketW.restype = _SOCKET
        self.ws2.accept.restype = _SOCKET
        for name in ("CreateEventW", "CreateIoCompletionPort", "CreateWaitableTimerExW"):
            getattr(self.kernel, name).restype = _POINTER
        self.kernel.VirtualAlloc.restype = _POINTER
        self._prototype: Any = getattr(ctypes, "WINFUNCTYPE", None)

    def new(self, flags: int, kind: int = socket.SOCK_STREAM) -> int:
        """Make a socket; its number."""
        proto = socket.IPPROTO_TCP if kind == socket.SOCK_STREAM else socket.IPPROTO_UDP
        what = _INT(socket.AF_INET), _INT(kind), _INT(proto)
        made = int(self.ws2.WSASocketW(*what, None, 0, _DWORD(flags)))
        if made in {-1, 2**64 - 1}:
            raise UntriedError(f"no socket with flags {flags:#x}: {self.error()}")
        return made

    def error(self) -> int:
        """Return the code of this thread's last refused call of Winsock."""
        code: int = getattr(ctypes, "get_last_error", int)()
        return code

    def table(self, sock: int) -> Any:
        """Return RIO's table of a socket's transport: an object with a function for each name."""
        raw = (ctypes.c_size_t * (1 + len(ENTRIES)))(ctypes.sizeof(ctypes.c_size_t) * 14)
        count = _DWORD()
        guid = ctypes.create_string_buffer(MULTIPLE_RIO, 16)
        refused = self.ws2.WSAIoctl(
            _SOCKET(sock), _DWORD(GET_MULTIPLE), guid, _DWORD(16), raw,
            _DWORD(ctypes.sizeof(raw)), ctypes.byref(count), None, None,
        )  # fmt: skip
        if refused:
            raise UntriedError(f"no table of Registered I/O: {self.error()}")
        made = type("Table", (), {})()
        for (name, types), address in zip(ENTRIES, raw[1:], strict=True):
            setattr(made, name, self._prototype(*types, use_last_error=True)(address))
        return made

    def extension(self, sock: int, guid: bytes, types: tuple[Any, ...]) -> Any:
        """Return an extension function of a socket's transport."""
        found, count = _POINTER(), _DWORD()
        refused = self.ws2.WSAIoctl(
            _SOCKET(sock), _DWORD(GET_ONE), ctypes.create_string_buffer(guid, 16), _DWORD(16),
            ctypes.byref(found), _DWORD(ctypes.sizeof(found)), ctypes.byref(count), None, None,
        )  # fmt: skip
        if refused or not found.value:
            raise UntriedError(f"no such extension function: {self.error()}")
        return self._prototype(*types, use_last_error=True)(found.value)


_given_up: list[Queues] = []
"""Whose results never came: the system may still write to their memory."""


@final
class Lab:
    """One fact's sockets, queues and memory.

    All are closed with it, sockets first: only that ends their requests.
    """

    def __init__(self) -> None:
        self.winsock = Winsock()
        self.kept: Any = None
        self._closing = contextlib.ExitStack()
        self._queues: list[Queues] = []

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()
        for queues in self._queues:
            queues.close()

    def close(self, sock: int) -> None:
        """Close a socket by its number; again is harmless."""
        self.winsock.ws2.closesocket(_SOCKET(sock))

    def make(self, flags: int = REGISTERED, kind: int = socket.SOCK_STREAM) -> int:
        """Make a socket that is closed with the lab."""
        made = self.winsock.new(flags, kind)
        self._closing.callback(self.close, made)
        return made

    def bound(self, flags: int = REGISTERED, kind: int = socket.SOCK_STREAM) -> tuple[int, int]:
        """Make a socket bound to loopback: its number and its port."""
        made = self.make(flags, kind)
        address = struct.pack("=H", socket.AF_INET) + b"\0\0" + socket.inet_aton("127.0.0.1")
        raw = ctypes.create_string_buffer(address, 16)
        if self.winsock.ws2.bind(_SOCKET(made), raw, _INT(16)):
            raise UntriedError(f"no bind: {self.winsock.error()}")
        length = _INT(16)
        self.winsock.ws2.getsockname(_SOCKET(made), raw, ctypes.byref(length))
        return made, int.from_bytes(raw.raw[2:4], "big")

    def peer(self, port: int) -> socket.socket:
        """Connect an ordinary socket of Python's."""
        made = socket.create_connection(("127.0.0.1", port), 5)
        self._closing.callback(made.close)
        return made

    def pair(self) -> tuple[int, socket.socket]:
        """Accept on a flagged listener: the connection's number, and its ordinary peer."""
        listener, port = self.bound()
        self.winsock.ws2.listen(_SOCKET(listener), _INT(5))
        peer = self.peer(port)
        made = int(self.winsock.ws2.accept(_SOCKET(listener), None, None))
        self._closing.callback(self.close, made)
        return made, peer

    def accept_ex(self, listens: int, accepts: int) -> tuple[int, socket.socket]:
        """Accept by AcceptEx, with sockets of these flags: the connection, its ordinary peer."""
        ws2, kernel = self.winsock.ws2, self.winsock.kernel
        listener, port = self.bound(listens)
        ws2.listen(_SOCKET(listener), _INT(5))
        made = self.make(accepts)
        types = (_INT, _SOCKET, _SOCKET, *[_POINTER] * 1, *[_DWORD] * 3, _POINTER, _POINTER)
        accept = self.winsock.extension(listener, ACCEPT_EX, types)
        event = kernel.CreateEventW(None, 1, 0, None)
        self._closing.callback(kernel.CloseHandle, _POINTER(event))
        room = ctypes.create_string_buffer(512)
        done = _Overlapped(event=event)
        self.kept = (room, done)  # until the lab is gone
        count = _DWORD()
        started = accept(listener, made, room, 0, 144, 144, ctypes.byref(count), ctypes.byref(done))
        if not started and self.winsock.error() != WSA_IO_PENDING:
            raise UntriedError(f"AcceptEx: {self.winsock.error()}")
        peer = self.peer(port)
        if kernel.WaitForSingleObject(_POINTER(event), _DWORD(3000)):
            raise UntriedError("AcceptEx did not end in 3 s")
        told = _SOCKET(listener)
        ws2.setsockopt(
            _SOCKET(made), _INT(socket.SOL_SOCKET), _INT(UPDATE_ACCEPT_CONTEXT),
            ctypes.byref(told), _INT(ctypes.sizeof(told)),
        )  # fmt: skip
        return made, peer

    def set_blocking(self, sock: int) -> int:
        """Ask for FIONBIO; 0 or a code."""
        on = _DWORD(1)
        refused = self.winsock.ws2.ioctlsocket(
            _SOCKET(sock), ctypes.c_int32(FIONBIO), ctypes.byref(on)
        )
        return self.winsock.error() if refused else 0

    def plain_calls(self, sock: int) -> dict[str, int]:
        """Try the calls of ordinary sockets on a connection with data in it: a code for each."""
        ws2, count, flags = self.winsock.ws2, _DWORD(), _DWORD()
        room = ctypes.create_string_buffer(b"data")
        part = _Bytes(1, ctypes.cast(room, ctypes.c_char_p))
        part_at, count_at, own = ctypes.byref(part), ctypes.byref(count), _SOCKET(sock)
        calls: dict[str, Callable[[], int]] = {
            "send": lambda: ws2.send(own, room, _INT(1), _INT(0)),
            "recv": lambda: ws2.recv(own, room, _INT(1), _INT(0)),
            "WSASend": lambda: ws2.WSASend(
                own, part_at, _DWORD(1), count_at, _DWORD(0), None, None
            ),
            "WSARecv": lambda: ws2.WSARecv(
                own, part_at, _DWORD(1), count_at, ctypes.byref(flags), None, None
            ),
        }
        return {name: 0 if call() >= 0 else self.winsock.error() for name, call in calls.items()}

    def resident(self, address: int, pages: int) -> int:
        """Count the pages from an address on that are in the working set."""
        asked = (_Page * pages)()
        for number, page in enumerate(asked):
            page.address = address + number * mmap.PAGESIZE
        answer = self.winsock.kernel.K32QueryWorkingSetEx(
            _POINTER(-1), asked, _DWORD(ctypes.sizeof(asked))
        )
        if not answer:
            raise UntriedError("the system does not tell about pages")
        return sum(page.attributes & 1 for page in asked)

    def queues(self, sock: int) -> Queues:
        """Make a request queue of a socket, with all that it needs."""
        made = Queues(self.winsock, sock)
        self._queues.append(made)
        return made


@final
class Queues:
    """A polled completion queue, a request queue on it, registered memory."""

    def __init__(self, winsock: Winsock, sock: int) -> None:
        self.table = winsock.table(sock)
        self.flying = 0  # requests without a result
        self.memory = ctypes.create_string_buffer(BUFFER_BYTES)
        self.buffer = self.table.register(self.memory, BUFFER_BYTES)
        self.queue = self.table.create_queue(64, None)
        if not self.queue or self.buffer == INVALID_BUFFER:
            raise UntriedError(f"no memory or no queue: {winsock.error()}")
        self.requests = self.table.create_requests(sock, 16, 1, 16, 1, self.queue, self.queue, None)
        if not self.requests:
            raise UntriedError(f"no request queue: {winsock.error()}")

    def receive(self, length: int = 1024, offset: int = 0) -> bool:
        """Post a receive; whether it was accepted."""
        part = _Slice(self.buffer, offset, length)
        started = bool(self.table.receive(self.requests, ctypes.byref(part), 1, 0, 1))
        self.flying += started
        return started

    def send(self, data: bytes) -> bool:
        """Post a send; whether it was accepted."""
        offset = BUFFER_BYTES // 2
        ctypes.memmove(ctypes.addressof(self.memory) + offset, data, len(data))
        part = _Slice(self.buffer, offset, len(data))
        started = bool(self.table.send(self.requests, ctypes.byref(part), 1, 0, 2))
        self.flying += started
        return started

    def result(self, seconds: float = PATIENCE) -> _Result | None:
        """Wait for one result."""
        found = _Result()
        end = time.monotonic() + seconds
        while self.table.dequeue(self.queue, ctypes.byref(found), 1) != 1:
            if time.monotonic() > end:
                return None
            time.sleep(0.001)
        self.flying -= 1
        return found

    def close(self) -> None:
        """Take what the socket's end has left, and give everything back."""
        while self.flying and self.result() is not None:
            continue
        if self.flying:
            _given_up.append(self)
            return
        self.table.close_queue(self.queue)
        self.table.deregister(self.buffer)
