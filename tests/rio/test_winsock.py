"""How the provider `winsock` uses Windows' own table: what it calls, when, and what it never does.

Runs where fake_rio.py of tests/wine has put a table that remembers in the place of Windows' own; a
broken rule of Microsoft's fails any test there. What the provider does for its callers is tested by
the other files of this folder.
"""

import os
import socket
import sys

import pytest

from tests.rio.bare import NULL, Bare, connected, new_socket, read_all
from tests.rio.isolated import FAKE, isolated
from zerio_asyncio.rio import CompletionPort, by_name, pick
from zerio_asyncio.rio._rio import ffi, lib
from zerio_asyncio.rio.providers import RegisteredSocket

pytestmark = pytest.mark.skipif(
    FAKE not in sys.modules, reason="asks the table of tests/wine/fake_rio.c what was called"
)

OVERLAPPED_REGISTERED_NOT_INHERITED = "flags=181"


@pytest.fixture
def fake():
    fake = sys.modules[FAKE]
    fake.record(True)
    yield fake
    fake.become(fake.WORKS)
    fake.follow(fake.AS_WINDOWS)
    fake.record(False)


@pytest.fixture
def bare(fake):
    made = Bare(by_name("winsock"))
    yield made
    made.close()


def names(calls):
    return [call.split()[0] for call in calls]


def only(calls, name):
    return [call for call in calls if call.split()[0] == name]


def plain_pair():
    """A connection whose sockets were not made for Registered I/O."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    peer.settimeout(10)
    return ours, peer


# ---------------------------------------------------------------------------------- the table


def refused(mode):
    fake = sys.modules[FAKE]
    os.environ.pop("ZERIO_PROVIDER", None)
    fake.become(mode)
    refusal = by_name("winsock").probe()
    assert by_name("overlapped").probe() is None
    choice = pick()
    assert choice.provider.name == "overlapped"
    assert choice.refused == [("winsock", refusal.strerror)]
    assert by_name("winsock").c.port.create(NULL) == NULL
    assert lib.rio_last_error() == lib.RIO_EOPNOTSUPP
    memory = ffi.new("char[4096]")
    rio = by_name("winsock").c.rio
    assert rio.RIORegisterBuffer(memory, 4096) == lib.RIO_INVALID_BUFFERID
    assert lib.rio_last_error() == lib.RIO_EOPNOTSUPP
    print(refusal.strerror)
    fake.become(fake.WORKS)
    assert by_name("winsock").probe() is None, "what was refused is asked again"
    assert pick().provider.name == "winsock"


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("REFUSES", "10045"),
        ("WRONG_SIZE", "104 bytes instead of 112"),
        ("LACKS_ENTRY", "lacks entry 10 of 13"),
    ],
)
def test_a_table_that_is_none_is_refused_with_the_reason(fake, mode, reason):
    assert reason in isolated(refused, getattr(fake, mode))


def wine():
    fake = sys.modules[FAKE]
    fake.remove()
    refusal = by_name("winsock").probe()
    print("works" if refusal is None else refusal.strerror)


def test_without_the_fake_the_system_itself_is_asked():
    said = isolated(wine)
    assert "works" in said or "Winsock offers no Registered I/O here (WSAIoctl error 10045)" in said


# -------------------------------------------------------------------------------------- sockets


def test_sockets_are_made_for_it(fake, bare):
    fake.calls()
    bare.keep(new_socket(by_name("winsock"), socket.AF_INET, socket.SOCK_STREAM))
    assert fake.calls() == [f"WSASocketW {OVERLAPPED_REGISTERED_NOT_INHERITED}"]


@pytest.mark.parametrize("flagged", [True, False])
def test_a_connection_is_what_its_listener_is(fake, flagged):
    """Windows takes the receives of a connection that is not, and never ends them."""
    made = by_name("winsock").make_socket() if flagged else socket.socket()
    with CompletionPort("winsock") as port, made as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as peer:
            fake.calls()
            port.accept(listener, 1)
            events = []
            while not events:
                events = port.wait(10)
            made = only(fake.calls(), "WSASocketW")
            assert bool(made) == flagged
            assert all(call.endswith(OVERLAPPED_REGISTERED_NOT_INHERITED) for call in made)
            ours = socket.socket(fileno=events[0].value)
            assert ours.getpeername() == peer.getsockname()
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
            port.accept_stop(listener)
            ours.close()


@pytest.mark.parametrize("mode", ["REFUSES", "OTHER_LAYER"])
def test_a_transport_without_our_table_gets_a_plain_socket(fake, mode):
    provider = by_name("winsock")
    with provider.make_socket() as made:
        assert isinstance(made, RegisteredSocket)
    fake.become(getattr(fake, mode))
    with provider.make_socket() as made:
        assert not isinstance(made, RegisteredSocket)
        made.setblocking(False)


# --------------------------------------------------------------------------------------- queues


def test_the_ports_queue_is_made_with_the_first_request_queue(fake, bare):
    bare.queue(4)
    assert only(fake.calls(), "RIOCreateCompletionQueue") == []
    bare.connection(receives=3, sends=5)
    calls = fake.calls()
    assert only(calls, "RIOCreateCompletionQueue") == ["RIOCreateCompletionQueue size=256 type=2"]
    assert only(calls, "RIOCreateRequestQueue") == [
        "RIOCreateRequestQueue receives=3/1 sends=5/1 same=1"
    ]
    bare.connection()
    assert only(fake.calls(), "RIOCreateCompletionQueue") == []


def test_the_queue_grows_before_it_is_too_small(fake, bare):
    """256 entries hold 32 request queues of 4 and 4: the one after that needs more first."""
    queue = bare.queue(4096)
    for number in range(70):
        ours, _ = bare.pair()
        bare.requests(ours, queue, receives=4, sends=4)
        calls = names(fake.calls())
        grown = calls.index("RIOResizeCompletionQueue") if number in {32, 64} else -1
        assert calls.index("RIOCreateRequestQueue") > grown
        assert calls.count("RIOResizeCompletionQueue") == int(number in {32, 64})
        assert calls.count("RIOCreateRequestQueue") == 1, "never refused for want of room"


def test_room_of_closed_sockets_is_used_again(fake, bare):
    region = bare.region()
    queue = bare.queue(4096)
    for turn in range(60):
        ours, peer = bare.pair()
        requests = bare.requests(ours, queue, receives=4, sends=4)
        assert bare.receive(requests, region.buf(0, 16), turn) == 0
        bare.retire(ours)
        peer.close()
        assert bare.collect(queue, 1)[0].status == lib.RIO_OPERATION_ABORTED
    assert "RIOResizeCompletionQueue" not in names(fake.calls())


def test_a_refusal_for_want_of_room_is_answered_by_growing(fake, bare):
    """Retired but not yet closed: the system still keeps what we have already counted back."""
    queue = bare.queue(4096)
    for _ in range(40):
        ours, _ = bare.pair()
        bare.requests(ours, queue, receives=4, sends=4)
        assert bare.table.retire(bare.port, ours.fileno()) == 0
    calls = names(fake.calls())
    assert "RIOResizeCompletionQueue" in calls
    assert calls.count("RIOCreateRequestQueue") > 40  # refused, grown, asked again


def test_a_deep_request_queue_takes_no_more_than_256_places(fake, bare):
    ours, peer = bare.pair()
    deep = bare.queue(4096)
    requests = bare.requests(ours, deep, receives=1, sends=1000)
    assert only(fake.calls(), "RIOCreateRequestQueue")[-1].split()[2] == "sends=256/1"
    region = bare.region()
    region.memory[:1000] = bytes(i % 251 for i in range(1000))
    for i in range(1000):
        assert bare.send(requests, region.buf(i, 1), i, lib.RIO_MSG_DEFER) == 0
    assert bare.send(requests, region.buf(0, 1)) == lib.RIO_ENOBUFS
    assert bare.commit(bare.rio.RIOSend, requests) == 0
    assert [done.context for done in bare.collect(deep, 1000)] == list(range(1000))
    assert read_all(peer, 1000) == bytes(region.memory[:1000])


def test_resizing_grows_the_systems_queue(fake, bare):
    requests, queue, _, _ = bare.connection(receives=2, sends=2)
    fake.calls()
    assert bare.rio.RIOResizeRequestQueue(requests, 1, 6)
    assert names(fake.calls()) == ["RIOResizeRequestQueue"]
    region = bare.region()
    for i in range(6):
        assert bare.send(requests, region.buf(i, 1), i) == 0
    assert bare.send(requests, region.buf(0, 1)) == lib.RIO_ENOBUFS
    bare.collect(queue, 6)


# ------------------------------------------------------------------------------------- requests


def test_one_request_is_one_call(fake, bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    fake.calls()
    assert bare.receive(requests, region.buf(100, 50), 1) == 0
    assert bare.send(requests, region.buf(200, 4), 2) == 0
    assert fake.calls() == [
        "RIOReceive offset=100 length=50 remote=0 flags=0",
        "RIOSend offset=200 length=4 remote=0 flags=0",
    ]
    read_all(peer, 4)
    peer.sendall(b"1234")
    bare.collect(queue, 2)


def test_several_requests_are_deferred_and_committed_once(fake, bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    fake.calls()
    for i in range(3):
        assert bare.send(requests, region.buf(i, 1), i, lib.RIO_MSG_DEFER) == 0
    assert fake.calls() == []
    assert bare.commit(bare.rio.RIOSend, requests) == 0
    assert fake.calls() == [
        *[f"RIOSend offset={i} length=1 remote=0 flags=2" for i in range(3)],
        "RIOSend offset=-1 length=-1 remote=0 flags=8",
    ]
    read_all(peer, 3)
    bare.collect(queue, 3)


def test_flags_reach_the_system(fake, bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    fake.calls()
    quiet = lib.RIO_MSG_DONT_NOTIFY
    assert bare.receive(requests, region.buf(0, 8), 1, lib.RIO_MSG_WAITALL) == 0
    assert bare.send(requests, region.buf(0, 1), 2, quiet) == 0
    assert [call.split()[-1] for call in fake.calls()] == ["flags=4", "flags=1"]
    peer.sendall(b"1234")
    read_all(peer, 1)
    peer.sendall(b"5678")
    assert sorted(done.bytes for done in bare.collect(queue, 2)) == [1, 8]


def test_datagrams_go_by_the_extended_calls(fake, bare):
    ours = new_socket(by_name("winsock"), socket.AF_INET, socket.SOCK_DGRAM)
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bare.keep(ours, other)
    ours.bind(("127.0.0.1", 0))
    other.bind(("127.0.0.1", 0))
    queue = bare.queue()
    requests = bare.requests(ours, queue)
    region = bare.region()
    fake.calls()
    received = bare.rio.RIOReceiveEx(
        requests, region.buf(64, 100), 1, NULL, region.buf(0, 28), NULL, NULL, 0, NULL
    )
    assert received
    other.sendto(b"hello", ours.getsockname())
    assert bare.collect(queue, 1)[0].bytes == 5
    assert bare.rio.RIOSendEx(
        requests, region.buf(64, 5), 1, NULL, region.buf(0, 28), NULL, NULL, 0, NULL
    )
    assert other.recv(100) == b"hello"
    bare.collect(queue, 1)
    asked = [call for call in fake.calls() if call.split()[0].endswith("Ex")]
    assert asked == [
        "RIOReceiveEx offset=64 length=100 remote=1 flags=0",
        "RIOSendEx offset=64 length=5 remote=1 flags=0",
    ]


def test_memory_that_is_not_registered_is_refused(bare):
    requests, _, _, _ = bare.connection()
    memory = ffi.new("char[16]")
    provider = by_name("winsock").c
    assert not provider.send_memory(requests, memory, 16, 0, NULL)
    assert bare.error() == lib.RIO_EOPNOTSUPP
    assert not provider.receive_memory(requests, memory, 16, 0, NULL)
    assert bare.error() == lib.RIO_EOPNOTSUPP


def test_a_buffer_of_another_provider_is_a_fault(bare):
    requests, queue, _, _ = bare.connection()
    other = by_name("overlapped").c.rio
    memory = ffi.new("char[4096]")
    foreign = other.RIORegisterBuffer(memory, 4096)
    slice_of_it = ffi.new("RIO_BUF *", (foreign, 0, 16))
    assert bare.send(requests, slice_of_it) == lib.RIO_EFAULT
    assert bare.receive(requests, slice_of_it) == lib.RIO_EFAULT
    assert bare.dequeue(queue) == []
    other.RIODeregisterBuffer(foreign)


# ---------------------------------------------------------------------------- notify, buffers


def test_armed_only_to_sleep_and_only_for_what_is_outstanding(fake, bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    fake.calls()
    assert bare.rio.RIONotify(queue) == 0
    assert bare.wait(0.02) == []
    assert "RIONotify" not in names(fake.calls())
    assert bare.receive(requests, region.buf(0, 8), 1) == 0
    assert bare.wait(0) == []
    assert "RIONotify" not in names(fake.calls())
    assert bare.wait(0.02) == []
    assert bare.wait(0.02) == []
    assert names(fake.calls()).count("RIONotify") == 1
    peer.sendall(b"x")
    bare.until(lib.RIO_PORT_NOTIFY)
    assert len(bare.collect(queue, 1)) == 1
    assert "RIONotify" not in names(fake.calls()), "nothing is outstanding any more"


def test_results_that_are_there_need_no_notification(fake, bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.send(requests, region.buf(0, 8), 1) == 0
    read_all(peer, 8)
    found = []
    while not found:
        found = bare.dequeue(queue)
    assert found == [(0, 8, 0, 1)]
    assert "RIONotify" not in names(fake.calls())


def test_a_buffer_is_given_back_with_its_last_request(fake, bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8), 1) == 0
    assert bare.receive(requests, region.buf(8, 8), 2, lib.RIO_MSG_DEFER) == 0
    bare.rio.RIODeregisterBuffer(region.id)
    assert bare.receive(requests, region.buf(16, 8), 3) == lib.RIO_EFAULT
    assert "RIODeregisterBuffer" not in names(fake.calls())
    peer.sendall(b"first")
    assert bare.collect(queue, 1) == [(0, 5, 0, 1)]
    assert region.memory[:5] == b"first"
    assert "RIODeregisterBuffer" not in names(fake.calls())
    assert bare.commit(bare.rio.RIOReceive, requests) == 0
    peer.sendall(b"second")
    assert bare.collect(queue, 1) == [(0, 6, 0, 2)]
    assert region.memory[8:14] == b"second"
    assert names(fake.calls()).count("RIODeregisterBuffer") == 1


# ------------------------------------------------------------------- sockets that it refuses


def echo(bare, ours, peer):
    """Two requests each way by a request queue; what the peer sees and says must be right."""
    queue = bare.queue()
    requests = bare.requests(ours, queue, context=5)
    region = bare.region()
    for turn in range(2):
        region.memory[:4] = b"%04d" % turn
        assert bare.send(requests, region.buf(0, 4), 10 + turn) == 0
        assert read_all(peer, 4) == b"%04d" % turn
        assert bare.receive(requests, region.buf(64, 16), 20 + turn) == 0
        peer.sendall(b"answer")
        results = bare.collect(queue, 2)
        assert sorted(done.context for done in results) == [10 + turn, 20 + turn]
        assert {done.socket_context for done in results} == {5}
        assert region.memory[64:70] == b"answer"
    bare.retire(ours)


def test_a_users_own_socket_is_driven_by_overlapped_operations(fake, bare):
    ours, peer = plain_pair()
    bare.keep(ours, peer)
    echo(bare, ours, peer)
    assert {"RIOSend", "RIOReceive"}.isdisjoint(names(fake.calls()))


def test_a_socket_that_came_by_share_too(fake, bare):
    ours, peer = plain_pair()
    bare.keep(ours, peer)
    shared = socket.fromshare(ours.share(os.getpid()))
    ours.close()
    bare.keep(shared)
    echo(bare, shared, peer)
    assert {"RIOSend", "RIOReceive"}.isdisjoint(names(fake.calls()))


def test_a_refused_request_queue_is_told_for_there_is_no_way_back(fake, bare):
    ours, _ = bare.pair()
    queue = bare.queue()
    fake.become(fake.REFUSES_QUEUES)
    made = bare.rio.RIOCreateRequestQueue(ours.fileno(), 1, 1, 1, 1, queue, queue, NULL)
    assert made == lib.RIO_INVALID_RQ
    assert bare.error() == lib.RIO_EOPNOTSUPP
    fake.become(fake.WORKS)
    assert bare.requests(ours, queue), "and it can be asked again"


def test_both_kinds_share_a_completion_queue(fake, bare):
    queue = bare.queue(256)
    region = bare.region()
    peers = []
    for number in range(6):
        ours, peer = bare.pair() if number % 2 else plain_pair()
        bare.keep(ours, peer)
        requests = bare.requests(ours, queue, context=number)
        assert bare.receive(requests, region.buf(number * 16, 16), number) == 0
        peers.append(peer)
    assert bare.rio.RIONotify(queue) == 0
    for peer in peers:
        peer.sendall(b"x")
    results = bare.collect(queue, 6)
    assert sorted(done.socket_context for done in results) == list(range(6))
    assert len(only(fake.calls(), "RIOReceive")) == 3


def test_a_damaged_queue_is_told_and_no_wait_sleeps_through_it(fake, bare):
    requests, queue, _, _ = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8), 1) == 0
    assert bare.rio.RIONotify(queue) == 0
    fake.become(fake.CORRUPTED)
    results = ffi.new("RIORESULT[4]")
    events = ffi.new("rio_port_event[4]")
    assert bare.table.wait(bare.port, events, 4, -1) == 0
    assert bare.rio.RIODequeueCompletion(queue, results, 4) == lib.RIO_CORRUPT_CQ
    assert bare.error() == lib.RIO_EINVAL
    fake.become(fake.WORKS)
    assert bare.rio.RIODequeueCompletion(queue, results, 4) == lib.RIO_CORRUPT_CQ, "it stays so"
    bare.close()
    assert fake.violations() == ["RIOCloseCompletionQueue: 1 requests are outstanding"]


def test_a_port_that_is_closed_before_its_sockets_gives_up(fake):
    """Documented: results are lost. Nothing hangs, and nothing of ours is touched afterwards."""
    provider = by_name("winsock")
    bare = Bare(provider)
    requests, _, ours, peer = bare.connection()
    region = bare.region()
    assert bare.receive(requests, region.buf(0, 8), 1) == 0
    bare.table.close(bare.port)
    bare.port = None
    assert fake.violations() == ["RIOCloseCompletionQueue: 1 requests are outstanding"]
    ours.close()
    bare.close()
    again = Bare(provider)
    one, other = connected("tcp", provider)
    again.keep(one, other)
    other.settimeout(10)
    echo(again, one, other)
    again.close()
