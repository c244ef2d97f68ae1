"""What a system may lack; a test that needs just that says so by its mark."""

import os
import signal
import socket

import pytest

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from .support import WINDOWS, connect, connect_unix

with_unix_sockets = pytest.mark.skipif(
    WINDOWS, reason="Python has no AF_UNIX on Windows, its loops no Unix connections"
)
with_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
with_posix_signals = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="no signal can be sent to a thread here"
)
with_watched_pipes = pytest.mark.skipif(
    WINDOWS, reason="readiness is of sockets alone, as select() on Windows"
)
with_sending_now = pytest.mark.skipif(
    WINDOWS, reason="the proactor sends by overlapped operations, and tells of one at a time"
)
with_called_methods = pytest.mark.skipif(
    WINDOWS, reason="the proactor starts overlapped operations and calls no method of a socket"
)
with_spare_wakeup = pytest.mark.skipif(
    WINDOWS, reason="the proactor's loop takes the wake-up descriptor when it is made"
)
with_reused_ports = pytest.mark.skipif(
    not hasattr(socket, "SO_REUSEPORT"), reason="this system has no SO_REUSEPORT"
)
with_posix_children = pytest.mark.skipif(
    WINDOWS, reason="a child's signals, descriptors and status word are POSIX's"
)
with_plain_pipes = pytest.mark.skipif(
    WINDOWS, reason="os.pipe() knows no overlapped operations; children's pipes do on Windows"
)
with_os_sendfile = pytest.mark.skipif(
    not hasattr(os, "sendfile"), reason="one overlapped operation sends a whole file here"
)
with_seccomp = pytest.mark.skipif(WINDOWS, reason="seccomp and io_uring are Linux's")
with_error_queues = pytest.mark.skipif(
    WINDOWS, reason="sockets have a queue of errors on Linux alone"
)
with_limits = pytest.mark.skipif(resource is None, reason="this system has no resource limits")
with_duplicates = pytest.mark.skipif(
    WINDOWS, reason="sockets are handles: os.dup2() is of C descriptors"
)
with_ports_to_choose = pytest.mark.skipif(
    WINDOWS, reason="a socket stays with the completion port that it was first used with"
)
with_switch_counts = pytest.mark.skipif(
    not hasattr(resource, "RUSAGE_THREAD"), reason="no count of a thread's sleeps here"
)

beyond_proactor = pytest.mark.beyond_proactor
"""For what the standard loop has on POSIX alone, and ours everywhere; see conftest.py."""

MAKERS = [
    pytest.param(connect, id="tcp"),
    pytest.param(connect_unix, id="unix", marks=with_unix_sockets),
]
"""How a transport and its plain peer are made, for tests that run on both kinds of socket."""
