"""What of CPython's suite says nothing about our loop, with a reason for each entry.

Only tests that replace or inspect the private insides of one class of the standard library belong
here. Each is run all the same, and one that passes is reported.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys


@dataclasses.dataclass(frozen=True)
class Exclusion:
    """``pattern``: names as ``module.Class.test``, with the wildcards of ``fnmatch``."""

    pattern: str
    reason: str


_OS_OF_UNIX_EVENTS = (
    "takes os.sendfile away by a mock of `os` inside asyncio.unix_events, and calls a private "
    "method; our files are sent by a module of our own, on systems that have os.sendfile"
)

EXCLUSIONS = (
    Exclusion(
        "test_unix_events.SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_not_available",
        _OS_OF_UNIX_EVENTS,
    ),
    Exclusion(
        "test_ssl.TestSSL.test_remote_shutdown_receives_trailing_data_on_slow_socket",
        "puts a socket and a `write` of its own into asyncio's transport; ours takes neither",
    ),
    Exclusion(
        "test_subprocess.SubprocessThreadedWatcherTests.test_pid_not_reaped_before_exit_published",
        "looks for the thread in the private table of asyncio's own watcher (3.14); ours is asked "
        "the same in tests/loop/test_child_waiting.py",
    ),
)

# Classes that repeat SelectEventLoopTests with another selector: here all run on the same loop.
COLLAPSED = (
    "*.EPollEventLoopTests.*",
    "*.PollEventLoopTests.*",
    "*.KqueueEventLoopTests.*",
)

# Modules that make no loop on some Python, or only loops of the standard library's private classes.
LOOPLESS = frozenset(
    {
        "test_futures",
        "test_pep492",
        "test_proactor_events",
        "test_protocols",
        "test_runners",
        "test_selector_events",
        "test_tools",
        "test_transports",
    }
)
if sys.version_info < (3, 11):
    LOOPLESS |= {"test_queues"}  # on a loop with a clock of its own


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of the tests of one system."""

    exclusions: tuple[Exclusion, ...]
    collapsed: tuple[str, ...]
    loopless: frozenset[str]


WINDOWS = Known(
    exclusions=(),
    # Their twins on SelectorEventLoop are the same tests, here on the same loop.
    collapsed=(
        "test_sendfile.ProactorEventLoopTests.*",
        "test_server.ProactorStartServerTests.*",
        "test_sslproto.ProactorStartTLSTests.*",
    ),
    loopless=LOOPLESS | {"test_windows_utils"},
)

POSIX = Known(EXCLUSIONS, COLLAPSED, LOOPLESS)

HERE = WINDOWS if hasattr(asyncio, "ProactorEventLoop") else POSIX
