"""Child processes: their end is an event of the loop's own port.

CPython 3.10 and 3.11 give every child a thread that only waits for it. Here, on every version, the
loop watches a process descriptor (``pidfd_open``, Linux 5.3): no thread, no signal, no child
watcher of the policy, and a loop in any thread may have children.

Hazards, and how they are handled:

* The descriptor may be refused: an older kernel, a filter, none left. By then the child runs and
  must not be lost, so a thread, which needs no descriptor, waits for this one.
* ``Popen.poll``, which ``Process.kill`` and ``transport.close`` call, may wait for the child before
  the loop does. Then the ``Popen`` has the status, and it is taken from there.
* A pid is free for another process once its child has been waited for. So the loop's own thread
  waits and tells the transport at the same moment, after which it sends no more signals.
* A program may have chosen a child watcher of its own that waits for every child of the process
  (``FastChildWatcher``). It would take our children's status, so they are left to it.

Source: ``asyncio.unix_events`` (3.10 to 3.15), child watchers and ``_make_subprocess_transport``.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from asyncio import events, unix_events
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

_open_process = getattr(os, "pidfd_open", None)

# The watchers that policies make by themselves; they wait only for children they are given.
_STANDARD_WATCHERS = ("ThreadedChildWatcher", "PidfdChildWatcher")


def has_own_watcher() -> bool:
    """Tell whether the program has set a child watcher that asyncio would not make itself."""
    policy = getattr(events, "_event_loop_policy", None)  # asking for it would make one
    watcher = getattr(policy, "_watcher", None)
    return watcher is not None and type(watcher).__name__ not in _STANDARD_WATCHERS


def wait_for_exit(process: subprocess.Popen[bytes]) -> int:
    """Reap the child and return its exit code; 255, as in asyncio, if someone else did."""
    try:
        _, status = os.waitpid(process.pid, 0)
    except ChildProcessError:
        if process.returncode is not None:
            return process.returncode
        logger.warning(
            "child process pid %d exit status already read:  will report returncode 255",
            process.pid,
        )
        return 255
    return os.waitstatus_to_exitcode(status)


class ChildTransport(unix_events._UnixSubprocessTransport):  # type: ignore[name-defined,misc]
    """A child that may be garbage-collected after its loop was closed, without any warning."""

    def close(self) -> None:
        """Close the pipes and kill the child if it still runs."""
        # A transport that has ended has no loop any more.
        if self._loop is not None and self._loop.is_closed():
            # Each would make the loop notify its protocol. They close by themselves.
            self._pipes: dict[int, Any] = {}
        super().close()


class Children:
    """The children of one loop."""

    def __init__(self, loop: Any) -> None:
        self._loop_of = weakref.ref(loop)  # whose part this is: a closed loop is freed at once
        self._descriptors: set[int] = set()

    @property
    def _loop(self) -> Any:
        return self._loop_of()

    async def start(
        self,
        protocol: Any,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: Any = None,
        **options: Any,
    ) -> Any:
        """Start a child, connect its pipes, return its transport; on failure no child is left."""
        waiter = self._loop.create_future()
        transport = ChildTransport(
            self._loop,
            protocol,
            args,
            shell,
            stdin,
            stdout,
            stderr,
            bufsize,
            waiter=waiter,
            extra=extra,
            **options,
        )
        self._watch(transport)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport

    def close(self) -> None:
        """Stop watching when the loop is closed; running children continue."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _watch(self, transport: Any) -> None:
        try:
            descriptor = self._watch_descriptor(transport)
        except OSError as refusal:
            logger.debug("a thread waits for %r: %s", transport, refusal)
            threading.Thread(
                target=_wait_in_thread,
                args=(self._loop, transport, transport._proc),
                name=f"waitpid-{transport.get_pid()}",
                daemon=True,
            ).start()
        else:
            self._descriptors.add(descriptor)

    def _watch_descriptor(self, transport: Any) -> int:
        if _open_process is None:
            raise OSError("this system has no process descriptors")
        descriptor: int = _open_process(transport.get_pid())
        try:
            self._loop._add_reader(descriptor, self._ended, descriptor, transport)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _ended(self, descriptor: int, transport: Any) -> None:
        self._loop._remove_reader(descriptor)
        self._descriptors.discard(descriptor)
        os.close(descriptor)
        _reap(transport, transport._proc)


def _reap(transport: Any, process: subprocess.Popen[bytes]) -> None:
    transport._process_exited(wait_for_exit(process))


def _wait_in_thread(loop: Any, transport: Any, process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ChildProcessError):  # somebody else has waited for it
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        loop.call_soon_threadsafe(_reap, transport, process)
    except RuntimeError:
        wait_for_exit(process)
        logger.warning("Loop %r that handles pid %r is closed", loop, process.pid)
