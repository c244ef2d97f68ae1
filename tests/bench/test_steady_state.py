"""Steady traffic takes no memory: a million messages leave nothing behind and collect nothing.

The generator is native and runs without the GIL, so what Python's allocator counts is the server's
alone.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from typing import Any

import pytest

import zerio_asyncio
from zerio_asyncio.bench.load import Load, LoadConfig

BEFORE = 20_000  # until free lists, slices and the kernel's queues have found their size
CONNECTIONS = 20
SIZE = 64  # bytes
TIME_LIMIT = 120  # seconds; a million take seven on an idle machine

# What the observer itself leaves: the numbers that it has noted.
OBSERVER = 8


class Observer:
    """Counts messages, and the collector's runs between two of them."""

    def __init__(self, messages: int) -> None:
        self.last = BEFORE + messages
        self.messages = 0
        self.collections = 0
        self.blocks = [0, 0]
        self.seen = [0, 0]

    def collecting(self, phase: str, _: dict[str, Any]) -> None:
        self.collections += phase == "start"

    def message(self) -> None:
        self.messages += 1
        if self.messages == BEFORE:
            self.note(0)
        elif self.messages == self.last:
            self.note(1)

    def note(self, which: int) -> None:
        self.seen[which] = self.collections
        self.blocks[which] = sys.getallocatedblocks()


def plain(observer: Observer) -> asyncio.Protocol:
    class Plain(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            observer.message()
            self.transport.write(data)

    return Plain()


def registered(observer: Observer) -> zerio_asyncio.RegisteredProtocol:
    class Registered(zerio_asyncio.RegisteredProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def view_received(self, view: memoryview) -> None:
            observer.message()
            self.transport.write(view)

    return Registered()


def generate(port: int, messages: int, answers: list[Any]) -> None:
    settings = LoadConfig(
        port=port,
        connections=CONNECTIONS,
        size=SIZE,
        requests_each=messages // CONNECTIONS,
        warmup_s=0,
        measure_s=TIME_LIMIT,
    )
    try:
        with Load(settings) as load:
            load.connect()
            answers.append(load.run())
    except BaseException as failure:
        answers.append(failure)


async def observe(observer: Observer, factory: Any) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: factory(observer), "127.0.0.1", 0)
    answers: list[Any] = []
    port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=generate, args=(port, observer.last, answers))
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.1)
    thread.join()
    server.close()
    if isinstance(answers[0], BaseException):
        raise answers[0]


@pytest.mark.timeout(2 * TIME_LIMIT)
@pytest.mark.parametrize("provider", ["uring", "epoll"])
@pytest.mark.parametrize(
    ("factory", "messages"),
    [(registered, 1_000_000), (plain, 200_000)],
    ids=["registered", "protocol"],
)
def test_a_million_messages_leave_nothing_behind(
    provider: str, factory: Any, messages: int
) -> None:
    try:
        loop = zerio_asyncio.new_event_loop(zerio_asyncio.LoopOptions(provider=provider))
    except OSError as refusal:
        pytest.skip(f"the system refuses the provider {provider}: {refusal}")
    observer = Observer(messages)
    gc.collect()
    gc.callbacks.append(observer.collecting)
    try:
        loop.run_until_complete(observe(observer, factory))
    finally:
        gc.callbacks.remove(observer.collecting)
        loop.close()
    assert observer.messages == observer.last
    assert observer.seen[1] == observer.seen[0]
    assert observer.blocks[1] - observer.blocks[0] <= OBSERVER
