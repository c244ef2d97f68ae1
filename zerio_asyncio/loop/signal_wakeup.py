"""The wake-up descriptor: where the interpreter writes the number of each signal that comes.

A process has one, and every loop that wants to hear of signals takes it. asyncio's loops end by
setting it to none, whoever has it by then; the others would hear of no signal any more. So when one
of our loops lets go of it, another one that is still open gets it; a loop to which a signal has not
been written although it is in the loop's charge writes it itself (unix/event_loop.py).

After a fork parent and child would share it, and what is sent to the child alone would be the
parent's, too: CPython sets it to none in the child from 3.12 on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import weakref
from typing import Any

_loops: weakref.WeakSet[Any] = weakref.WeakSet()


def wanted(loop: Any) -> None:
    """``loop`` has taken the wake-up descriptor, and would have it back."""
    _loops.add(loop)


def given_up(loop: Any) -> None:
    """``loop`` has no use for it any more: the next one that has gets it."""
    _loops.discard(loop)
    if threading.current_thread() is not threading.main_thread():
        return
    for other in list(_loops):
        if take(other):
            break


def take(loop: Any) -> bool:
    """Have signals written to ``loop``; false if it has ended, or is that of a parent process.

    In the main thread alone.
    """
    waker = loop._csock
    if waker is None or loop._process != os.getpid():
        return False
    with contextlib.suppress(OSError, ValueError):  # closed by the program
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        return True
    return False


def assure(loop: Any, number: int) -> None:
    """In the handler of a signal: whoever has the wake-up descriptor, ``loop`` hears of it."""
    waker = loop._csock
    if waker is None:
        return
    own = waker.fileno()
    try:
        holder = signal.set_wakeup_fd(own, warn_on_full_buffer=False)
    except (OSError, ValueError):  # closed by the program
        return
    if holder == own:
        return  # it was written already
    if holder >= 0:
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile: this loop keeps it
            signal.set_wakeup_fd(holder, warn_on_full_buffer=False)
    with contextlib.suppress(OSError):  # full: many signals come, and none is lost altogether
        waker.send(bytes([number]))


def _forked() -> None:
    holder = signal.set_wakeup_fd(-1)
    if holder >= 0 and all(_descriptor(loop) != holder for loop in _loops):
        with contextlib.suppress(OSError, ValueError):
            signal.set_wakeup_fd(holder, warn_on_full_buffer=False)


def _descriptor(loop: Any) -> int:
    return -1 if loop._csock is None else int(loop._csock.fileno())


if sys.version_info < (3, 12) and hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
