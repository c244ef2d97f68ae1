"""Debug mode: what it logs, and how it is switched."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time

from .support import spin


def test_debug_is_off_and_can_be_switched(loop):
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    assert "debug=True" in repr(loop)


async def test_slow_callbacks_are_logged(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.005

    def slow():
        time.sleep(0.01)

    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.call_soon(slow)
        await spin()
    messages = [record.getMessage() for record in caplog.records]
    assert any("slow()" in text and "took" in text for text in messages), messages


async def test_slow_reader_callbacks_are_logged(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.005
    ours, theirs = socket.socketpair()
    with ours, theirs, caplog.at_level(logging.WARNING, "asyncio"):
        read = loop.create_future()

        def slow_reader():
            time.sleep(0.01)
            read.set_result(ours.recv(1))

        loop.add_reader(ours, slow_reader)
        theirs.send(b"x")
        assert await read == b"x"
        await spin()
        loop.remove_reader(ours)
    assert any("slow_reader()" in record.getMessage() for record in caplog.records)


async def test_the_warning_goes_to_the_logger_that_asyncio_has_now(loop, monkeypatch):
    """A program, and CPython's suite, may give asyncio another logger."""
    logger = logging.getLogger("asyncio.replaced")
    told = []
    monkeypatch.setattr(logger, "warning", lambda text, *arguments: told.append(text % arguments))
    monkeypatch.setattr("asyncio.base_events.logger", logger)
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    await spin()
    assert any("took" in text for text in told), told


async def test_slow_tasks_are_logged_by_name(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.005

    async def dawdle():
        time.sleep(0.01)

    with caplog.at_level(logging.WARNING, "asyncio"):
        await loop.create_task(dawdle(), name="dawdler")
        await spin()
    assert any("dawdle" in record.getMessage() for record in caplog.records)


async def test_quick_callbacks_are_not_logged(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 10
    loop.call_soon(time.sleep, 0.001)
    await spin()
    assert "took" not in caplog.text


async def test_without_debug_nothing_is_timed(loop, caplog):
    loop.slow_callback_duration = 0.001
    loop.call_soon(time.sleep, 0.003)
    await spin()
    assert "took" not in caplog.text


def test_coroutine_origins_are_tracked_while_a_debug_loop_runs(loop):
    loop.set_debug(True)
    depths = []

    async def main():
        depths.append(sys.get_coroutine_origin_tracking_depth())
        loop.set_debug(False)
        await spin()
        depths.append(sys.get_coroutine_origin_tracking_depth())

    before = sys.get_coroutine_origin_tracking_depth()
    loop.run_until_complete(main())
    assert depths[0] > before
    assert depths[1] == before
    assert sys.get_coroutine_origin_tracking_depth() == before


async def test_async_generator_hooks_are_the_loops_while_it_runs(loop):
    assert sys.get_asyncgen_hooks().firstiter is not None


def test_async_generator_hooks_are_restored(loop):
    before = sys.get_asyncgen_hooks()
    loop.run_until_complete(asyncio.sleep(0))
    assert sys.get_asyncgen_hooks() == before


def test_streams_work_in_debug_mode(loop):
    loop.set_debug(True)

    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        assert await reader.read() == b"hello\n"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
