"""Collections in the middle of a call, and what they call: the protocol is replaced at each.

CPython 3.10 and 3.11 collect inside allocations, also of the bound method that is about to be
called; nobody but the transport refers to the protocol whose method that is.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys

import pytest


@contextlib.contextmanager
def collecting(action):
    """Collect at almost every allocation, and call ``action`` each time."""

    def collected(phase, info):
        if phase == "stop":
            action()

    before = gc.get_threshold()
    gc.collect()
    gc.callbacks.append(collected)
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(collected)


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came")


@pytest.mark.parametrize("refused", [False, True])
def test_datagram_protocols_replaced_while_they_are_called(loop, refused):
    told = []

    class Protocol(asyncio.DatagramProtocol):
        def __init__(self):
            self.told = told

        def datagram_received(self, data, addr):
            self.told.append(data)

        def error_received(self, exc):
            self.told.append(exc)

    async def main():
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))
        transport, _ = await loop.create_datagram_endpoint(Protocol, remote_addr=peer.getsockname())
        address = transport.get_extra_info("sockname")
        if refused:
            peer.close()  # nobody is there: each datagram comes back as an error
        with collecting(lambda: transport.set_protocol(Protocol())):
            for number in range(200):
                if refused:
                    transport.sendto(b"%d" % number)
                else:
                    peer.sendto(b"%d" % number, address)
                await asyncio.sleep(0)
        if not refused:
            await until(lambda: len(told) == 200)
            assert told == [b"%d" % number for number in range(200)]
            peer.close()
        else:
            await until(lambda: told)
            assert {type(error) for error in told} == {ConnectionRefusedError}
        transport.abort()
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())


@pytest.mark.parametrize("base", [asyncio.Protocol, asyncio.BufferedProtocol])
def test_stream_protocols_replaced_while_they_are_called(loop, base):
    told = []

    class Protocol(base):
        def __init__(self):
            self.told = told

        def data_received(self, data):
            self.told.append(data)

        def get_buffer(self, hint):
            self.buffer = bytearray(100)
            return self.buffer

        def buffer_updated(self, count):
            self.told.append(bytes(self.buffer[:count]))

        def eof_received(self):
            self.told.append("eof")
            return False

        def connection_lost(self, exc):
            self.told.append("lost")

    async def main():
        for _ in range(20):
            ours, theirs = socket.socketpair()
            transport, _ = await loop.create_unix_connection(Protocol, sock=ours)
            with collecting(lambda to=transport: to.set_protocol(Protocol())):
                for number in range(10):
                    theirs.send(b"%d" % number)
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                theirs.close()
                await until(lambda: told and told[-1] == "lost")
            assert told[-2:] == ["eof", "lost"]
            assert b"".join(told[:-2]) == b"0123456789"
            told.clear()

    loop.run_until_complete(main())


LEFT_TO_THE_END = """\
import asyncio
import zerio_asyncio

loop = zerio_asyncio.new_event_loop()
loop.own = [loop]

async def main():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()[:2]
    loop.kept = server, await asyncio.open_connection(*address)
    loop.call_later(60, print)

loop.run_until_complete(main())
"""


def test_a_loop_that_the_interpreter_collects_at_its_end():
    """By then the collector may have cleared its class."""
    done = subprocess.run(
        [sys.executable, "-c", LEFT_TO_THE_END], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
