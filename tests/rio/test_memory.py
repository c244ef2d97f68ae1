"""send_memory and receive_memory: the capabilities beside RIO's table."""

import socket
import struct

import pytest

from tests.rio.bare import NULL, pattern, read_all
from zerio_asyncio.rio import CompletionQueue, RequestQueue
from zerio_asyncio.rio._rio import ffi, lib


@pytest.fixture
def sends(provider):
    if not provider.sends_memory:
        pytest.skip(f"{provider.name} does not send memory")


@pytest.fixture
def receives(provider):
    if not provider.receives_memory:
        pytest.skip(f"{provider.name} does not receive into memory")


def context(value):
    return ffi.cast("void *", value)


def test_a_missing_capability_refuses(bare, provider):
    requests, _, _, _ = bare.connection()
    memory = ffi.new("char[8]")
    if not provider.sends_memory:
        assert not provider.c.send_memory(requests, memory, 8, 0, NULL)
        assert bare.error() == lib.RIO_EOPNOTSUPP
    if not provider.receives_memory:
        assert not provider.c.receive_memory(requests, memory, 8, 0, NULL)
        assert bare.error() == lib.RIO_EOPNOTSUPP


def test_no_entry_is_null(provider):
    for table in (provider.c.rio, provider.c.port):
        for name in dir(table):
            assert getattr(table, name), name
    assert provider.c.size == ffi.sizeof("rio_provider")
    assert provider.c.rio.cbSize == ffi.sizeof("RIO_EXTENSION_FUNCTION_TABLE")
    assert provider.c.port.size == ffi.sizeof("rio_port_table")


@pytest.mark.usefixtures("sends")
def test_read_only_bytes_are_sent_from_where_they_are(bare, provider):
    requests, queue, _, peer = bare.connection()
    data = pattern(3 << 20)
    view = ffi.from_buffer(data)
    assert provider.c.send_memory(requests, view, len(data), 0, context(4))
    got = bytearray()
    peer.settimeout(0.02)
    while len(got) < len(data):
        bare.wait(0)
        try:
            got += peer.recv(1 << 20)
        except TimeoutError:
            continue
    assert bare.collect(queue, 1) == [(0, len(data), 0, 4)]
    assert bytes(got) == data


@pytest.mark.usefixtures("sends")
def test_memory_and_slices_keep_one_order(bare, provider):
    requests, queue, _, peer = bare.connection(sends=30)
    region = bare.region()
    region.memory[:300] = b"s" * 300
    pieces = [bytes([65 + i]) * 20 for i in range(15)]
    for i, piece in enumerate(pieces):
        assert provider.c.send_memory(
            requests, ffi.from_buffer(piece), 20, lib.RIO_MSG_DEFER, context(2 * i)
        )
        assert bare.send(requests, region.buf(i * 20, 20), 2 * i + 1, lib.RIO_MSG_DEFER) == 0
    assert bare.commit(bare.rio.RIOSend, requests) == 0
    assert [r.context for r in bare.collect(queue, 30)] == list(range(30))
    assert read_all(peer, 600) == b"".join(piece + b"s" * 20 for piece in pieces)


@pytest.mark.usefixtures("receives")
def test_receive_into_memory(bare, provider):
    requests, queue, _, peer = bare.connection()
    memory = bytearray(b"\xee" * 100)
    view = ffi.from_buffer(memory, require_writable=True)
    flags = lib.RIO_MSG_WAITALL
    assert provider.c.receive_memory(requests, view, 50, flags, context(8))
    peer.sendall(b"x" * 30)
    bare.wait(0.005)
    peer.sendall(b"y" * 30)
    assert bare.collect(queue, 1) == [(0, 50, 0, 8)]
    del view
    assert memory == b"x" * 30 + b"y" * 20 + b"\xee" * 50


@pytest.mark.usefixtures("sends", "receives")
@pytest.mark.parametrize("entry", ["send_memory", "receive_memory"])
def test_refusals_are_those_of_slices(bare, provider, entry):
    requests, queue, _, _ = bare.connection(receives=1, sends=1)
    call = getattr(provider.c, entry)
    memory = ffi.new("char[64]")
    for arguments, code in [
        ((NULL, memory, 8, 0, NULL), lib.RIO_EINVAL),
        ((requests, NULL, 8, 0, NULL), lib.RIO_EFAULT),
        ((requests, memory, 8, 16, NULL), lib.RIO_EINVAL),
        ((requests, memory, 0, 0, NULL), lib.RIO_EINVAL),
    ]:
        assert not call(*arguments)
        assert bare.error() == code, arguments
    assert call(requests, memory, 8, lib.RIO_MSG_DEFER, context(1))
    assert not call(requests, memory, 8, 0, context(2))
    assert bare.error() == lib.RIO_ENOBUFS
    bare.wait(0.005)
    assert len(bare.dequeue(queue)) <= 1


@pytest.mark.usefixtures("sends", "receives")
def test_objects_are_kept_until_the_result(bare, port):
    ours, peer = bare.pair()
    queue = CompletionQueue(8, port)
    with RequestQueue(ours, queue, max_receives=2, max_sends=2) as requests:
        target = bytearray(10)
        requests.receive_memory(target, "in")
        with pytest.raises(BufferError):
            target.append(1)  # exported, so its memory cannot move
        requests.send_memory(b"out" * 2, "out")
        peer.sendall(b"0123456789")
        results = []
        while len(results) < 2:
            port.wait(0.01)
            results += queue.dequeue()
        assert {r.context: r.transferred for r in results} == {"in": 10, "out": 6}
        target.append(1)
        assert target == b"0123456789\x01"
        with pytest.raises(BufferError):
            requests.receive_memory(b"read only")


@pytest.fixture
def now(provider):
    if not provider.acts_now:
        pytest.skip(f"{provider.name} has nothing but requests")


@pytest.mark.usefixtures("now")
def test_what_is_there_is_received_now(bare, port):
    ours, peer = bare.pair()
    queue = CompletionQueue(8, port)
    with RequestQueue(ours, queue, max_receives=1, max_sends=1) as requests:
        target = bytearray(8)
        with pytest.raises(BlockingIOError):
            requests.receive_now(target)
        peer.sendall(b"0123456789")
        assert requests.receive_now(target) == 8
        assert requests.receive_now(target) == 2
        assert target == b"89234567"
        with pytest.raises(BlockingIOError):
            requests.receive_now(target)
        # A request goes on where the calls stopped, whatever the driver believed of the socket.
        requests.receive_memory(target, "request")
        with pytest.raises(OSError) as refused:
            requests.receive_now(bytearray(8))
        assert refused.value.winsock == lib.RIO_EALREADY
        peer.sendall(b"ab")
        results = []
        while not results:
            port.wait(0.01)
            results = queue.dequeue()
        assert [(r.context, r.transferred) for r in results] == [("request", 2)]
        assert target[:2] == b"ab"
        peer.close()
        assert requests.receive_now(target) == 0
        assert requests.receive_now(target) == 0


@pytest.mark.usefixtures("receives")
def test_a_receive_of_no_bytes_tells_when_there_is_something(bare, provider):
    requests, queue, _, peer = bare.connection()
    call = provider.c.receive_memory
    assert call(requests, NULL, 0, 0, context(1))
    bare.wait(0)
    assert bare.dequeue(queue) == []
    peer.sendall(b"abc")
    assert bare.collect(queue, 1) == [(0, 0, 0, 1)]
    # Nothing was taken, so it is still there, for another probe and for a receive.
    assert call(requests, NULL, 0, 0, context(2))
    assert bare.collect(queue, 1) == [(0, 0, 0, 2)]
    memory = ffi.new("char[8]")
    assert call(requests, memory, 8, 0, context(3))
    assert bare.collect(queue, 1) == [(0, 3, 0, 3)]
    assert call(requests, NULL, 0, 0, context(4))
    bare.wait(0)
    assert bare.dequeue(queue) == []
    peer.close()
    assert bare.collect(queue, 1) == [(0, 0, 0, 4)]
    assert call(requests, NULL, 0, 0, context(5))
    assert bare.collect(queue, 1) == [(0, 0, 0, 5)]
    assert not provider.c.send_memory(requests, NULL, 0, 0, NULL)
    assert bare.error() == lib.RIO_EINVAL


@pytest.mark.usefixtures("receives")
def test_a_receive_of_no_bytes_is_aborted_like_any_other(bare, provider):
    requests, queue, sock, _ = bare.connection()
    assert provider.c.receive_memory(requests, NULL, 0, 0, context(1))
    bare.wait(0)
    assert provider.c.port.retire(bare.port, sock.fileno()) == 0
    assert bare.collect(queue, 1) == [(lib.RIO_OPERATION_ABORTED, 0, 0, 1)]


@pytest.fixture
def sends_now(provider):
    if not provider.sends_now:
        pytest.skip(f"{provider.name} has nothing but requests")


@pytest.mark.usefixtures("sends_now")
def test_what_fits_is_sent_now_and_the_rest_by_request(bare, port):
    ours, peer = bare.pair()
    ours.setblocking(False)
    queue = CompletionQueue(8, port)
    data = pattern(8 << 20)
    with RequestQueue(ours, queue, max_receives=1, max_sends=1) as requests:
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                sent += requests.send_now(memoryview(data)[sent:])
        assert 0 < sent < len(data)
        requests.send_memory(memoryview(data)[sent:], "rest")
        with pytest.raises(OSError) as refused:
            requests.send_now(b"too early")
        assert refused.value.winsock == lib.RIO_EALREADY
        got = bytearray()
        peer.settimeout(0.02)
        while len(got) < len(data):
            port.wait(0)
            try:
                got += peer.recv(1 << 20)
            except TimeoutError:
                continue
        assert got == data
        results = []
        while not results:
            port.wait(0.01)
            results = queue.dequeue()
        assert [(r.context, r.transferred) for r in results] == [("rest", len(data) - sent)]


@pytest.mark.usefixtures("now")
def test_a_reset_met_now_is_told_again(bare, port):
    ours, peer = bare.pair()
    queue = CompletionQueue(8, port)
    with RequestQueue(ours, queue, max_receives=1, max_sends=1) as requests:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        with pytest.raises(ConnectionResetError):
            requests.receive_now(bytearray(8))
        requests.receive_memory(bytearray(8), "after")
        results = []
        while not results:
            port.wait(0.01)
            results = queue.dequeue()
        assert results[0].status == lib.RIO_ECONNRESET


@pytest.mark.parametrize("entry", ["send_now", "receive_now"])
def test_bad_arguments_of_the_calls_without_a_request(bare, provider, entry):
    requests, _, _, _ = bare.connection()
    call = getattr(provider.c, entry)
    memory = ffi.new("char[64]")
    assert call(NULL, memory, 8) == -lib.RIO_EINVAL
    assert call(ffi.cast("RIO_RQ", 0x1234567890), memory, 8) == -lib.RIO_EINVAL
    if not (provider.sends_now if entry == "send_now" else provider.acts_now):
        assert call(requests, memory, 8) == -lib.RIO_EOPNOTSUPP
        return
    assert call(requests, NULL, 8) == -lib.RIO_EFAULT
    assert call(requests, memory, 0) == -lib.RIO_EINVAL
