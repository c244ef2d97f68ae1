"""What a system may lack; a test that is about just that says so by its mark."""

import os
import signal
import socket
import sys

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
with_seccomp = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="system calls can be forbidden on Linux alone"
)
with_error_queues = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="sockets have a queue of errors on Linux alone"
)
with_descriptor_numbers = pytest.mark.skipif(
    os.name == "nt", reason="a socket's number is no C descriptor: os.dup() does not know it"
)
with_lowest_numbers = pytest.mark.skipif(
    os.name == "nt", reason="a new socket has any number, not the lowest one that is free"
)
with_sent_signals = pytest.mark.skipif(
    os.name == "nt", reason="no SIGINT or SIGTERM can be sent to another process here"
)
with_shared_listeners = pytest.mark.skipif(
    os.name == "nt", reason="no process inherits a listener that accepts by a completion port"
)
with_accepts_of_the_gone = pytest.mark.skipif(
    os.name == "nt", reason="AcceptEx tells of no client that was gone before it was accepted"
)
