"""How our loop learns of a child's end: a process descriptor on the port, a thread if need be."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import sys
import threading
import time
import warnings

import pytest

from .children import is_gone, no_children_left, program
from .marks import with_posix_children
from .support import SECONDS, descriptors

__all__ = ["no_children_left"]

PIPE = asyncio.subprocess.PIPE

pytestmark = [with_posix_children, pytest.mark.ours, pytest.mark.usefixtures("no_children_left")]

SLEEPING = "import time; time.sleep(60)"


def process_descriptors() -> int:
    return sum("pidfd" in name for name in descriptors().values())


def waiting_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("waitpid-")]


async def test_a_child_costs_a_descriptor_and_no_thread(loop):
    threads = threading.active_count()
    processes = [await program(SLEEPING) for _ in range(3)]
    assert process_descriptors() == 3
    assert threading.active_count() == threads
    for process in processes:
        process.kill()
        assert await process.wait() == -signal.SIGKILL
    assert process_descriptors() == 0


def test_no_policy_is_asked(new_loop, monkeypatch):
    """A loop of a Runner has children although no policy and no event loop is set anywhere."""

    def refuse(*_):
        raise AssertionError("nobody may ask for a child watcher")

    if sys.version_info < (3, 14):
        monkeypatch.setattr(asyncio.events, "get_child_watcher", refuse)
    loop = new_loop()

    async def main():
        return await (await program("raise SystemExit(5)")).wait()

    assert loop.run_until_complete(main()) == 5


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EMFILE])
async def test_a_thread_waits_where_descriptors_are_refused(loop, monkeypatch, number):
    def refuse(pid):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("zerio_asyncio.loop.unix.children._open_process", refuse)
    process = await program("import sys; sys.stdin.read(); sys.exit(9)", stdin=PIPE)
    assert len(waiting_threads()) == 1
    assert process_descriptors() == 0
    process.stdin.close()
    assert await process.wait() == 9
    process = await program(SLEEPING)
    process.terminate()
    assert await process.wait() == -signal.SIGTERM
    for thread in waiting_threads():
        thread.join(SECONDS)


async def test_a_thread_waits_where_there_is_no_such_call(loop, monkeypatch):
    monkeypatch.setattr("zerio_asyncio.loop.unix.children._open_process", None)
    process = await program("raise SystemExit(9)")
    assert await process.wait() == 9
    for thread in waiting_threads():
        thread.join(SECONDS)


async def test_a_thread_waits_where_the_port_refuses(loop, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_add_reader", refuse)
        process = await program("raise SystemExit(9)")
    assert process_descriptors() == 0
    assert await process.wait() == 9
    for thread in waiting_threads():
        thread.join(SECONDS)


def is_a_zombie(pid):
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)  # raises if it is nobody's
    return True


async def test_a_pid_is_the_childs_until_its_end_is_told(loop, monkeypatch):
    """Once a thread had waited for it, another process might get the signals."""
    monkeypatch.setattr("zerio_asyncio.loop.unix.children._open_process", None)
    process = await program(SLEEPING)
    process.kill()
    for thread in waiting_threads():
        thread.join(SECONDS)
    assert process.returncode is None
    assert is_a_zombie(process.pid)
    process.kill()
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("descriptors_are_refused", [False, True])
async def test_no_signal_is_sent_to_a_pid_that_was_waited_for(
    loop, monkeypatch, descriptors_are_refused
):
    waited, late = set(), []
    waitpid, kill = os.waitpid, os.kill

    def waiting(pid, options):
        answer = waitpid(pid, options)
        waited.add(answer[0])
        return answer

    def killing(pid, number):
        if pid in waited:
            late.append(pid)
        else:
            kill(pid, number)

    monkeypatch.setattr(os, "waitpid", waiting)
    monkeypatch.setattr(os, "kill", killing)
    if descriptors_are_refused:
        monkeypatch.setattr("zerio_asyncio.loop.unix.children._open_process", None)
    process = await program(SLEEPING)
    if sys.version_info < (3, 14):  # there asyncio has Popen send it, which asks first
        monkeypatch.setattr(process._transport._proc, "poll", lambda: None)
    deadline = loop.time() + SECONDS
    while process.returncode is None and loop.time() < deadline:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.sleep(0)
    assert await process.wait() == -signal.SIGKILL
    assert process.pid in waited
    assert late == []


def test_a_thread_that_waits_longer_than_the_loop_lives(new_loop, monkeypatch, caplog):
    monkeypatch.setattr("zerio_asyncio.loop.unix.children._open_process", None)
    loop = new_loop()
    process = loop.run_until_complete(program(SLEEPING))
    popen = process._transport.get_extra_info("subprocess")
    loop.close()
    os.kill(process.pid, signal.SIGKILL)
    for thread in waiting_threads():
        thread.join(SECONDS)
    assert is_gone(process.pid)
    assert "is closed" in caplog.text
    forget(popen, process)


def forget(popen, process):
    """End what the standard library keeps for a child whose loop is gone, without its warnings."""
    popen.returncode = 0 if popen.returncode is None else popen.returncode
    process._transport._closed = True
    for stream in (popen.stdin, popen.stdout):
        if stream is not None:
            stream.close()


def test_a_loop_that_is_closed_before_its_child_ends(new_loop):
    """The child goes on; the loop keeps nothing of it."""
    before = descriptors()
    loop = new_loop()
    process = loop.run_until_complete(program("input()", stdin=PIPE))
    popen = process._transport.get_extra_info("subprocess")
    assert process_descriptors() == 1
    loop.close()
    assert process_descriptors() == 0
    loop.close()
    assert popen.poll() is None
    popen.stdin.write(b"\n")
    popen.stdin.close()
    assert popen.wait(SECONDS) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        forget(popen, process)
        pipe = process._transport.get_pipe_transport(0)
        pipe._pipe = None
        del process, popen, pipe
        gc.collect()
    assert descriptors().keys() <= before.keys()


def test_a_child_that_outlives_its_loop_is_collected_without_a_word(new_loop, monkeypatch):
    words = []
    monkeypatch.setattr(sys, "unraisablehook", words.append)
    loop = new_loop()
    process = loop.run_until_complete(program("input()", stdin=PIPE, stdout=PIPE, stderr=PIPE))
    pid = process.pid
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del process
        gc.collect()
    assert [str(word.exc_value) for word in words] == []
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


async def test_a_child_that_ends_at_once_every_time(loop):
    """The end may come before the descriptor is watched, or opened."""
    for number in range(30):
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", f"exit {number}")
        if number % 3 == 0:
            time.sleep(0.003)
        assert await process.wait() == number


async def test_children_that_the_system_reaps_by_itself(loop, caplog):
    """With SIGCHLD ignored no status is left for anybody."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        process = await program("raise SystemExit(3)")
        assert await process.wait() == 255
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert "255" in caplog.text


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="child watchers ended with 3.13")
@pytest.mark.filterwarnings("ignore:.*(child_watcher|ChildWatcher):DeprecationWarning")
def test_a_watcher_that_the_program_has_chosen(new_loop):
    """FastChildWatcher waits for whatever child ends: it must be the one who tells."""
    loop = new_loop()
    asyncio.set_event_loop(loop)
    watcher = asyncio.FastChildWatcher()
    watcher.attach_loop(loop)
    policy = asyncio.get_event_loop_policy()
    had = policy._watcher
    asyncio.set_child_watcher(watcher)
    try:
        process = loop.run_until_complete(program("raise SystemExit(6)"))
        assert process_descriptors() == 0
        assert loop.run_until_complete(process.wait()) == 6
    finally:
        with contextlib.closing(watcher):
            policy._watcher = had
        asyncio.set_event_loop(None)


async def test_debug_mode_tells_of_children(loop, caplog):
    loop.set_debug(True)
    caplog.set_level("DEBUG", "asyncio")
    process = await program("raise SystemExit(2)")
    assert await process.wait() == 2
    assert "created: pid" in caplog.text
    assert "exited with return code 2" in caplog.text
