"""What Windows does with Registered I/O beside its documentation, and what we make of it.

Found by those who ran it on real machines (docs/windows.md lists it). Each is a rule of the table
of tests/wine/fake_rio.c, most of them always on.
"""

import socket
import sys
import time

import pytest

from tests.rio.bare import Bare, connected, read_all
from tests.rio.isolated import FAKE, isolated
from zerio_asyncio.rio import by_name
from zerio_asyncio.rio._rio import ffi, lib

pytestmark = pytest.mark.skipif(
    FAKE not in sys.modules, reason="asks the table of tests/wine/fake_rio.c what was called"
)


@pytest.fixture
def fake():
    fake = sys.modules[FAKE]
    fake.record(True)
    yield fake
    fake.follow(fake.AS_WINDOWS)
    fake.record(False)


@pytest.fixture
def bare(fake):
    made = Bare(by_name("winsock"))
    yield made
    made.close()


def test_blocking_is_kept_for_who_asks_and_not_told_to_the_system(fake):
    with by_name("winsock").make_socket() as made:
        assert made.gettimeout() is None
        assert made.getblocking()
        for flag, timeout in ((False, 0.0), (True, None)):
            made.setblocking(flag)
            assert made.gettimeout() == made.timeout == timeout
            assert made.getblocking() == flag
        made.settimeout(3)
        assert made.gettimeout() == 3.0
        assert made.getblocking()
        with pytest.raises(ValueError, match="out of range"):
            made.settimeout(-1)
    assert fake.violations() == []


def test_a_default_timeout_of_the_program_is_no_hindrance(fake):
    socket.setdefaulttimeout(5)
    try:
        made = by_name("winsock").make_socket()
        assert socket.getdefaulttimeout() == 5
    finally:
        socket.setdefaulttimeout(None)
    assert made.gettimeout() == 5.0
    assert made.proto == socket.IPPROTO_TCP
    made.close()
    assert made.fileno() == -1
    assert fake.violations() == []


def test_plain_calls_are_refused_there_as_on_windows(fake):
    with by_name("winsock").make_socket() as made:
        for call in (
            lambda: made.send(b"x"),
            lambda: made.recv(1),
            lambda: made.sendto(b"x", ("127.0.0.1", 9)),
        ):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.winerror == lib.RIO_ENOTSOCK
    assert len(fake.violations()) == 3


# ------------------------------------------------------------------- what goes wrong there


def test_a_commit_that_is_refused_is_told_and_ends_its_lane(fake, bare):
    requests, queue, ours, peer = bare.connection()
    region = bare.region()
    for number in range(3):
        assert bare.send(requests, region.buf(number, 1), number, lib.RIO_MSG_DEFER) == 0
    fake.follow(fake.AS_WINDOWS | fake.COMMIT_FAILS)
    assert bare.commit(bare.rio.RIOSend, requests) == lib.RIO_ENOBUFS
    assert bare.commit(bare.rio.RIOSend, requests) == lib.RIO_ENOBUFS, "it stays so"
    assert bare.receive(requests, region.buf(64, 8), 7) == 0, "the other direction goes on"
    peer.sendall(b"hello")
    assert bare.collect(queue, 1) == [(0, 5, 0, 7)]
    bare.retire(ours)
    ended = bare.collect(queue, 3)
    assert [done.context for done in ended] == [0, 1, 2]
    assert {done.status for done in ended} == {lib.RIO_OPERATION_ABORTED}


def test_what_a_close_ends_has_one_name_whatever_the_system_calls_it(fake, bare):
    """The system says WSAECONNABORTED; also where the program closes before anybody retires."""
    requests, queue, ours, _ = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8), 1) == 0
    ours.close()
    assert bare.collect(queue, 1)[0].status == lib.RIO_OPERATION_ABORTED


def memory_without_a_socket():
    fake = sys.modules[FAKE]
    provider = by_name("winsock")
    rio = provider.c.rio
    memory = ffi.new("char[8192]")
    for _ in range(2):
        handle = rio.RIORegisterBuffer(memory, 4096)
        assert handle != lib.RIO_INVALID_BUFFERID, lib.rio_last_error()
        rio.RIODeregisterBuffer(handle)
        provider.make_socket().close()
    assert fake.violations() == []


def test_one_socket_stays_open_for_the_memory_of_the_system(fake):
    isolated(memory_without_a_socket)


def test_datagrams_that_find_no_receive_are_lost(fake, bare):
    requests, queue, _, peer = bare.connection("udp")
    region = bare.region()
    for number in range(3):
        assert bare.receive(requests, region.buf(number * 16, 16), number) == 0
    for number in range(8):
        peer.send(b"%d" % number)
    assert [done.context for done in bare.collect(queue, 3)] == [0, 1, 2]
    assert bytes(region.memory[0:48:16]) == b"012"
    time.sleep(0.1)  # the table looks every few ms
    assert bare.receive(requests, region.buf(0, 16), 9) == 0
    bare.quiet()
    peer.send(b"late")
    assert bare.collect(queue, 1) == [(0, 4, 0, 9)]


@pytest.mark.parametrize("rule", ["ACKNOWLEDGED", "BURSTS"])
def test_results_that_come_late_or_all_at_once(fake, bare, rule):
    fake.follow(fake.AS_WINDOWS | getattr(fake, rule))
    requests, queue, _, peer = bare.connection(sends=8)
    region = bare.region()
    for number in range(8):
        assert bare.send(requests, region.buf(number, 1), number) == 0
    assert bare.send(requests, region.buf(0, 1), 8) == lib.RIO_ENOBUFS
    read_all(peer, 8)
    assert [done.context for done in bare.collect(queue, 8)] == list(range(8))


# -------------------------------------------------------------------------------- the port


def test_a_timers_packet_that_is_under_way_costs_one_precise_wait(fake, bare):
    """To cancel it comes too late (STATUS_PENDING), and to start it again too early."""
    fake.follow(fake.AS_WINDOWS | fake.WAIT_PACKETS)
    for _ in range(3):
        assert bare.wait(0.003) == []
    fake.follow(fake.AS_WINDOWS | fake.WAIT_PACKETS | fake.PACKETS_LATE)
    for _ in range(6):
        assert bare.wait(0.003) == []
    name = "NtAssociateWaitCompletionPacket code="
    codes = [call.removeprefix(name) for call in fake.calls() if call.startswith(name)]
    assert codes.count("c0000023") == 1
    assert codes[0] == codes[-1] == "0"
    assert len(codes) >= 9


def test_a_layer_that_does_not_tell_what_is_below_it_is_watched_all_the_same(fake, bare):
    fake.follow(fake.AS_WINDOWS | fake.LAYERED)
    ours, peer = connected("unix", bare.provider)
    bare.keep(ours, peer)
    assert bare.table.watch(bare.port, ours.fileno(), lib.RIO_WATCH_READ, 5) == 0
    bare.quiet()
    peer.sendall(b"x")
    assert bare.until(lib.RIO_PORT_READY)[2] == 5
    assert bare.table.watch(bare.port, ours.fileno(), 0, 0) == 0
