"""Context variables: each callback runs in the context that asyncio gives it."""

from __future__ import annotations

import asyncio
import contextvars
import sys

import pytest

from .marks import beyond_proactor
from .support import Remembering, connect, recorder_of

mark = contextvars.ContextVar("mark", default="unset")


async def test_call_soon_captures_the_context_of_the_call(loop):
    seen = []
    mark.set("then")
    loop.call_soon(lambda: seen.append(mark.get()))
    mark.set("now")
    await asyncio.sleep(0)
    assert seen == ["then"]


async def test_what_a_callback_sets_stays_in_its_copy(loop):
    mark.set("outer")
    loop.call_soon(mark.set, "inner")
    await asyncio.sleep(0)
    assert mark.get() == "outer"


@pytest.mark.parametrize("how", ["soon", "later", "at", "threadsafe"])
async def test_an_explicit_context_is_used(loop, how):
    context = contextvars.copy_context()
    context.run(mark.set, "explicit")
    seen = loop.create_future()

    def look():
        seen.set_result(mark.get())

    if how == "soon":
        loop.call_soon(look, context=context)
    elif how == "later":
        loop.call_later(0, look, context=context)
    elif how == "at":
        loop.call_at(loop.time(), look, context=context)
    else:
        loop.call_soon_threadsafe(look, context=context)
    assert await seen == "explicit"


async def test_an_explicit_context_keeps_what_the_callback_sets(loop):
    context = contextvars.copy_context()
    loop.call_soon(mark.set, "kept", context=context)
    await asyncio.sleep(0)
    assert context[mark] == "kept"
    assert mark.get() == "unset"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="create_task(context=) is new in 3.11")
async def test_create_task_takes_a_context(loop):
    context = contextvars.copy_context()
    context.run(mark.set, "task")

    async def look():
        return mark.get()

    assert await loop.create_task(look(), context=context) == "task"


async def test_exception_handlers_run_in_the_context_of_the_failure(loop, caught):
    seen = []

    def handler(loop, context):
        seen.append(mark.get())

    def fail():
        mark.set("failing")
        raise LookupError

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    await asyncio.sleep(0)
    loop.set_exception_handler(caught)
    if sys.version_info >= (3, 12):
        # From 3.12 the handler sees the context of the callback (cpython #105684).
        assert seen == ["failing"]
    else:
        assert seen == ["unset"]


class Looking(Remembering):
    """Mixed into a protocol: notes the variable in each callback, after the first sets it."""

    def note(self, call: str) -> None:
        super().note(f"{call}:{mark.get()}")


async def test_the_callbacks_of_a_client_see_the_context_of_create_connection(loop, protocol):
    mark.set("creator")
    made = recorder_of(protocol)
    made.__class__ = type("Looking", (Looking, made.__class__), {})
    transport, recorder, peer = await connect(lambda: made)
    mark.set("later")
    await peer.send(b"x")
    await recorder.got(1)
    peer.close()
    await recorder.until(lambda: recorder.calls[-1].startswith("connection_lost"))
    assert recorder.calls == [
        "connection_made:creator",
        "data_received:creator",
        "eof_received:creator",
        "connection_lost:creator",
    ]


async def test_the_callbacks_of_a_connection_share_one_context_with_its_maker(loop, protocol):
    """What connection_made sets must not leak into the task that made the connection."""
    made = recorder_of(protocol)
    original = made.connection_made

    def connection_made(transport):
        mark.set("by the protocol")
        original(transport)

    made.connection_made = connection_made
    transport, recorder, peer = await connect(lambda: made)
    assert mark.get() == "unset"
    peer.close()
    await recorder.lost()


@beyond_proactor
async def test_add_reader_and_signal_callbacks_capture_the_context(loop):
    import socket

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    seen = loop.create_future()
    mark.set("then")

    def readable():
        loop.remove_reader(ours)
        seen.set_result(mark.get())

    loop.add_reader(ours, readable)
    mark.set("now")
    theirs.send(b"x")
    assert await seen == "then"
    ours.close()
    theirs.close()
