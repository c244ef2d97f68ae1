"""The wake-up descriptor, to which the interpreter writes the number of each signal.

A process has one, and every loop that wants signals takes it. When asyncio's loops end they reset
it, whoever has it by then, and the others would get no more signals. So when one of our loops
releases it, another one that is still open gets it; if a signal that a loop handles was not written
to it, the loop writes it itself (unix/event_loop.py).

After a fork parent and child would share it, and the parent would receive what is sent to the child
alone: from 3.12 on CPython resets it in the child.
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
    """``loop`` has taken the wake-up descriptor, and wants to get it back."""
    _loops.add(loop)


def given_up(loop: Any) -> None:
    """``loop`` no longer needs it: the next one that does gets it."""
    _loops.discard(loop)
    if threading.current_thread() is not threading.main_thread():
        return
    for other in list(_loops):
        if take(other):
            break


def take(loop: Any) -> bool:
    """Have signals written to ``loop``; false if it has ended or belongs to a parent process.

    Only in the main thread.
    """
    waker = loop._csock
    if waker is None or loop._process != os.getpid():
        return False
    with contextlib.suppress(OSError, ValueError):  # closed by the program
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        return True
    return False


def assure(loop: Any, number: int) -> None:
    """In a signal handler: make sure that ``loop`` gets it, whoever has the wake-up descriptor."""
    waker = loop._csock
    if waker is None:
        return
    own = waker.fileno()
    try:
        holder = signal.set_wakeup_fd(own, warn_on_full_buffer=False)
    except (OSError, ValueError):  # closed by the program
        return
    if holder == own:
        return  # it was already written
    if holder >= 0:
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile: this loop keeps it
            signal.set_wakeup_fd(holder, warn_on_full_buffer=False)
    with contextlib.suppress(OSError):  # full: many signals come, but none is lost entirely
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
