"""What this Windows does that Microsoft's documentation does not say, fact by fact.

The provider `winsock` leans on facts that other projects measured on real machines. Here each is
tried by the system's own functions (raw_winsock.py): this machine agrees, differs, or could not be
asked. A fact that differs is no failure of ours; it is worth a report.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import socket
import time
from typing import TYPE_CHECKING, Any

from zerio_asyncio.doctor.raw_winsock import (
    ABORTED,
    BUFFER_BYTES,
    FAULT,
    INVALID_BUFFER,
    NOT_A_SOCKET,
    NOT_SUPPORTED,
    PATIENCE,
    PLAIN,
    REGISTERED,
    Lab,
    Queues,
    UntriedError,
)
from zerio_asyncio.doctor.steps import Finding, Status, Step

if TYPE_CHECKING:
    from collections.abc import Callable

PENDING = 0x103  # STATUS_PENDING
HIGH_RESOLUTION = 0x2  # CREATE_WAITABLE_TIMER_HIGH_RESOLUTION
ALL_ACCESS = 0x1F0003  # of events and timers
RESETS_TRIED = 20
DATAGRAMS = 8


def steps(_: str) -> list[Step]:
    """Return a step for each fact; those that need Registered I/O stand behind the one for it."""
    tried: list[tuple[str, Callable[[Lab], Finding]]] = [
        ("a wait packet that was signalled is pending", _wait_packet),
        ("a high-resolution timer ends a wait", _timer),
        ("Registered I/O is there", _table),
        ("nothing works without an open RIO socket", _first_socket),
        ("FIONBIO is refused (10045)", _blocking),
        ("plain calls are refused (10038)", _plain_calls),
        ("accept() gives RIO sockets", _accepted),
        ("an unflagged listener's never receive", _unflagged_listener),
        ("datagrams without a receive are dropped", _datagrams),
        ("a close ends a receive with 10053", _closed),
        ("a close may reset before the answer is read", _reset),
        ("the invalid buffer is 0xFFFFFFFF", _invalid_buffer),
        ("registering maps all pages at once", _locked),
    ]
    return [Step(title, functools.partial(_try, fact)) for title, fact in tried]


def _try(fact: Callable[[Lab], Finding]) -> Finding:
    try:
        with Lab() as lab:
            return fact(lab)
    except UntriedError as error:
        return Finding(Status.UNTRIED, str(error))


def _found(agrees: bool, told: str) -> Finding:
    return Finding(Status.AGREES if agrees else Status.DIFFERS, told)


# ---- timers -------------------------------------------------------------------------------------


def _packet(lab: Lab) -> tuple[int, int, Any]:
    """Return a completion port, a wait packet, and a function that associates an object with it."""
    nt = lab.winsock.nt
    if not hasattr(nt, "NtCreateWaitCompletionPacket"):
        raise UntriedError("this system has no wait completion packets")
    packet = ctypes.c_void_p()
    status = nt.NtCreateWaitCompletionPacket(ctypes.byref(packet), ctypes.c_uint32(1), None)
    if status:
        raise UntriedError(f"no wait completion packet: {status & 0xFFFFFFFF:#x}")
    port = lab.winsock.kernel.CreateIoCompletionPort(ctypes.c_void_p(-1), None, None, 1)

    def associate(handle: int) -> int:
        ready = ctypes.c_ubyte()
        answer: int = nt.NtAssociateWaitCompletionPacket(
            packet, ctypes.c_void_p(port), ctypes.c_void_p(handle), None, None, 0, None,
            ctypes.byref(ready),
        )  # fmt: skip
        return answer & 0xFFFFFFFF

    return port, packet.value or 0, associate


def _wait_packet(lab: Lab) -> Finding:
    port, packet, associate = _packet(lab)
    event = lab.winsock.kernel.CreateEventW(None, 1, 1, None)  # is signalled
    first = associate(event)
    cancelled = lab.winsock.nt.NtCancelWaitCompletionPacket(ctypes.c_void_p(packet), 0)
    again = associate(event)
    for handle in (event, packet, port):
        lab.winsock.kernel.CloseHandle(ctypes.c_void_p(handle))
    told = f"associate {first:#x}, cancel {cancelled & 0xFFFFFFFF:#x}, associate {again:#x}"
    return _found(cancelled == PENDING and again != 0, told)


def _timer(lab: Lab) -> Finding:
    kernel = lab.winsock.kernel
    port, packet, associate = _packet(lab)
    timer = kernel.CreateWaitableTimerExW(None, None, HIGH_RESOLUTION, ALL_ACCESS)
    if not timer:
        raise UntriedError("no timer of high resolution")
    due = ctypes.c_int64(-5000)  # 0.5 ms, in units of 100 ns
    took = []
    for _ in range(10):
        associate(timer)
        began = time.perf_counter()
        kernel.SetWaitableTimer(ctypes.c_void_p(timer), ctypes.byref(due), 0, None, None, 0)
        count, key, overlapped = ctypes.c_uint32(), ctypes.c_size_t(), ctypes.c_void_p()
        kernel.GetQueuedCompletionStatus(
            ctypes.c_void_p(port), ctypes.byref(count), ctypes.byref(key),
            ctypes.byref(overlapped), 100,
        )  # fmt: skip
        took.append((time.perf_counter() - began) * 1000)
    for handle in (timer, packet, port):
        kernel.CloseHandle(ctypes.c_void_p(handle))
    middle = sorted(took)[len(took) // 2]
    return _found(middle < 1.5, f"0.5 ms took {middle:.2f} ms, at most {max(took):.2f}")


# ---- Registered I/O -----------------------------------------------------------------------------


def _table(lab: Lab) -> Finding:
    try:
        lab.winsock.table(lab.make())
    except UntriedError as error:
        return Finding(Status.REFUSED, str(error))
    return Finding(Status.OK)


def _first_socket(lab: Lab) -> Finding:
    sock = lab.make()
    table = lab.winsock.table(sock)
    lab.close(sock)
    memory = ctypes.create_string_buffer(BUFFER_BYTES)
    buffer = table.register(memory, BUFFER_BYTES)
    memory_code = lab.winsock.error() if buffer == INVALID_BUFFER else 0
    queue = table.create_queue(16, None)
    queue_code = lab.winsock.error() if not queue else 0
    if not memory_code:
        table.deregister(buffer)
    if queue:
        table.close_queue(queue)
    told = f"register {memory_code}, queue {queue_code}"
    return _found(memory_code == queue_code == FAULT, told)


def _blocking(lab: Lab) -> Finding:
    code = lab.set_blocking(lab.make())
    return _found(code == NOT_SUPPORTED, str(code))


def _plain_calls(lab: Lab) -> Finding:
    sock, peer = lab.pair()
    peer.sendall(b"to be received")
    codes = lab.plain_calls(sock)
    told = ", ".join(f"{name} {code}" for name, code in codes.items())
    return _found(set(codes.values()) == {NOT_A_SOCKET}, told)


def _moves(queues: Queues, peer: socket.socket) -> bool:
    """Whether a byte arrives."""
    if not queues.receive():
        return False
    peer.sendall(b"x")
    result = queues.result()
    return result is not None and result.status == 0 and result.transferred == 1


def _accepted(lab: Lab) -> Finding:
    sock, peer = lab.pair()
    try:
        moves = _moves(lab.queues(sock), peer)
    except UntriedError as error:
        return _found(False, str(error))
    return _found(moves, "a byte was received" if moves else "nothing was received")


def _unflagged_listener(lab: Lab) -> Finding:
    sock, peer = lab.accept_ex(PLAIN, REGISTERED)
    moves = _moves(lab.queues(sock), peer)
    told = "received" if moves else f"accepted, and nothing came in {PATIENCE:g} s"
    return _found(not moves, told)


def _datagrams(lab: Lab) -> Finding:
    sock, port = lab.bound(kind=socket.SOCK_DGRAM)
    queues = lab.queues(sock)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(DATAGRAMS):
            sender.sendto(b"early", ("127.0.0.1", port))
        time.sleep(0.05)
        for number in range(DATAGRAMS):
            queues.receive(64, number * 64)
        early = 0
        while queues.result(0.1) is not None:
            early += 1
        sender.sendto(b"late", ("127.0.0.1", port))
        late = early == DATAGRAMS or queues.result() is not None
    told = f"{early} of {DATAGRAMS} were kept, {'the' if late else 'not even the'} next one came"
    return _found(early == 0 and late, told)


def _closed(lab: Lab) -> Finding:
    sock, _ = lab.pair()
    queues = lab.queues(sock)
    queues.receive()
    lab.close(sock)
    result = queues.result()
    if result is None:
        return _found(False, f"no result in {PATIENCE:g} s")
    return _found(result.status & 0xFFFFFFFF == ABORTED, f"status {result.status}")


def _reset(lab: Lab) -> Finding:
    resets = 0
    for number in range(RESETS_TRIED):
        sock, peer = lab.pair()
        queues = lab.queues(sock)
        queues.receive()
        peer.sendall(b"request")
        queues.result()
        queues.receive()
        queues.send(b"a" * 16384)
        queues.result()
        if number % 2:  # else the receive is outstanding at the close
            peer.sendall(b"more, which nobody reads")
        lab.close(sock)
        try:
            got = 0
            while data := peer.recv(65536):
                got += len(data)
            resets += got != 16384
        except ConnectionError:
            resets += 1
    return _found(resets > 0, f"{resets} of {RESETS_TRIED} answers were cut off")


def _invalid_buffer(lab: Lab) -> Finding:
    answer = lab.winsock.table(lab.make()).register(None, 0) or 0
    return _found(answer == INVALID_BUFFER, f"{answer:#x}")


def _locked(lab: Lab) -> Finding:
    """Whether pages that nobody has touched are in the working set after registration."""
    table = lab.winsock.table(lab.make())
    pages = 256
    with mmap.mmap(-1, pages * mmap.PAGESIZE) as memory:
        view = (ctypes.c_char * len(memory)).from_buffer(memory)
        first = ctypes.addressof(view)
        before = lab.resident(first, pages)
        buffer = table.register(ctypes.c_void_p(first), len(memory))
        after = lab.resident(first, pages)
        if buffer != INVALID_BUFFER:
            table.deregister(buffer)
        del view
    if buffer == INVALID_BUFFER:
        raise UntriedError("the memory was not registered")
    return _found(after == pages > before, f"{before} of {pages} pages before, {after} after")
