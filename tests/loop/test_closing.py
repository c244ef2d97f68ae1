"""loop.close() with connections open and requests in flight: drained, unmapped, nothing left.

Trap 1 of docs/design.md: a slice goes back to its pool only when its result has been seen.
"""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from .marks import beyond_proactor
from .support import SECONDS, Recorder, connect, listener, recorder_of, shut, spin

# A loop that is closed over open connections leaves transports that nobody closed; the warning
# about them is asyncio's, and right.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


def closing(loop):
    loop.run_until_complete(loop.shutdown_default_executor())
    close_at_once(loop)


def close_at_once(loop):
    """Without one more turn, in which the loop could still see what has come."""
    loop.close()
    assert loop.is_closed()


def test_with_idle_connections(loop, protocol):
    async def main():
        return [await connect(lambda: recorder_of(protocol)) for _ in range(10)]

    made = loop.run_until_complete(main())
    closing(loop)
    for transport, recorder, peer in made:
        peer.close()
    made.clear()
    del transport, recorder, peer
    gc.collect()


def test_with_receives_that_have_completed_but_were_not_delivered(loop, protocol):
    async def main():
        return [await connect(lambda: recorder_of(protocol)) for _ in range(5)]

    made = loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    for _, _, peer in made:
        peer.sock.sendall(b"never seen")
    close_at_once(loop)
    for transport, recorder, peer in made:
        assert recorder.received == b""
        peer.close()
    made.clear()
    del transport, recorder, peer, _
    gc.collect()


def test_with_sends_in_flight(loop):
    async def main():
        transport, recorder, peer = await connect(Recorder)
        transport.write(b"x" * 20_000_000)
        await spin()
        return transport, recorder, peer

    transport, recorder, peer = loop.run_until_complete(main())
    closing(loop)
    peer.close()
    del transport, recorder
    gc.collect()


@beyond_proactor  # there closing a server fails once its loop is closed
def test_with_a_server_that_listens(loop):
    server = loop.run_until_complete(loop.create_server(Recorder, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()
    waiting = socket.create_connection(address)
    close_at_once(loop)
    server.close()
    waiting.close()
    del server
    gc.collect()


@beyond_proactor
def test_with_watched_descriptors_timers_and_callbacks(loop):
    ours, theirs = socket.socketpair()
    loop.add_reader(ours, print)
    loop.add_writer(theirs, print)
    loop.call_later(3600, print)
    loop.call_soon(print)
    closing(loop)
    ours.close()
    theirs.close()


def test_with_a_connect_under_way(loop):
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(server.getsockname())

    task = loop.create_task(loop.create_connection(Recorder, *server.getsockname()))
    loop.run_until_complete(asyncio.sleep(0.01))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    closing(loop)
    for sock in [server, *fillers]:
        sock.close()


@pytest.mark.ours
def test_the_provider_is_closed_with_the_loop(loop):
    async def main():
        ends = [await connect(Recorder) for _ in range(3)]
        for end in ends:
            await shut(*end)

    loop.run_until_complete(main())
    assert loop.rio_stats().connections == 0
    assert loop.rio_stats().slices_in_use == 0
    closing(loop)
    with pytest.raises(RuntimeError, match="closed"):
        loop.rio_stats()


@pytest.mark.ours
async def test_slices_return_after_abort_and_close(loop):
    before = loop.rio_stats().slices_in_use
    for end in ("close", "abort") * 10:
        transport, recorder, peer = await connect(Recorder)
        transport.write(b"x" * 1_000_000)
        getattr(transport, end)()
        if end == "close":
            await peer.receive_all()
        await recorder.lost()
        peer.close()
    for _ in range(100):
        if loop.rio_stats().slices_in_use == before:
            break
        await asyncio.sleep(0.005)
    assert loop.rio_stats().slices_in_use == before


@pytest.mark.ours
async def test_an_aborted_connections_memory_is_not_given_to_the_next_too_early(loop):
    """The kernel may still write into a slice whose connection was aborted in the same turn."""
    for _ in range(50):
        first = await connect(Recorder)
        second = await connect(Recorder)
        first[2].sock.sendall(b"A" * 16000)
        first[0].abort()
        second[2].sock.sendall(b"B" * 16000)
        assert await second[1].got(16000) == b"B" * 16000
        await first[1].lost()
        first[2].close()
        await shut(*second)


def test_fifty_loops_one_after_another(new_loop):
    """Rings, ports, maps and registered memory all go."""
    for _ in range(50):
        loop = new_loop()

        async def main():
            await shut(*await connect(Recorder))

        loop.run_until_complete(main())
        closing(loop)


def test_closing_from_the_garbage_collector_is_harmless(new_loop, kind):
    """A loop that its program forgot to close: a warning, and nothing left open."""
    from .support import descriptors, make_loop

    before = descriptors()
    loop = make_loop(kind)
    loop.run_until_complete(asyncio.sleep(0))
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()
    assert set(descriptors()) == set(before)


async def test_transports_that_outlive_their_closing_are_quiet(loop):
    with listener() as server:
        transport, recorder = await loop.create_connection(Recorder, *server.getsockname())
        sock, _ = server.accept()
    sock.settimeout(SECONDS)
    transport.write(b"x" * 5_000_000)
    transport.close()
    await spin()  # the system has it: Wine never ends a send that begins after the peer's reset
    sock.close()
    await recorder.lost()
    for call in (transport.close, transport.abort, transport.get_write_buffer_size):
        call()
