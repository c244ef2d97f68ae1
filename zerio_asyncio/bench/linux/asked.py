"""What the benchmark asks of Linux; ``zerio_asyncio.bench.windows.asked`` has the same names."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import IO

SPARE_DESCRIPTORS = 128
"""Besides the connections: interpreter, listener, ring, epoll, pipes."""

STANDARD = {"asyncio": asyncio.SelectorEventLoop}
"""The standard library's loops, by their peers' names."""

OTHERS = ("uvloop", "rloop", "rsloop", "zuvloop", "cadeloop", "blazio", "talyn")
"""Other libraries' loops; the first is what ratios refer to."""

PATCHED = {"uvloop-aiofastnet": "uvloop"}
"""Loops with another library's transports, which takes part where it was made for: in TLS."""

WITHOUT_TLS = ("rloop",)
"""Loops whose servers take no context."""

PROVIDERS = ("uring", "epoll")

LIMIT, LIMIT_TITLE = "c-epoll", "C epoll"

SHARES_PORTS = True
"""Whether several listeners may have one port, as the mode ``threads`` needs it."""

HAS_TLS_ROWS = True
"""Whether the native half speaks TLS here."""

LISTENS_FIRST = True
"""Whether a socket that listens already is the same to our loops as one that they make."""

DIALS_AGAIN = True
"""Whether the generator can make a new connection for each request."""


def pin(*chosen: int | None) -> None:
    """Pin this process to these CPUs; None leaves it free."""
    numbers = {core for core in chosen if core is not None}
    if numbers:
        os.sched_setaffinity(0, numbers)


def pin_thread(core: int) -> None:
    """Pin the calling thread alone."""
    os.sched_setaffinity(0, {core})


def cores() -> list[int]:
    """CPUs that this process may use, in order."""
    return sorted(os.sched_getaffinity(0))


def raise_descriptor_limit(connections: int) -> None:
    """Raise the soft RLIMIT_NOFILE as far as needed; OSError if the hard limit forbids it."""
    needed = connections + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise OSError(
                f"{connections} connections need {needed} descriptors, the hard limit is {hard}: "
                f"raise it (ulimit -Hn, LimitNOFILE=) or use fewer --connections"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def cpu_ns() -> int:
    """CPU time of this process."""
    return time.process_time_ns()


def cpu_split() -> tuple[float, float]:
    """The same in seconds, the user's and the system's."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM, in bytes; OSError if it tells none.

    From the page tables (smaps_rollup): the counter behind VmRSS is kept per CPU and may be off by
    hundreds of KiB, which is as much as a thousand connections need.
    """
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:  # noqa: PTH123
        for line in lines:
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
    raise OSError(f"process {pid} tells no resident memory")


def load_average() -> float | None:
    """Processes that ran or wanted to, in the last minute; None where nobody counts them."""
    return os.getloadavg()[0]


def processor() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "")


def descriptor(file: IO[str]) -> int:
    """What native.h calls the descriptor of a pipe."""
    return file.fileno()


def interpreter() -> tuple[str, dict[str, str]]:
    """The program that runs this Python, and what its environment must have for that."""
    return sys.executable, {}


def words_of(code: int) -> str:
    """The text of a code of the native half."""
    return os.strerror(code)
