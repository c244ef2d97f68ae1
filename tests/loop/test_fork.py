"""fork(): the child leaves the parent's ring alone, makes a loop of its own, the parent goes on.

Trap 3 of docs/design.md.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
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


@pytest.mark.ours
def test_running_the_parents_loop_in_the_child_is_refused(loop):
    """The standard loop would share the parent's epoll instance; ours says no."""
    loop.run_until_complete(asyncio.sleep(0))

    def run():
        coroutine = asyncio.sleep(0)
        try:
            loop.run_until_complete(coroutine)
        except (OSError, RuntimeError) as refusal:
            return type(refusal).__name__
        finally:
            coroutine.close()
        return "ran"

    assert in_child(run) != "ran"
    loop.run_until_complete(asyncio.sleep(0))


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
