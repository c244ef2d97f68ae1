"""What the benchmark asks of Windows; ``zerio_asyncio.bench.linux.asked`` has the same names."""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # a type checker of another platform reads no further

import asyncio
import ctypes
import msvcrt
import os
import platform
from ctypes import wintypes
from typing import TYPE_CHECKING

from zerio_asyncio.bench._native import ffi, lib

if TYPE_CHECKING:
    from typing import IO

STANDARD = {
    "asyncio": asyncio.ProactorEventLoop,
    "asyncio-selector": asyncio.SelectorEventLoop,
}
"""The standard library's loops, by their peers' names."""

OTHERS = ("winloop", "cadeloop")
"""Other libraries' loops; the first is what ratios refer to."""

PATCHED: dict[str, str] = {}
"""Loops with another library's transports: they are for the rows of TLS."""

WITHOUT_TLS: tuple[str, ...] = ()
"""Loops whose servers take no context."""

PROVIDERS = ("winsock", "overlapped")

LIMIT, LIMIT_TITLE = "c-iocp", "C IOCP"

SHARES_PORTS = False
"""Whether several listeners may have one port, as the mode ``threads`` needs it."""

HAS_TLS_ROWS = False
"""Whether the native half speaks TLS here."""

LISTENS_FIRST = False
"""Whether a socket that listens already is the same to our loops as one that they make. Registered
I/O wants sockets that were made for it."""

DIALS_AGAIN = False
"""Whether the generator can make a new connection for each request."""

WINSOCK_CODES = range(10000, 12000)

QUERY = 0x1000  # PROCESS_QUERY_LIMITED_INFORMATION

_kernel = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel.GetCurrentProcess.restype = wintypes.HANDLE
_kernel.GetCurrentThread.restype = wintypes.HANDLE
_kernel.OpenProcess.restype = wintypes.HANDLE
_kernel.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
_kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
_kernel.SetProcessAffinityMask.argtypes = (wintypes.HANDLE, ctypes.c_size_t)
_kernel.SetThreadAffinityMask.argtypes = (wintypes.HANDLE, ctypes.c_size_t)
_kernel.SetThreadAffinityMask.restype = ctypes.c_size_t
_kernel.GetProcessAffinityMask.argtypes = (
    wintypes.HANDLE,
    ctypes.POINTER(ctypes.c_size_t),
    ctypes.POINTER(ctypes.c_size_t),
)


class _MemoryCounters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS."""

    _fields_ = (
        ("size", wintypes.DWORD),
        ("page_faults", wintypes.DWORD),
        ("peak_working_set", ctypes.c_size_t),
        ("working_set", ctypes.c_size_t),
        ("quotas_and_page_file", ctypes.c_size_t * 6),
    )


_kernel.K32GetProcessMemoryInfo.argtypes = (
    wintypes.HANDLE,
    ctypes.POINTER(_MemoryCounters),
    wintypes.DWORD,
)


def _check(success: int) -> None:
    if not success:
        raise ctypes.WinError(ctypes.get_last_error())


def pin(*chosen: int | None) -> None:
    """Pin this process to these CPUs; None leaves it free.

    CPUs are those of the process's own group of 64: more are one machine in a thousand.
    """
    mask = 0
    for core in chosen:
        mask |= 0 if core is None else 1 << core
    if mask:
        _check(_kernel.SetProcessAffinityMask(_kernel.GetCurrentProcess(), mask))


def pin_thread(core: int) -> None:
    """Pin the calling thread alone."""
    _check(_kernel.SetThreadAffinityMask(_kernel.GetCurrentThread(), 1 << core))


def cores() -> list[int]:
    """CPUs that this process may use, in order."""
    mine, all_there_are = ctypes.c_size_t(), ctypes.c_size_t()
    process = _kernel.GetCurrentProcess()
    _check(_kernel.GetProcessAffinityMask(process, mine, all_there_are))
    return [core for core in range(mine.value.bit_length()) if mine.value >> core & 1]


def raise_descriptor_limit(connections: int) -> None:
    """Nothing: a process may have sixteen million handles."""


def cpu_ns() -> int:
    """CPU time of this process; that of ``time.process_time_ns`` moves by 15.6 ms at a time."""
    found = ffi.new("uint64_t *")
    status = lib.process_cpu_ns(0, found)
    if status:
        raise OSError(-status, words_of(-status))
    return int(found[0])


def cpu_split() -> tuple[float, float]:
    """The same in seconds, the user's and the system's."""
    times = os.times()
    return times.user, times.system


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM (its working set), in bytes; OSError if it tells none."""
    counters = _MemoryCounters(size=ctypes.sizeof(_MemoryCounters))
    process = _kernel.OpenProcess(QUERY, False, pid)
    _check(process)
    try:
        _check(_kernel.K32GetProcessMemoryInfo(process, counters, counters.size))
    finally:
        _kernel.CloseHandle(process)
    return int(counters.working_set)


def load_average() -> float | None:
    """Processes that ran or wanted to, in the last minute; None where nobody counts them."""
    return None


def processor() -> str:
    """What the processor calls itself."""
    return platform.processor()


def descriptor(file: IO[str]) -> int:
    """What native.h calls the descriptor of a pipe: its handle."""
    return msvcrt.get_osfhandle(file.fileno())


def interpreter() -> tuple[str, dict[str, str]]:
    """The program that runs this Python, and what its environment must have for that.

    A virtual environment's ``python.exe`` only starts another one, whose number nobody would know
    and whose CPU nobody would count. So that one is started at once, as `multiprocessing` does it.
    """
    base = str(getattr(sys, "_base_executable", sys.executable))
    if base == sys.executable:
        return base, {}
    return base, {"__PYVENV_LAUNCHER__": sys.executable}


def words_of(code: int) -> str:
    """The text of a code of the native half: Winsock's, or an errno."""
    return ctypes.FormatError(code).strip() if code in WINSOCK_CODES else os.strerror(code)
