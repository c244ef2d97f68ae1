"""A loop that was closed is free at once, by counting: it leaves the collector nothing.

A program that calls ``asyncio.run`` often would otherwise hold the memory of many loops until the
next collection, and a collection in the wrong place costs it time.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import time
import weakref

import pytest

from .children import program
from .marks import beyond_proactor, with_plain_pipes, with_posix_signals, with_unix_sockets
from .support import SECONDS, make_loop, provider_refusal


async def nothing():
    """Only runs."""


async def answer(reader, writer):
    writer.write(await reader.readline())
    writer.close()


async def ask(reader, writer):
    writer.write(b"line\n")
    assert await asyncio.wait_for(reader.readline(), SECONDS) == b"line\n"
    writer.close()
    await writer.wait_closed()


async def streams():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    await ask(*await asyncio.open_connection(*server.sockets[0].getsockname()))
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.01)


async def server_left_open():
    await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)


async def unix_streams():
    ours, theirs = socket.socketpair()
    one = await asyncio.open_connection(sock=ours)
    other = await asyncio.open_connection(sock=theirs)
    await asyncio.gather(answer(*one), ask(*other))
    await one[1].wait_closed()


class Letters(asyncio.DatagramProtocol):
    def __init__(self, got):
        self.got = got

    def datagram_received(self, data, addr):
        self.got.set_result(data)


async def datagrams():
    loop = asyncio.get_running_loop()
    got = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: Letters(got), local_addr=("127.0.0.1", 0)
    )
    transport.sendto(b"letter", transport.get_extra_info("sockname"))
    assert await asyncio.wait_for(got, SECONDS) == b"letter"
    transport.close()
    await asyncio.sleep(0)


async def socket_calls():
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    receiving = loop.create_task(loop.sock_recv(theirs, 10))
    await asyncio.sleep(0)
    await loop.sock_sendall(ours, b"bytes")
    assert await receiving == b"bytes"
    ours.close()
    theirs.close()


async def readers():
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    called = loop.create_future()
    loop.add_reader(ours, lambda: called.done() or called.set_result(None))
    theirs.send(b"x")
    await called
    loop.remove_reader(ours)
    ours.close()
    theirs.close()


async def threads():
    await asyncio.to_thread(os.getpid)
    await asyncio.get_running_loop().shutdown_default_executor()


async def timers_left():
    loop = asyncio.get_running_loop()
    loop.call_later(3600, loop.stop)
    loop.call_soon(loop.time)


async def child():
    process = await program("print('here')", stdout=asyncio.subprocess.PIPE)
    assert await process.communicate() == (b"here\n", None)


async def child_that_fails():
    with pytest.raises(FileNotFoundError):
        await asyncio.create_subprocess_exec("/nowhere/at/all")


async def pipes():
    loop = asyncio.get_running_loop()
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
    )
    os.write(write_end, b"bytes")
    os.close(write_end)
    assert await reader.read() == b"bytes"
    transport.close()
    await asyncio.sleep(0)


async def signals():
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, heard.set)
    signal.raise_signal(signal.SIGUSR1)
    await heard.wait()


async def file():
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    with open(__file__, "rb") as opened:
        assert await loop.sendfile(transport, opened, 0, 10) == 10
    transport.close()
    await asyncio.sleep(0)
    theirs.close()


USES = [
    nothing,
    streams,
    pytest.param(
        server_left_open, marks=pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
    ),
    pytest.param(unix_streams, marks=with_unix_sockets),
    datagrams,
    socket_calls,
    pytest.param(readers, marks=beyond_proactor),
    threads,
    timers_left,
    child,
    child_that_fails,
    pytest.param(pipes, marks=with_plain_pipes),
    pytest.param(signals, marks=with_posix_signals),
    file,
]


@pytest.fixture
def no_collections():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def a_loop_of(kind, no_leaks, no_collections):
    refusal = provider_refusal(kind)
    if refusal:
        pytest.skip(f"the system refuses the provider {kind}: {refusal}")
    return lambda: make_loop(kind)


@pytest.mark.usefixtures("no_collections")
def test_one_that_was_only_made(a_loop_of):
    loop = a_loop_of()
    loop.close()
    watch = weakref.ref(loop)
    del loop
    assert watch() is None


@pytest.mark.parametrize("use", USES)
def test_one_that_was_used(a_loop_of, use):
    loop = a_loop_of()
    asyncio.set_event_loop(loop)  # before 3.12 children of the standard loop ask for it
    loop.run_until_complete(use())
    asyncio.set_event_loop(None)
    loop.close()
    watch = weakref.ref(loop)
    del loop
    for _ in range(200):  # a thread that waited for a child may be about to end
        if watch() is None:
            break
        time.sleep(0.01)
    assert watch() is None


@pytest.mark.ours
def test_one_that_was_run_by_run(kind, no_collections):
    import zerio_asyncio

    watches = []

    async def main():
        watches.append(weakref.ref(asyncio.get_running_loop()))
        await streams()

    for _ in range(3):
        zerio_asyncio.run(main(), options=zerio_asyncio.LoopOptions(provider=kind))
        assert watches.pop()() is None
