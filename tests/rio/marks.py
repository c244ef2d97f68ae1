"""What a system may lack; a test that is about just that says so by its mark."""

import os
import signal
import socket

import pytest

with_unix_sockets = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX"), reason="this Python has no Unix sockets"
)
with_posix_signals = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="no signal can be sent to a thread here"
)
with_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
with_watched_pipes = pytest.mark.skipif(
    os.name == "nt", reason="readiness is of sockets alone, as select() on Windows"
)
with_descriptor_limit = pytest.mark.skipif(
    os.name == "nt", reason="no limit of descriptors can be set here"
)
