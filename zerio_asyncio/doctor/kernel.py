"""What a Linux kernel allows this process, and what follows from it for the providers.

`read` looks; `explain` thinks, from nothing but what was read, so that any machine's facts can be
explained on any other one.

Which versions matter is told in ring.c of `zerio_asyncio.rio`; the settings are the kernel's:
https://docs.kernel.org/admin-guide/sysctl/kernel.html#io-uring-disabled
https://man7.org/linux/man-pages/man5/proc_pid_status.5.html (Seccomp)
"""

from __future__ import annotations

import errno
import importlib
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

PROC = Path("/proc")
SECCOMP_FILTERS = 2  # SECCOMP_MODE_FILTER, as /proc tells it
URING_SINCE = (5, 19)  # what ring.c's last rung asks for
DEFERRED_SINCE = (6, 1)  # results are posted when asked for, not by interrupts
ARRAYLESS_SINCE = (6, 6)  # a ring without the array of indexes
MEMCG_SINCE = (5, 12)  # rings are charged to the control group, not to the limit of locked memory
DESCRIPTORS_LOW = 4096  # a server of a thousand connections and some files
LOCKED_LOW = 64 << 10  # bytes; what kernels before 5.16 allow, and one small ring


class Note(NamedTuple):
    """One thing that was found; ``warns`` if something should be changed."""

    about: str
    told: str
    warns: bool = False


@dataclass(frozen=True)
class Kernel:
    """What was read; None and 0 where the system does not say."""

    release: str = ""
    uring_disabled: str | None = None
    uring_group: str | None = None
    seccomp: int | None = None
    seccomp_filters: int | None = None
    descriptors: tuple[int | None, int | None] | None = None
    locked: tuple[int | None, int | None] | None = None

    @property
    def version(self) -> tuple[int, int] | None:
        """The first two numbers of the release."""
        found = re.match(r"(\d+)\.(\d+)", self.release)
        return (int(found[1]), int(found[2])) if found else None


def read(proc: Path = PROC) -> Kernel:
    """Read what this system says about itself."""
    status = _text(proc / "self" / "status") or ""
    return Kernel(
        release=platform.release(),
        uring_disabled=_text(proc / "sys" / "kernel" / "io_uring_disabled"),
        uring_group=_text(proc / "sys" / "kernel" / "io_uring_group"),
        seccomp=_field(status, "Seccomp"),
        seccomp_filters=_field(status, "Seccomp_filters"),
        descriptors=limit("RLIMIT_NOFILE"),
        locked=limit("RLIMIT_MEMLOCK"),
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def _field(status: str, name: str) -> int | None:
    found = re.search(rf"^{name}:\s*(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else None


def limit(name: str) -> tuple[int | None, int | None] | None:
    """Return the soft and the hard limit, None for no limit; None if the system has none such."""
    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:  # Windows
        return None
    if not hasattr(resource, name):
        return None
    limits = resource.getrlimit(getattr(resource, name))
    soft, hard = (None if value == resource.RLIM_INFINITY else value for value in limits)
    return soft, hard


def explain(kernel: Kernel, refusal: str | None = None) -> list[Note]:
    """Say what follows; ``refusal`` is what the provider ``uring`` was refused with, if it was."""
    notes = []
    if kernel.uring_disabled is not None or refusal is not None:
        notes += [_version(kernel), _setting(kernel), _seccomp(kernel)]
    if kernel.locked is not None:
        notes.append(_locked(kernel))
    if kernel.descriptors is not None:
        notes.append(_descriptors(kernel))
    if refusal is not None:
        notes.append(Note("io_uring", _cause(kernel, refusal), warns=True))
    return notes


def _version(kernel: Kernel) -> Note:
    about = f"kernel {kernel.release}"
    version = kernel.version
    if version is None:
        return Note(about, "its version is not understood")
    if version < URING_SINCE:
        told = "older than 5.19, so uring is refused; epoll needs no more than any kernel has"
        return Note(about, told, warns=True)
    if version < DEFERRED_SINCE:
        return Note(about, "uring works, and is interrupted by results; from 6.1 on it is not")
    if version < ARRAYLESS_SINCE:
        return Note(about, "has what uring uses, but for rings without an array of indexes (6.6)")
    return Note(about, "has everything that uring uses")


def _setting(kernel: Kernel) -> Note:
    about = "kernel.io_uring_disabled"
    if kernel.uring_disabled is None:
        return Note(about, "no such setting (kernels before 6.6 have none)")
    if kernel.uring_disabled == "0":
        return Note(about, "0: everybody may use io_uring")
    if kernel.uring_disabled == "1":
        mine = os.getgroups() if hasattr(os, "getgroups") else []
        inside = kernel.uring_group in {str(group) for group in mine}
        told = f"1: io_uring is for the group {kernel.uring_group} and for root alone"
        return Note(about, f"{told}; this process is {'' if inside else 'not '}in it", not inside)
    return Note(about, f"{kernel.uring_disabled}: nobody may use io_uring; set it to 0", warns=True)


def _seccomp(kernel: Kernel) -> Note:
    if kernel.seccomp is None:
        return Note("seccomp", "the kernel does not say whether there are filters")
    if kernel.seccomp != SECCOMP_FILTERS:
        return Note("seccomp", "no filters: no system call is forbidden this way")
    count = f"{kernel.seccomp_filters} filters" if kernel.seccomp_filters else "filters"
    return Note("seccomp", f"{count} in force, as in containers; they may forbid io_uring")


def _locked(kernel: Kernel) -> Note:
    about = "locked memory (ulimit -l)"
    assert kernel.locked is not None
    soft, hard = kernel.locked
    if soft is None:
        return Note(about, "unlimited")
    told = f"{soft >> 10} KiB (hard limit {'none' if hard is None else f'{hard >> 10} KiB'})"
    version = kernel.version
    if version is not None and version >= MEMCG_SINCE:
        return Note(about, f"{told}; this kernel does not count io_uring's queues against it")
    told += "; this kernel counts the queues of all rings of a user against it"
    return Note(about, told, warns=soft <= LOCKED_LOW)


def _descriptors(kernel: Kernel) -> Note:
    about = "descriptors (ulimit -n)"
    assert kernel.descriptors is not None
    soft, hard = kernel.descriptors
    if soft is None:
        return Note(about, "unlimited")
    told = f"{soft} (hard limit {'none' if hard is None else hard}): that many connections at most"
    if soft >= DESCRIPTORS_LOW:
        return Note(about, told)
    raising = "" if hard is not None and hard <= soft else "; a server can raise it to the hard one"
    return Note(about, told + raising, warns=True)


def _cause(kernel: Kernel, refusal: str) -> str:
    """The likeliest cause, by what was read beside what the system answered."""

    def answered(*codes: int) -> bool:
        return any(os.strerror(code) in refusal for code in codes)

    filtered = kernel.seccomp == SECCOMP_FILTERS and answered(errno.EPERM, errno.ENOSYS)
    old = kernel.version is not None and kernel.version < URING_SINCE
    causes = (
        (old, "because this kernel is older than 5.19: the loop takes epoll"),
        (
            kernel.uring_disabled == "2",
            "because kernel.io_uring_disabled is 2: sysctl kernel.io_uring_disabled=0 allows it",
        ),
        (
            filtered,
            (
                "most likely by a seccomp filter: allow the io_uring system calls in the "
                "container's profile (docker: --security-opt seccomp=FILE)"
            ),
        ),
        (
            kernel.uring_disabled == "1",
            (
                "most likely because kernel.io_uring_disabled is 1: put the user into the group "
                f"{kernel.uring_group}, or set it to 0"
            ),
        ),
        (
            answered(errno.ENOSYS),
            "because this kernel has none (CONFIG_IO_URING), or a sandbox hides it",
        ),
        (
            answered(errno.ENOMEM, errno.EMFILE, errno.ENFILE),
            "at a limit: raise the limits of locked memory (ulimit -l) and descriptors (ulimit -n)",
        ),
        (True, "for the reason that the provider's probe told"),
    )
    return "refused " + next(cause for holds, cause in causes if holds)
