"""fork(): the child leaves the parent's ring alone, makes a loop of its own, the parent goes on.

Trap 3 of docs/design.md.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
import traceback

import pytest

from .marks import with_fork
from .support import SECONDS, Recorder, connect, make_loop, shut

pytestmark = [with_fork, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]


def in_child(work) -> str:
    """What ``work`` answers in a forked child, or its traceback."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        status = 1
        try:
            signal.alarm(int(SECONDS))
            os.close(read_end)
            os.write(write_end, str(work()).encode())
            status = 0
        except BaseException:
            os.write(write_end, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(write_end)
    answer = b""
    while select.select([read_end], [], [], SECONDS)[0]:
        part = os.read(read_end, 65536)
        if not part:
            break
        answer += part
    os.close(read_end)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, answer.decode()
    return answer.decode()


async def echo_once():
    async def serve(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"echo\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return answer.decode().strip()


def run_new_loop(kind):
    # A loop that was running in the parent is still the running one of the child's only thread.
    asyncio._set_running_loop(None)
    loop = make_loop(kind)
    try:
        return loop.run_until_complete(echo_once())
    finally:
        loop.close()


def test_a_new_loop_in_the_child(loop, kind):
    loop.run_until_complete(asyncio.sleep(0))
    assert in_child(lambda: run_new_loop(kind)) == "echo"
    assert loop.run_until_complete(echo_once()) == "echo"


async def test_forking_while_connections_are_open_and_requests_in_flight(loop, kind):
    transport, recorder, peer = await connect(Recorder)
    transport.write(b"x" * 5_000_000)
    await peer.send(b"before")
    assert in_child(lambda: run_new_loop(kind)) == "echo"
    assert await peer.receive_exactly(5_000_000) == b"x" * 5_000_000
    await peer.send(b"after")
    assert await recorder.got(11) == b"beforeafter"
    await shut(transport, recorder, peer)


@pytest.mark.ours
async def test_the_child_closing_its_copy_harms_nobody(loop):
    """The standard loop's child takes the descriptors off the epoll instance it shares.

    close() on a running loop is refused, so the child ends the run first, as it must.
    """
    transport, recorder, peer = await connect(Recorder)

    def close_the_copy():
        asyncio._set_running_loop(None)
        loop._thread_id = None
        try:
            loop.close()
        except RuntimeError as refusal:
            return refusal
        return "closed"

    answer = in_child(close_the_copy)
    assert answer == "closed" or "running" in answer
    await peer.send(b"undisturbed")
    assert await recorder.got(11) == b"undisturbed"
    transport.write(b"as ever")
    assert await peer.receive() == b"as ever"
    await shut(transport, recorder, peer)


@pytest.mark.ours
def test_the_child_closing_a_loop_that_does_not_run(loop):
    held = {}

    async def begin():
        held["end"] = await connect(Recorder)

    async def go_on():
        transport, recorder, peer = held["end"]
        await peer.send(b"undisturbed")
        assert await recorder.got(11) == b"undisturbed"
        transport.write(b"as ever")
        assert await peer.receive() == b"as ever"
        await shut(transport, recorder, peer)

    loop.run_until_complete(begin())
    loop.run_until_complete(loop.shutdown_default_executor())

    def close():
        loop.close()
        return "closed"

    assert in_child(close) == "closed"
    loop._default_executor = None
    loop._executor_shutdown_called = False
    loop.run_until_complete(go_on())


def test_a_loop_that_has_not_run_runs_in_the_child(loop):
    assert in_child(lambda: loop.run_until_complete(echo_once())) == "echo"
    assert loop.run_until_complete(echo_once()) == "echo"


@pytest.mark.ours
def test_it_runs_in_parent_and_children_at_once(loop):
    """Each has a port of its own; those of the standard loop share one."""

    read_end, write_end = os.pipe()
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:  # pragma: no cover - another process
            try:
                signal.alarm(int(SECONDS))
                os.write(write_end, loop.run_until_complete(echo_once()).encode())
            finally:
                os._exit(0)
        children.append(pid)
    assert loop.run_until_complete(echo_once()) == "echo"
    for pid in children:
        os.waitpid(pid, 0)
    assert os.read(read_end, 100) == b"echoecho"
    os.close(read_end)
    os.close(write_end)


def test_what_was_asked_of_it_before_the_fork_happens_in_the_child(loop):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    done = []
    loop.call_soon(done.append, "soon")
    loop.call_later(0.01, done.append, "later")
    loop.add_reader(ours, lambda: done.append(ours.recv(9).decode()))
    task = loop.create_task(asyncio.sleep(0.02, "slept"))

    def work():
        theirs.send(b"ready")

        async def until():
            while len(done) < 3:
                await asyncio.sleep(0.001)
            return [await task, *sorted(done)]

        return loop.run_until_complete(until())

    assert in_child(work) == "['slept', 'later', 'ready', 'soon']"
    loop.remove_reader(ours)
    ours.close()
    theirs.close()
    assert loop.run_until_complete(task) == "slept"
    assert sorted(done) == ["later", "soon"]


def test_it_may_be_watching_in_the_child_before_it_runs(loop):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.send(b"ready")

    def work():
        future = loop.create_future()
        loop.add_reader(ours, future.set_result, "watched")
        future.add_done_callback(lambda _: loop.remove_reader(ours))
        return loop.run_until_complete(future)

    assert in_child(work) == "watched"
    ours.close()
    theirs.close()


@pytest.mark.ours  # the standard loop's are deaf in the child from 3.12 on, shared before
def test_its_signal_handlers_are_the_childs(loop):
    heard = []
    loop.add_signal_handler(signal.SIGUSR1, heard.append, "before")

    def work():
        os.kill(os.getpid(), signal.SIGUSR1)

        async def hear():
            while not heard:
                await asyncio.sleep(0.001)
            os.kill(os.getpid(), signal.SIGUSR1)
            while len(heard) < 2:
                await asyncio.sleep(0.001)

        loop.run_until_complete(hear())
        return heard

    assert in_child(work) == "['before', 'before']"
    loop.run_until_complete(asyncio.sleep(0.01))
    assert heard == []
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_a_signal_to_the_child_is_not_the_parents(loop, kind):
    if kind == "std" and sys.version_info < (3, 12):
        pytest.skip("they share the wake-up descriptor there")
    heard = []
    loop.add_signal_handler(signal.SIGUSR1, heard.append, "parent")
    assert in_child(lambda: os.kill(os.getpid(), signal.SIGUSR1)) == "None"
    await asyncio.sleep(0.05)
    assert heard == []
    os.kill(os.getpid(), signal.SIGUSR1)
    while not heard:
        await asyncio.sleep(0.001)
    loop.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.ours
async def test_a_loop_of_the_childs_that_ends_gives_no_signals_to_the_parents(loop, kind):
    heard = []
    loop.add_signal_handler(signal.SIGUSR1, heard.append, "parent")

    def work():
        asyncio._set_running_loop(None)
        own = make_loop(kind)
        own.add_signal_handler(signal.SIGUSR2, print)
        own.run_until_complete(asyncio.sleep(0))
        own.close()
        os.kill(os.getpid(), signal.SIGUSR1)
        return "ended"

    assert in_child(work) == "ended"
    await asyncio.sleep(0.05)
    assert heard == []
    loop.remove_signal_handler(signal.SIGUSR1)


def refusal_of(call, *arguments):
    """What a call in the child says; the standard loop would share the parent's epoll instance."""
    try:
        call(*arguments)
    except RuntimeError as refusal:
        return refusal
    return "done"


@pytest.mark.ours
def test_running_the_parents_loop_in_the_child_is_refused(loop):
    loop.run_until_complete(asyncio.sleep(0))

    def run():
        coroutine = asyncio.sleep(0)
        try:
            return refusal_of(loop.run_until_complete, coroutine)
        finally:
            coroutine.close()

    assert "fork" in in_child(run)
    assert "fork" in in_child(lambda: refusal_of(loop.run_forever))
    loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.ours
def test_watching_with_the_parents_loop_in_the_child_is_refused(loop):
    loop.run_until_complete(asyncio.sleep(0))
    with socket.socket() as sock:
        assert "fork" in in_child(lambda: refusal_of(loop.add_reader, sock, print))
    loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.ours
def test_a_child_that_comes_back_to_the_running_loop_is_told(loop):
    transport, recorder, peer = loop.run_until_complete(connect(Recorder))

    async def fork_in_a_callback():
        transport.write(b"once")
        loop.call_soon(fork)
        await asyncio.sleep(0.1)

    told = []
    read_end, write_end = os.pipe()

    def fork():
        told.append(os.fork())

    try:
        loop.run_until_complete(fork_in_a_callback())
    except RuntimeError as refusal:
        if told == [0]:  # pragma: no cover - another process
            os.write(write_end, str(refusal).encode())
    finally:
        if told == [0]:  # pragma: no cover - another process
            os._exit(0)
    os.waitpid(told[0], 0)
    os.close(write_end)
    assert b"fork" in os.read(read_end, 1000)
    os.close(read_end)
    assert peer.sock.recv(100) == b"once"
    loop.run_until_complete(shut(transport, recorder, peer))


def test_a_child_that_only_exits(loop):
    loop.run_until_complete(asyncio.sleep(0))
    for _ in range(3):
        assert in_child(lambda: "bye") == "bye"
    assert loop.run_until_complete(echo_once()) == "echo"


def test_multiprocessing_by_fork(loop, kind):
    import multiprocessing

    context = multiprocessing.get_context("fork")
    loop.run_until_complete(asyncio.sleep(0))
    queue = context.SimpleQueue()
    process = context.Process(target=lambda: queue.put(run_new_loop(kind)))
    process.start()
    process.join(SECONDS)
    assert process.exitcode == 0
    assert queue.get() == "echo"
    queue.close()
    process.close()
    assert loop.run_until_complete(echo_once()) == "echo"
