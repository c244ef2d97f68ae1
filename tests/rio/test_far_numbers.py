"""Descriptor numbers that are far away: the system is asked before room is made for them."""

import socket

import pytest

from tests.rio.bare import Bare
from tests.rio.isolated import isolated
from tests.rio.marks import with_descriptor_limit
from zerio_asyncio.rio import addresses, by_name
from zerio_asyncio.rio._rio import ffi, lib

pytestmark = with_descriptor_limit

FAR = [60_000_000, 2**31 - 1]

ROOM = 256 << 20  # bytes: far more than a port needs, far less than a table up to such a number

NO_SUCH = {lib.RIO_EBADF, lib.RIO_ENOTSOCK}


@pytest.mark.parametrize("number", FAR)
def test_a_number_that_is_no_descriptor_costs_nothing(provider, number):
    isolated(ask_for_everything, provider.name, number)


def ask_for_everything(name, number):
    import resource

    bare = Bare(by_name(name))
    ours, _ = bare.pair("unix")
    assert bare.table.watch(bare.port, ours.fileno(), lib.RIO_WATCH_READ, 1) == 0
    with open("/proc/self/statm", encoding="ascii") as sizes:
        used = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
    table, port = bare.table, bare.port
    address = addresses.pack(socket.AF_INET, ("127.0.0.1", 9))
    for mask in (lib.RIO_WATCH_READ, lib.RIO_WATCH_WRITE | lib.RIO_WATCH_ONCE):
        assert table.watch(port, number, mask, 1) in NO_SUCH
    assert table.accept(port, number, 1) in NO_SUCH
    assert table.connect(port, number, address, len(address), 1) in NO_SUCH
    queue = bare.queue()
    assert not bare.rio.RIOCreateRequestQueue(number, 1, 1, 1, 1, queue, queue, ffi.NULL)
    assert bare.error() in NO_SUCH
    for stop in (table.accept_stop, table.connect_stop, table.retire):
        assert stop(port, number) == 0
    assert table.watch(port, number, 0, 0) == 0
    bare.close()


def test_a_high_descriptor_is_one_like_any_other(provider):
    isolated(use_a_high_one, provider.name)


def use_a_high_one(name):
    import fcntl
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    bare = Bare(by_name(name))
    ours, peer = bare.pair("unix")
    high = fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, min(hard, 100_000) - 1)
    assert bare.table.watch(bare.port, high, lib.RIO_WATCH_READ, 8) == 0
    peer.send(b"x")
    assert bare.until(lib.RIO_PORT_READY)[2] == 8
    assert bare.table.watch(bare.port, high, 0, 0) == 0
    socket.socket(fileno=high).close()
    bare.close()
