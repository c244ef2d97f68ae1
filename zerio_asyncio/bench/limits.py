"""What a measured process asks of the system: its own core, and enough descriptors."""

from __future__ import annotations

import os
import resource

SPARE_DESCRIPTORS = 128
"""Besides the connections: interpreter, listener, ring, epoll, pipes."""


def pin(*cores: int | None) -> None:
    """Pin this process to these CPUs; None leaves it free."""
    chosen = {core for core in cores if core is not None}
    if chosen:
        os.sched_setaffinity(0, chosen)


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
