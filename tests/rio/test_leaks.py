"""Nothing is left behind: no memory of the providers, no descriptor.

The whole life of ports, queues and connections, again and again, in a process of its own, while
glibc's allocator is asked how much is in use. tests/sanitize.sh runs the same life under the leak
sanitizer.
"""

import ctypes
import gc
import os
import platform

import pytest

from tests.rio.bare import Bare, reset
from tests.rio.isolated import isolated
from zerio_asyncio.rio import available, by_name
from zerio_asyncio.rio._rio import lib

ROUNDS = 200
LEAK_MAX = 4 * 1024
"""Bytes. One lost block of the smallest size (32 bytes) in each round is 6.4 KB; measured: 0."""


class MallocState(ctypes.Structure):
    """struct mallinfo2 of glibc 2.33."""

    _fields_ = [
        *((f"other{i}", ctypes.c_size_t) for i in range(4)),
        ("hblkhd", ctypes.c_size_t),  # bytes in mappings of their own
        *((f"more{i}", ctypes.c_size_t) for i in range(2)),
        ("used", ctypes.c_size_t),  # bytes in the heap
        *((f"last{i}", ctypes.c_size_t) for i in range(2)),
    ]


def in_use():
    gc.collect()
    function = ctypes.CDLL(None).mallinfo2
    function.restype = MallocState
    state = function()
    return state.used + state.hblkhd


@pytest.mark.parametrize("life", ["orderly", "abrupt"])
def test_a_life_leaves_nothing(provider, life):
    if platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("mallinfo2 is glibc's")
    isolated(lives, provider.name, life)


def lives(name, life):
    live = {"orderly": orderly, "abrupt": abrupt}[life]
    provider = by_name(name)
    for _ in range(20):
        live(provider)
    memory, descriptors = in_use(), len(os.listdir("/proc/self/fd"))
    for _ in range(ROUNDS):
        live(provider)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    grown = in_use() - memory
    assert grown < LEAK_MAX, f"{grown} bytes in {ROUNDS} rounds"


def orderly(provider):
    """Everything is done as it should be."""
    bare = Bare(provider)
    requests, queue, _, peer = bare.connection()
    region = bare.region(65536)
    assert bare.rio.RIOResizeRequestQueue(requests, 20, 20)
    assert bare.rio.RIOResizeCompletionQueue(queue, 500)
    for i in range(10):
        assert bare.send(requests, region.buf(i * 100, 100), i, lib.RIO_MSG_DEFER) == 0
    assert bare.commit(bare.rio.RIOSend, requests) == 0
    assert bare.receive(requests, region.buf(0, 10), 99) == 0
    peer.sendall(b"x")
    bare.collect(queue, 11)
    bare.table.post(bare.port, 1)
    bare.until(lib.RIO_PORT_POST)
    datagrams, results, _, friend = bare.connection("udp")
    assert bare.receive(datagrams, region.buf(0, 100), 1) == 0
    friend.send(b"y")
    bare.collect(results, 1)
    bare.close()


def abrupt(provider):
    """Nothing is: requests in flight, results left, queues and ports closed in any order."""
    bare = Bare(provider)
    requests, queue, ours, peer = bare.connection()
    other, _, _, _ = bare.connection("unix")
    polled = bare.queue(polled=True)
    region = bare.region(1 << 20)
    alone, _ = bare.pair("unix")
    quiet = bare.requests(alone, polled)
    for each in (requests, other, quiet):
        assert bare.receive(each, region.buf(0, 10), 1) == 0
        assert bare.send(each, region.buf(0, 1 << 20), 2) == 0
        assert bare.receive(each, region.buf(0, 10), 3, lib.RIO_MSG_DEFER) == 0
    assert bare.rio.RIONotify(queue) == 0
    assert bare.table.watch(bare.port, peer.fileno(), lib.RIO_WATCH_READ, 1) == 0
    bare.wait(0)
    reset(peer)
    bare.rio.RIODeregisterBuffer(region.id)
    bare.rio.RIOCloseCompletionQueue(queue)
    bare.wait(0)
    ours.close()
    bare.close_port()
    bare.close()


def everything():
    """For tests/sanitize.sh."""
    for provider in available():
        for _ in range(3):
            orderly(provider)
            abrupt(provider)
