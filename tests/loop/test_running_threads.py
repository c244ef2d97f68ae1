"""Threads: waking a loop from outside, and a loop that moves from thread to thread.

Traps 2 and 9 of docs/design.md.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from .marks import beyond_proactor
from .support import SECONDS, Recorder, connect, shut, spin


async def test_call_soon_threadsafe_wakes_a_sleeping_loop(loop):
    woken = loop.create_future()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set_result, "woken"))
    loop.call_soon(thread.start)
    assert await asyncio.wait_for(woken, SECONDS) == "woken"
    thread.join()


async def test_many_threads_wake_one_loop_and_nothing_is_lost(loop):
    threads, each = 8, 500
    seen: list[tuple[int, int]] = []
    done = loop.create_future()

    def note(thread, number):
        seen.append((thread, number))
        if len(seen) == threads * each:
            done.set_result(None)

    def work(thread):
        for number in range(each):
            loop.call_soon_threadsafe(note, thread, number)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    await asyncio.wait_for(done, SECONDS)
    for worker in workers:
        worker.join()
    for thread in range(threads):
        assert [n for t, n in seen if t == thread] == list(range(each))


async def test_threadsafe_handles_can_be_cancelled(loop):
    seen = []
    handle = loop.call_soon_threadsafe(seen.append, 1)
    assert isinstance(handle, asyncio.Handle)
    handle.cancel()
    await spin()
    assert seen == []


def test_threads_that_call_while_the_loop_closes_get_a_runtime_error_or_nothing(new_loop):
    for _ in range(20):
        loop = new_loop()
        started = threading.Event()
        ends: list[str] = []

        def work(loop=loop, started=started, ends=ends):
            while True:
                try:
                    loop.call_soon_threadsafe(int)
                except RuntimeError as refusal:
                    ends.append(str(refusal))
                    return
                started.set()

        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        assert started.wait(SECONDS)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        for worker in workers:
            worker.join(SECONDS)
            assert not worker.is_alive()
        assert len(ends) == 3
        assert all("closed" in end for end in ends)


def test_stopping_from_another_thread(loop):
    timer = threading.Timer(0.01, loop.call_soon_threadsafe, (loop.stop,))
    timer.start()
    loop.run_forever()
    timer.join()
    assert not loop.is_running()


def in_thread(work):
    """Runs ``work`` in a thread of its own, which ends before this returns."""
    result: list[object] = []

    def run():
        try:
            result.append(work())
        except BaseException as failure:
            result.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def test_a_loop_made_here_runs_in_a_second_and_a_third_thread(loop):
    """Trap 2: a ring of io_uring may belong to the thread that made it; connections move along."""
    held = {}

    async def begin():
        held["end"] = await connect(Recorder)
        transport, protocol, peer = held["end"]
        transport.write(b"from the second thread")
        assert await peer.receive() == b"from the second thread"
        await peer.send(b"one")
        await protocol.got(3)

    async def go_on():
        transport, protocol, peer = held["end"]
        await peer.send(b"two")
        assert await protocol.got(6) == b"onetwo"
        transport.write(b"from the third thread")
        assert await peer.receive() == b"from the third thread"
        await shut(transport, protocol, peer)

    in_thread(lambda: loop.run_until_complete(begin()))
    in_thread(lambda: loop.run_until_complete(go_on()))
    in_thread(loop.close)


def test_data_that_came_between_two_threads_is_not_lost(loop):
    held = {}

    async def begin():
        held["end"] = await connect(Recorder)

    async def go_on():
        transport, protocol, peer = held["end"]
        await protocol.got(5)
        await shut(transport, protocol, peer)
        return bytes(protocol.received)

    in_thread(lambda: loop.run_until_complete(begin()))
    held["end"][2].sock.sendall(b"hello")
    assert in_thread(lambda: loop.run_until_complete(go_on())) == b"hello"


def test_a_loop_that_never_ran_closes_in_another_thread(new_loop):
    in_thread(new_loop().close)


def test_many_loops_at_once_in_many_threads(new_loop):
    loops = [new_loop() for _ in range(4)]
    results = []

    async def echo():
        async def serve(reader, writer):
            while data := await reader.read(1000):
                writer.write(data)
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for number in range(200):
            writer.write(b"%d\n" % number)
            assert await reader.readline() == b"%d\n" % number
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        results.append(True)

    threads = [threading.Thread(target=loop.run_until_complete, args=(echo(),)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert results == [True] * 4


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_debug_mode_refuses_calls_of_a_foreign_thread(loop, method):
    loop.set_debug(True)

    async def main():
        arguments = (print,) if method == "call_soon" else (0, print)

        def work():
            with pytest.raises(RuntimeError, match="Non-thread-safe"):
                getattr(loop, method)(*arguments)

        await asyncio.to_thread(work)

    loop.run_until_complete(main())


@beyond_proactor
def test_a_reader_that_another_thread_adds_to_a_sleeping_loop(loop):
    """asyncio does not promise it; its loop bears it, and notebooks' kernels do it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    seen: list[bytes] = []
    removed: list[bool] = []

    def read():
        seen.append(ours.recv(10))

    def work():
        time.sleep(0.02)  # it sleeps by now, or the test shows less than it might
        try:
            with pytest.raises((OSError, ValueError)):
                loop.add_reader(100_000, read)
            loop.add_reader(ours, read)
            theirs.send(b"first")
            while not seen:
                time.sleep(0.001)
            removed.append(loop.remove_reader(ours))
            theirs.send(b"second")
            time.sleep(0.01)
        finally:
            loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=work)
    thread.start()
    # The standard loop is not woken to hear of a reader, but its epoll is.
    loop.run_forever()
    thread.join()
    assert removed == [True]
    assert seen == [b"first"]
    ours.close()
    theirs.close()
