"""call_soon: order, arguments, cancelling, exceptions, and stopping from inside."""

from __future__ import annotations

import asyncio
import sys

import pytest

from .support import WINDOWS, Caught, Recorder, connect, shut, spin


async def test_call_soon_runs_in_order_of_calls(loop):
    seen = []
    for number in range(100):
        loop.call_soon(seen.append, number)
    await asyncio.sleep(0)
    assert seen == list(range(100))


async def test_call_soon_never_runs_at_once(loop):
    seen = []
    loop.call_soon(seen.append, 1)
    assert seen == []
    await asyncio.sleep(0)
    assert seen == [1]


async def test_a_callback_scheduled_by_a_callback_runs_one_turn_later(loop):
    seen = []

    def first():
        seen.append("first")
        loop.call_soon(seen.append, "third")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    await asyncio.sleep(0)
    assert seen == ["first", "second"]
    await asyncio.sleep(0)
    assert seen == ["first", "second", "third"]


async def test_ready_callbacks_do_not_starve_timers(loop):
    rung = loop.create_future()
    loop.call_later(0.001, rung.set_result, None)
    turns = 0

    def again():
        nonlocal turns
        turns += 1
        if not rung.done():
            loop.call_soon(again)

    again()
    await rung
    assert turns > 0


@pytest.mark.parametrize("count", range(6))
async def test_arguments_arrive_as_given(loop, count):
    seen = []
    loop.call_soon(lambda *arguments: seen.append(arguments), *range(count))
    await asyncio.sleep(0)
    assert seen == [tuple(range(count))]


async def test_a_cancelled_callback_does_not_run(loop):
    seen = []
    handle = loop.call_soon(seen.append, 1)
    loop.call_soon(seen.append, 2)
    handle.cancel()
    handle.cancel()
    await asyncio.sleep(0)
    assert handle.cancelled()
    assert seen == [2]


async def test_a_callback_can_cancel_one_of_the_same_turn(loop):
    seen = []
    handles = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(seen.append, "cancelled"))
    loop.call_soon(seen.append, "kept")
    await asyncio.sleep(0)
    assert seen == ["kept"]


async def test_a_callback_that_cancels_itself_while_it_runs_is_harmless(loop):
    seen = []
    handles = []

    def callback():
        handles[0].cancel()
        seen.append(1)

    handles.append(loop.call_soon(callback))
    await asyncio.sleep(0)
    assert seen == [1]
    assert handles[0].cancelled()


async def test_an_exception_goes_to_the_handler_and_the_others_run(loop, caught):
    seen = []
    loop.call_soon(seen.append, 1)
    handle = loop.call_soon(lambda: 1 / 0)
    loop.call_soon(seen.append, 2)
    await asyncio.sleep(0)
    assert seen == [1, 2]
    context = caught.take_one(ZeroDivisionError)
    assert context["handle"] is handle
    assert "Exception in callback" in context["message"]


async def test_an_exception_handler_that_raises_is_logged(loop, caught, caplog):
    def broken(loop, context):
        raise RuntimeError("handler")

    loop.set_exception_handler(broken)
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
    assert "Unhandled error in exception handler" in caplog.text
    loop.set_exception_handler(caught)


async def test_the_default_exception_handler_logs_the_traceback(loop, caplog):
    loop.set_exception_handler(None)
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
    assert "Exception in callback" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("handler", [1, "no", object()])
def test_an_exception_handler_must_be_callable(loop, handler):
    with pytest.raises(TypeError):
        loop.set_exception_handler(handler)


def test_call_soon_takes_functions_alone_in_debug_mode(loop):
    async def coroutine():
        pass  # pragma: no cover

    loop.set_debug(True)
    with pytest.raises(TypeError):
        loop.call_soon(coroutine)
    with pytest.raises(TypeError):
        loop.call_soon("no function")
    with pytest.raises(TypeError):
        loop.call_later(0, coroutine)


def test_run_until_complete_returns_results_and_raises_exceptions(loop):
    async def good():
        await spin()
        return 7

    async def bad():
        await spin()
        raise LookupError("x")

    assert loop.run_until_complete(good()) == 7
    with pytest.raises(LookupError):
        loop.run_until_complete(bad())
    assert loop.run_until_complete(good()) == 7


def test_run_until_complete_of_a_future_that_is_done(loop):
    future = loop.create_future()
    future.set_result("done")
    assert loop.run_until_complete(future) == "done"


def test_run_until_complete_stopped_before_the_end(loop):
    async def main():
        loop.call_soon(loop.stop)
        await asyncio.sleep(3600)

    task = loop.create_task(main())
    with pytest.raises(RuntimeError, match="stopped before Future completed"):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_a_running_loop_cannot_be_run_again(loop, kind, new_loop):
    if kind == "std" and sys.version_info >= (3, 13):
        return  # the standard loop of 3.13 takes the refusal of a nested run for its own end

    other = new_loop()

    async def main():
        assert loop.is_running()
        assert asyncio.get_running_loop() is loop
        never = other.create_future()
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_until_complete(loop.create_future())
        with pytest.raises(RuntimeError, match="another loop is running"):
            other.run_forever()
        with pytest.raises(RuntimeError, match="another loop is running"):
            other.run_until_complete(never)
        with pytest.raises(RuntimeError):
            loop.close()

    loop.run_until_complete(main())
    assert not loop.is_running()


def test_stop_before_run_forever_runs_one_turn(loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.stop()
    loop.run_forever()
    assert seen == [1]


def test_stop_lets_the_turn_end_and_keeps_the_next(loop):
    seen = []

    def first():
        loop.stop()
        loop.call_soon(seen.append, "next turn")

    loop.call_soon(first)
    loop.call_soon(seen.append, "this turn")
    loop.run_forever()
    assert seen == ["this turn"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["this turn", "next turn"]


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_leaving_run_forever_by_a_base_exception_keeps_the_loop(loop, caught: Caught, leave):
    seen = []

    def callback():
        raise leave

    loop.call_soon(seen.append, 1)
    loop.call_soon(callback)
    loop.call_soon(seen.append, 2)
    loop.call_later(0.001, loop.stop)
    with pytest.raises(leave):
        loop.run_forever()
    assert not loop.is_running()
    assert seen == [1]
    loop.run_forever()
    assert seen == [1, 2]
    assert not caught


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_leaving_run_until_complete_by_a_base_exception_keeps_the_loop(loop, leave):
    async def main():
        await asyncio.sleep(0)
        raise leave

    with pytest.raises(leave):
        loop.run_until_complete(main())

    async def after():
        await asyncio.sleep(0.001)
        return "alive"

    assert loop.run_until_complete(after()) == "alive"


def test_a_closed_loop_refuses_everything(new_loop):
    loop = new_loop()
    loop.close()
    loop.close()
    assert loop.is_closed()
    for refused in (
        lambda: loop.call_soon(print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.call_later(0, print),
        lambda: loop.call_at(loop.time(), print),
        lambda: loop.run_forever(),
        lambda: loop.run_in_executor(None, print),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            refused()

    async def main():
        pass  # pragma: no cover

    coroutine = main()
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_until_complete(coroutine)
    coroutine.close()
    coroutine = main()
    with pytest.raises(RuntimeError, match="closed"):
        loop.create_task(coroutine)
    coroutine.close()


def test_closing_drops_what_was_ready(new_loop):
    loop = new_loop()
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_later(0, seen.append, 2)
    loop.close()
    assert seen == []


def test_repr_tells_the_state(loop):
    text = repr(loop)
    assert "running=False" in text
    assert "closed=False" in text
    assert f"debug={loop.get_debug()}" in text


def test_async_generators_are_closed_at_shutdown(loop):
    ended = []

    async def numbers():
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def main():
        generator = numbers()
        await generator.__anext__()
        return generator

    kept = loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert ended == [True]
    del kept


async def test_tasks_futures_and_factories(loop):
    assert isinstance(loop.create_future(), asyncio.Future)

    async def name():
        return asyncio.current_task().get_name()

    assert await loop.create_task(name(), name="mine") == "mine"
    made = []

    def factory(of, coroutine, **options):
        made.append(options)
        return asyncio.Task(coroutine, loop=of, **options)

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    await loop.create_task(name())
    loop.set_task_factory(None)
    assert len(made) == 1


async def test_hundreds_of_tasks_take_turns(loop):
    order = []

    async def worker(number):
        for turn in range(3):
            order.append((turn, number))
            await asyncio.sleep(0)

    await asyncio.gather(*(worker(number) for number in range(300)))
    assert order == [(turn, number) for turn in range(3) for number in range(300)]


SENT = 4
TURNS = 6
"""Fewer than a task takes that connects anew, more than the standard loop needs."""


@pytest.mark.skipif(
    WINDOWS, reason="loopback is the work of other threads there, turns tell nothing"
)
async def test_what_a_callback_sends_is_heard_of_amid_other_turns(loop):
    """A chain of callbacks, each ready at once, does not go on for long before others hear."""
    transport, recorder, peer = await connect(Recorder)

    async def turns_until_it_is_heard_of():
        before = len(recorder.received)
        count = 0
        heard = loop.create_future()

        def turn():
            nonlocal count
            count += 1
            if count == SENT:
                peer.sock.send(b"x")
            if len(recorder.received) > before:
                heard.set_result(count)
            else:
                loop.call_soon(turn)

        turn()
        return await heard

    for _ in range(20):
        size = len(recorder.received) + 6
        await peer.send(b"before")
        await recorder.got(size)
        assert await turns_until_it_is_heard_of() < SENT + TURNS
    await shut(transport, recorder, peer)
