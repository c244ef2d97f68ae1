"""Debug mode: what it logs, and how it is switched."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import socket
import subprocess
import sys
import time

import pytest

from .marks import beyond_proactor
from .support import connect, recorder_of, shut, spin


def test_debug_is_off_and_can_be_switched(loop):
    assert loop.get_debug() is sys.flags.dev_mode
    loop.set_debug(False)
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


@beyond_proactor
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


async def test_slow_protocols_are_logged(loop, protocol, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.005
    recorder = recorder_of(protocol)
    note = recorder.note

    def slow(call):
        if call == "data_received":
            time.sleep(0.01)
        note(call)

    recorder.note = slow
    with caplog.at_level(logging.WARNING, "asyncio"):
        transport, _, peer = await connect(lambda: recorder)
        await peer.send(b"x")
        await recorder.got(1)
        await spin()
        await shut(transport, recorder, peer)
    messages = [record.getMessage() for record in caplog.records]
    assert any("Transport" in text and "took" in text for text in messages), messages


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
    loop.set_debug(False)
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


@pytest.mark.parametrize("flags", [["-X", "dev"], ["-E"]])
@pytest.mark.parametrize("variable", ["1", ""])
def test_debug_is_switched_on_from_outside(kind, flags, variable):
    """As asyncio's documentation has it: by the environment or by development mode."""
    code = f"from tests.loop.support import make_loop; loop = make_loop({kind!r});"
    code += "print(loop.get_debug()); loop.close()"
    environment = {**os.environ, "PYTHONASYNCIODEBUG": variable}
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], env=environment, capture_output=True, text=True
    )
    wanted = "dev" in flags or (bool(variable) and "-E" not in flags)
    assert done.stdout == f"{wanted}\n", done.stderr


async def test_calls_from_the_wrong_thread_are_refused(loop):
    loop.set_debug(True)

    def work():
        for call in (loop.call_soon, lambda f: loop.call_later(0, f), lambda f: loop.call_at(0, f)):
            with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
                call(print)
        future = asyncio.Future(loop=loop)
        future.add_done_callback(print)
        with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
            future.set_result(None)
        loop.call_soon_threadsafe(int)

    await asyncio.to_thread(work)


@pytest.mark.parametrize("name", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
async def test_what_is_no_callback_is_refused(loop, name):
    async def coroutine():
        raise AssertionError("not to be called")

    loop.set_debug(True)
    schedule = getattr(loop, name)
    times = (0,) if name in ("call_later", "call_at") else ()
    made = coroutine()
    for wrong in (coroutine, made):
        with pytest.raises(TypeError, match="coroutines cannot be used"):
            schedule(*times, wrong)
    with pytest.raises(TypeError, match="callable"):
        schedule(*times, "no function")
    made.close()


async def test_the_handler_of_exceptions_is_told_where_a_callback_comes_from(loop, caught):
    loop.set_debug(True)
    loop.call_soon(lambda: 1 / 0)
    await spin()
    context = caught.take_one(ZeroDivisionError)
    assert any(frame.filename == __file__ for frame in context["source_traceback"])


async def test_a_future_that_was_never_retrieved_tells_where_it_was_made(loop, caught):
    loop.set_debug(True)
    future = loop.create_future()
    future.set_exception(ZeroDivisionError())
    del future
    gc.collect()
    context = caught.take_one(ZeroDivisionError)
    assert any(frame.filename == __file__ for frame in context["source_traceback"])


async def test_a_task_that_waits_for_ever_is_told_of_when_it_goes(loop, caught):
    """Destroyed while pending: asyncio's own complaint, with the place of its making."""
    loop.set_debug(True)

    async def wait(future):
        await future

    task = loop.create_task(wait(loop.create_future()))
    await spin()
    del task
    gc.collect()
    contexts = caught.take()
    assert [context["message"] for context in contexts] == ["Task was destroyed but it is pending!"]
    assert contexts[0]["source_traceback"]


async def test_a_coroutine_that_was_never_awaited_tells_its_origin(loop):
    loop.set_debug(True)
    await spin()  # the origins are tracked from the next turn on

    async def forgotten():
        raise AssertionError("not to be called")

    with pytest.warns(RuntimeWarning, match="Coroutine created at"):
        forgotten()
        gc.collect()


async def test_the_words_of_the_slow_callback_warning(loop, caplog):
    """Log filters and people know them."""
    loop.set_debug(True)
    loop.slow_callback_duration = 0.005

    async def dawdle():
        time.sleep(0.01)

    def slow(number):
        time.sleep(0.01)

    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.call_soon(slow, 5)
        await loop.create_task(dawdle())
        await spin()
    texts = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    this = re.escape(__file__)
    callback = re.compile(
        rf"Executing <Handle .*slow\(5\) at {this}:\d+ created at .*> took 0\.\d{{3}} seconds"
    )
    task = re.compile(
        r"Executing <Task finished name=.* coro=<.*dawdle\(\) done, defined at .*"
        r"result=None created at .*> took 0\.\d{3} seconds"
    )
    assert any(callback.fullmatch(text) for text in texts), texts
    assert any(task.fullmatch(text) for text in texts), texts
