"""Tasks that begin to run when they are made, asyncio's since 3.12, and factories of one's own."""

from __future__ import annotations

import asyncio
import contextvars
import sys

import pytest

from .support import spin

eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")


@eager
async def test_a_task_runs_up_to_its_first_wait(loop):
    loop.set_task_factory(asyncio.eager_task_factory)
    seen = []

    async def work(number):
        seen.append(number)
        return number

    assert loop.get_task_factory() is asyncio.eager_task_factory
    task = loop.create_task(work(1))
    assert seen == [1]
    assert task.done()
    assert await task == 1
    assert await asyncio.gather(*(work(n) for n in range(5))) == list(range(5))


@eager
async def test_a_task_that_waits_goes_on_as_any_other(loop):
    loop.set_task_factory(asyncio.eager_task_factory)
    seen = []

    async def work():
        seen.append("began")
        await asyncio.sleep(0)
        seen.append("went on")
        assert asyncio.current_task() is task

    task = loop.create_task(work(), name="eager")
    assert seen == ["began"]
    assert not task.done()
    assert task.get_name() == "eager"
    await task
    assert seen == ["began", "went on"]


@eager
async def test_contexts_and_groups_of_eager_tasks(loop):
    loop.set_task_factory(asyncio.eager_task_factory)
    variable = contextvars.ContextVar("variable", default=0)

    async def work(number):
        variable.set(number)
        await asyncio.sleep(0)
        return variable.get()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work(number)) for number in range(10)]
    assert [task.result() for task in tasks] == list(range(10))
    assert variable.get() == 0


@eager
async def test_streams_served_by_eager_tasks(loop):
    loop.set_task_factory(asyncio.eager_task_factory)

    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for number in range(50):
        writer.write(b"%d\n" % number)
        assert await reader.readline() == b"%d\n" % number
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


@eager
async def test_an_eager_task_that_fails_at_once(loop):
    loop.set_task_factory(asyncio.eager_task_factory)

    async def fail():
        raise ZeroDivisionError

    task = loop.create_task(fail())
    assert task.done()
    with pytest.raises(ZeroDivisionError):
        await task


async def test_a_factory_of_ones_own(loop):
    made = []

    def factory(loop, coroutine, **options):
        made.append(coroutine.__name__)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def work():
        return 5

    loop.set_task_factory(factory)
    assert await loop.create_task(work(), name="named") == 5
    assert await asyncio.ensure_future(work()) == 5
    await spin()
    assert made == ["work", "work"]
    with pytest.raises(TypeError):
        loop.set_task_factory("no factory")
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    assert await loop.create_task(work()) == 5
    assert len(made) == 2


@pytest.mark.skipif(sys.version_info < (3, 14), reason="create_task takes it from 3.14 on")
async def test_one_task_that_begins_at_once(loop):
    seen = []

    async def work():
        seen.append("began")
        await asyncio.sleep(0)
        return "done"

    task = loop.create_task(work(), eager_start=True, name="eager")
    assert seen == ["began"]
    assert task.get_name() == "eager"
    assert await task == "done"
    assert await loop.create_task(work(), eager_start=False) == "done"


@pytest.mark.parametrize("options", [{"loop": None}, {"unknown": 1}])
async def test_what_no_task_takes_is_refused(loop, options):
    work = asyncio.sleep(0)
    with pytest.raises(TypeError):
        loop.create_task(work, **options)
    work.close()


async def test_a_loop_knows_that_it_runs(loop, new_loop):
    other = new_loop()
    assert loop.is_running()
    assert not other.is_running()
    assert await asyncio.to_thread(loop.is_running)
