"""A stream connection's life as its protocol sees it: the calls, their order, their ends.

Trap 7 of docs/design.md, and parts of 1, 8 and 15.
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from .marks import MAKERS
from .support import (
    Recorder,
    connect,
    listener,
    recorder_of,
    shut,
    spin,
)


@pytest.fixture(params=MAKERS)
def make(request, protocol):
    """Connects a recording protocol of the kind under test over TCP or a Unix socket."""
    return lambda: request.param(lambda: recorder_of(protocol))


async def test_the_order_of_calls_in_a_whole_life(loop, make):
    transport, recorder, peer = await make()
    assert recorder.calls == ["connection_made"]
    assert recorder.transport is transport
    await peer.send(b"hello")
    assert await recorder.got(5) == b"hello"
    transport.write(b"world")
    assert await peer.receive() == b"world"
    peer.close()
    assert await recorder.lost() is None
    assert recorder.calls == [
        "connection_made",
        "data_received",
        "eof_received",
        "connection_lost",
    ]


def test_what_is_ready_runs_before_the_protocol_hears_of_data(loop, make):
    transport, recorder, peer = loop.run_until_complete(make())
    loop.run_until_complete(spin())
    order, note = [], recorder.note

    def watch(call):
        order.append(call)
        note(call)

    recorder.note = watch
    peer.sock.sendall(b"x")  # it is there before the loop runs
    loop.call_soon(order.append, "callback")
    loop.run_until_complete(recorder.got(1))
    assert order == ["callback", "data_received"]
    loop.run_until_complete(shut(transport, recorder, peer))


async def test_data_before_the_end_is_delivered_before_the_end(loop, make):
    transport, recorder, peer = await make()
    await peer.send(b"x" * 300_000)
    peer.end()
    await recorder.lost()
    assert bytes(recorder.received) == b"x" * 300_000
    assert recorder.calls[-2:] == ["eof_received", "connection_lost"]
    peer.close()


async def test_the_peer_ends_its_half_and_we_go_on_writing(loop, make):
    transport, recorder, peer = await make()
    recorder.keep_open = True
    peer.end()
    await recorder.until(lambda: "eof_received" in recorder.calls)
    await spin(10)
    assert "connection_lost" not in recorder.calls
    assert not transport.is_closing()
    transport.write(b"after your end")
    assert await peer.receive() == b"after your end"
    transport.close()
    assert await recorder.lost() is None
    assert await peer.receive() == b""
    peer.close()


async def test_eof_received_that_answers_nothing_closes(loop, make):
    transport, recorder, peer = await make()
    recorder.keep_open = False
    peer.end()
    assert await recorder.lost() is None
    assert transport.is_closing()
    assert await peer.receive() == b""
    peer.close()


async def test_we_end_our_half_and_go_on_reading(loop, make):
    transport, recorder, peer = await make()
    assert transport.can_write_eof()
    transport.write(b"last words")
    transport.write_eof()
    assert await peer.receive_all() == b"last words"
    await peer.send(b"still here")
    assert await recorder.got(10) == b"still here"
    assert not transport.is_closing()
    peer.close()
    assert await recorder.lost() is None


async def test_write_eof_waits_for_what_was_written(loop, make):
    transport, recorder, peer = await make()
    data = bytes(range(256)) * 8192
    transport.write(data)
    transport.write_eof()
    assert await peer.receive_all() == data
    peer.close()
    await recorder.lost()


async def test_write_eof_twice_is_once(loop, make):
    transport, recorder, peer = await make()
    transport.write_eof()
    transport.write_eof()
    assert await peer.receive_all() == b""
    await shut(transport, recorder, peer)


async def test_writing_after_write_eof_is_a_runtime_error(loop, make):
    transport, recorder, peer = await make()
    transport.write_eof()
    with pytest.raises(RuntimeError, match="write_eof"):
        transport.write(b"too late")
    await shut(transport, recorder, peer)


async def test_write_eof_after_close_is_quiet(loop, make):
    transport, recorder, peer = await make()
    transport.close()
    transport.write_eof()
    await recorder.lost()
    peer.close()


async def test_close_flushes_what_was_written(loop, make):
    transport, recorder, peer = await make()
    data = b"z" * 5_000_000
    transport.write(data)
    transport.close()
    assert transport.is_closing()
    received = await peer.receive_all()
    assert received == data
    assert await recorder.lost() is None
    peer.close()


async def test_close_is_idempotent_and_asynchronous(loop, make):
    transport, recorder, peer = await make()
    transport.close()
    transport.close()
    assert recorder.calls == ["connection_made"]
    await recorder.lost()
    transport.close()
    transport.abort()
    await spin(5)
    assert recorder.calls == ["connection_made", "connection_lost"]
    peer.close()


async def test_no_data_is_delivered_after_close(loop, make):
    transport, recorder, peer = await make()
    peer.sock.sendall(b"too late")  # it is in the kernel, perhaps in our slice, when we close
    transport.close()
    await recorder.lost()
    assert recorder.received == b""
    peer.close()


async def test_abort_drops_what_was_written_and_is_asynchronous(loop, make):
    transport, recorder, peer = await make()
    transport.write(b"x" * 50_000_000)
    transport.abort()
    assert "connection_lost" not in recorder.calls
    assert transport.is_closing()
    assert await recorder.lost() is None
    assert transport.get_write_buffer_size() == 0
    peer.close()


async def test_abort_is_idempotent(loop, make):
    transport, recorder, peer = await make()
    transport.abort()
    transport.abort()
    transport.close()
    await recorder.lost()
    await spin(5)
    assert recorder.calls.count("connection_lost") == 1
    peer.close()


async def test_close_inside_connection_made(loop, protocol):
    recorder = recorder_of(protocol)
    remember = recorder.connection_made

    def connection_made(transport):
        remember(transport)
        transport.write(b"bye")
        transport.close()

    recorder.connection_made = connection_made
    transport, _, peer = await connect(lambda: recorder)
    assert await peer.receive_all() == b"bye"
    assert await recorder.lost() is None
    assert recorder.calls == ["connection_made", "connection_lost"]
    peer.close()


async def test_abort_inside_connection_made(loop, protocol):
    recorder = recorder_of(protocol)
    remember = recorder.connection_made

    def connection_made(transport):
        remember(transport)
        transport.abort()

    recorder.connection_made = connection_made
    with listener() as server:  # nobody accepts it: it may be reset
        await loop.create_connection(lambda: recorder, *server.getsockname())
        assert await recorder.lost() is None
    assert recorder.calls == ["connection_made", "connection_lost"]


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_ending_inside_data_received(loop, make, end):
    transport, recorder, peer = await make()
    remember = recorder.note

    def note(call):
        remember(call)
        if call == "data_received":
            getattr(transport, end)()

    recorder.note = note
    peer.sock.sendall(b"x" * 100_000)  # more than one receive takes
    assert await recorder.lost() is None
    assert recorder.calls == ["connection_made", "data_received", "connection_lost"]
    peer.close()


async def test_close_inside_data_received_still_sends_the_answer(loop, make):
    transport, recorder, peer = await make()
    remember = recorder.note

    def note(call):
        remember(call)
        if call == "data_received":
            transport.write(b"answer")
            transport.close()

    recorder.note = note
    await peer.send(b"question")
    assert await peer.receive_all() == b"answer"
    await recorder.lost()
    peer.close()


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_ending_inside_eof_received(loop, make, end):
    transport, recorder, peer = await make()
    recorder.keep_open = True
    remember = recorder.note

    def note(call):
        remember(call)
        if call == "eof_received":
            getattr(transport, end)()

    recorder.note = note
    peer.end()
    assert await recorder.lost() is None
    assert recorder.calls == ["connection_made", "eof_received", "connection_lost"]
    peer.close()


async def test_everything_is_quiet_after_connection_lost(loop, make):
    transport, recorder, peer = await make()
    await shut(transport, recorder, peer)
    transport.write(b"nobody")
    transport.close()
    transport.abort()
    transport.pause_reading()
    transport.resume_reading()
    assert transport.is_closing()
    assert transport.get_write_buffer_size() == 0
    assert isinstance(repr(transport), str)


async def test_the_protocol_and_the_loop_are_let_go_of(loop, make):
    import gc
    import weakref

    transport, recorder, peer = await make()
    await shut(transport, recorder, peer)
    gone = weakref.ref(recorder)
    del recorder, transport
    await spin()
    gc.collect()
    assert gone() is None


async def test_repr_tells_the_state(loop):
    transport, recorder, peer = await connect(Recorder)
    number = transport.get_extra_info("socket").fileno()
    assert f"fd={number}" in repr(transport)
    transport.close()
    assert "clos" in repr(transport)
    await recorder.lost()
    assert "closed" in repr(transport)
    peer.close()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # its socket's own
def test_an_unclosed_transport_warns_when_it_is_collected(loop, protocol):
    """An open transport is the loop's to keep, so its end comes after the loop's."""
    import gc

    transport, recorder, peer = loop.run_until_complete(connect(lambda: recorder_of(protocol)))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    recorder.transport = None
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport, recorder
        gc.collect()
    peer.close()


async def test_two_connections_are_independent(loop, make):
    first = await make()
    second = await make()
    await shut(*first)
    transport, recorder, peer = second
    await peer.send(b"alive")
    assert await recorder.got(5) == b"alive"
    await shut(*second)


async def test_an_accepted_connection_lives_as_a_connected_one(loop, protocol):
    made = []

    def factory():
        made.append(recorder_of(protocol))
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname())
    client.sendall(b"hi")
    while not made or not made[0].received:
        await asyncio.sleep(0.001)
    recorder = made[0]
    recorder.transport.write(b"ho")
    assert await asyncio.to_thread(client.recv, 10) == b"ho"
    client.close()
    assert await recorder.lost() is None
    assert recorder.calls == [
        "connection_made",
        "data_received",
        "eof_received",
        "connection_lost",
    ]
    server.close()
    await server.wait_closed()
