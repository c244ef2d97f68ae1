"""``create_task``: what it takes, what it refuses, and what programs put in its place."""

from __future__ import annotations

import asyncio
import contextvars
import sys

import pytest

number = contextvars.ContextVar("number", default=0)


async def answer():
    return number.get()


async def test_a_task_and_its_name(loop):
    one, other = loop.create_task(answer()), loop.create_task(answer(), name="mine")
    assert type(one) is asyncio.Task
    assert one.get_name().startswith("Task-")
    assert other.get_name() == "mine"
    assert one.get_loop() is loop
    assert await asyncio.gather(one, other) == [0, 0]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="context is new in 3.11")
async def test_a_task_in_a_context(loop):
    context = contextvars.copy_context()
    context.run(number.set, 5)
    assert await loop.create_task(answer(), context=context) == 5
    assert await loop.create_task(answer(), name=None, context=None) == 0


@pytest.mark.parametrize("wrong", [None, 5, answer, "text"])
async def test_what_is_no_coroutine(loop, wrong):
    with pytest.raises(TypeError, match="coroutine"):
        loop.create_task(wrong)


async def test_an_argument_that_nobody_knows(loop):
    coroutine = answer()
    with pytest.raises(TypeError, match="colour"):
        loop.create_task(coroutine, colour="red")
    coroutine.close()


def test_on_a_closed_loop(new_loop):
    loop = new_loop()
    loop.close()
    coroutine = answer()
    with pytest.raises(RuntimeError, match="closed"):
        loop.create_task(coroutine)
    coroutine.close()


async def test_a_factory(loop):
    made = []

    def factory(loop, coroutine, **options):
        made.append(asyncio.Task(coroutine, loop=loop, **options))
        return made[-1]

    loop.set_task_factory(factory)
    task = loop.create_task(answer(), name="named")
    assert [task] == made
    assert task.get_name() == "named"
    loop.set_task_factory(None)
    assert await task == 0
    assert await loop.create_task(answer()) == 0
    assert len(made) == 1


async def test_a_class_in_the_place_of_task(loop, monkeypatch):
    class Task(asyncio.Task):
        pass

    monkeypatch.setattr(asyncio.tasks, "Task", Task)
    task = loop.create_task(answer(), name="mine")
    assert type(task) is Task
    assert await task == 0


async def test_debug_mode_remembers_where_it_was_made(loop):
    loop.set_debug(True)
    task = loop.create_task(answer())
    loop.set_debug(False)
    assert task._source_traceback[-1].name == "test_debug_mode_remembers_where_it_was_made"
    await task
