"""The system has no memory for another slab: that connection ends with its error, and no other.

Slabs are of one slice and larger than all that Python asks for meanwhile, so a limit of the address
space just above what the process has refuses them alone. Each program is a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("resource", reason="this system has no resource limits")

BEGIN = """
import asyncio, contextlib, resource, socket
import zerio_asyncio
from zerio_asyncio import LoopOptions, RegisteredProtocol

MIB = 1 << 20
told = []

@contextlib.contextmanager
def no_memory():
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MIB // 2, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)

class Keeping(RegisteredProtocol):
    def __init__(self):
        self.kept, self.received, self.lost = [], 0, "no"
    def connection_made(self, transport):
        self.transport = transport
    def view_received(self, view):
        self.received += len(view)
        self.kept.append(view[:])
    def connection_lost(self, exc):
        self.lost = type(exc).__name__

class Plain(asyncio.Protocol):
    lost = "no"
    received = b""
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.received += data
    def connection_lost(self, exc):
        self.lost = type(exc).__name__

async def connect(factory):
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    transport, protocol = await loop.create_unix_connection(factory, sock=ours)
    await asyncio.sleep(0.01)
    return transport, protocol, theirs

loop = zerio_asyncio.new_event_loop(
    LoopOptions(provider=PROVIDER, slice_size=MIB, slab_size=MIB))
loop.set_exception_handler(lambda loop, context: told.append(type(context["exception"]).__name__))
"""

END = """
async def bounded():
    await asyncio.wait_for(main(), 10)
loop.run_until_complete(bounded())
assert loop.rio_stats().slices_in_use == 0, loop.rio_stats()
loop.close()
print("well")
"""

RECEIVING = """
async def main():
    transport, protocol, peer = await connect(Keeping)
    other, other_protocol, other_peer = await connect(Plain)
    with no_memory():
        peer.send(b"x" * 100)  # its slice is kept, and there is no other
        await asyncio.sleep(0.05)
        other_peer.send(b"y")
        await asyncio.sleep(0.05)
    assert (protocol.received, protocol.lost) == (100, "MemoryError"), vars(protocol)
    assert told == ["MemoryError"], told
    assert peer.recv(10) == b""
    assert (other_protocol.received, other_protocol.lost) == (b"y", "no")
    third, third_protocol, third_peer = await connect(Plain)
    third_peer.send(b"z")
    await asyncio.sleep(0.05)
    assert third_protocol.received == b"z"
    assert bytes(protocol.kept.pop()) == b"x" * 100
    other.abort()
    third.abort()
    await asyncio.sleep(0.01)
"""

STARTING = """
async def main():
    with no_memory():
        transport, protocol, peer = await connect(Plain)
        await asyncio.sleep(0.05)
    assert protocol.lost == "MemoryError"
    assert told == ["MemoryError"], told
    assert peer.recv(10) == b""
"""

WRITING = """
async def main():
    transport, protocol, peer = await connect(Plain)
    transport.write(b"x" * MIB)             # the system's buffer is full now
    with no_memory():
        transport.write(bytearray(b"y"))    # a copy needs a slice
        transport.write(b"z" * 100)
    assert transport.is_closing()
    assert transport.get_write_buffer_size() == 0
    await asyncio.sleep(0.05)
    assert protocol.lost == "MemoryError"
    assert told == ["MemoryError"], told
    received = b""
    while data := peer.recv(MIB):
        received += data
    assert set(received) == set(b"x"), "nothing is sent after what could not be"
"""


@pytest.mark.parametrize("program", ["RECEIVING", "STARTING", "WRITING"])
def test_a_slab_that_cannot_be_had(provider, program):
    text = textwrap.dedent(BEGIN) + globals()[program] + textwrap.dedent(END)
    child = subprocess.run(
        [sys.executable, "-c", text.replace("PROVIDER", repr(provider))],
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert (child.returncode, child.stdout) == (0, "well\n"), child.stderr
