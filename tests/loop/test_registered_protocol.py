"""RegisteredProtocol: a view straight onto the registered slice, for the length of a call."""

from __future__ import annotations

import asyncio

import pytest

from .support import Recorder, Remembering, connect, registered_recorder, shut, spin

pytestmark = pytest.mark.ours


def viewing(view_received):
    """A protocol whose view_received is the given function."""
    import zerio_asyncio

    class Viewing(Remembering, zerio_asyncio.RegisteredProtocol):
        def view_received(self, view):
            view_received(self, view)
            self.note("data_received")

    return Viewing()


def test_it_is_a_base_protocol():
    import zerio_asyncio

    assert issubclass(zerio_asyncio.RegisteredProtocol, asyncio.BaseProtocol)
    assert not issubclass(zerio_asyncio.RegisteredProtocol, asyncio.Protocol)
    assert zerio_asyncio.RegisteredProtocol().eof_received() is None


async def test_the_view_is_of_bytes_in_one_piece(loop):
    shapes = []

    def look(self, view):
        shapes.append((view.format, view.itemsize, view.ndim, view.contiguous, view.nbytes))
        self.received += view

    transport, recorder, peer = await connect(lambda: viewing(look))
    await peer.send(b"hello")
    assert await recorder.got(5) == b"hello"
    assert shapes[0] == ("B", 1, 1, True, 5)
    await shut(transport, recorder, peer)


async def test_the_view_is_released_after_the_call(loop):
    kept = []
    transport, recorder, peer = await connect(lambda: viewing(lambda self, view: kept.append(view)))
    await peer.send(b"hello")
    await recorder.until(lambda: kept)
    for use in (lambda: kept[0][0], lambda: bytes(kept[0]), lambda: len(kept[0])):
        with pytest.raises(ValueError, match="released"):
            use()
    await shut(transport, recorder, peer)


async def test_a_kept_part_of_a_view_stays_readable_memory(loop):
    """What it shows may change under it, but it never points to nothing."""
    kept = []
    transport, recorder, peer = await connect(
        lambda: viewing(lambda self, view: kept.append(view[1:3]))
    )
    for _ in range(5):
        await peer.send(b"hello")
        await asyncio.sleep(0.002)
    await recorder.until(lambda: kept)
    assert len(bytes(kept[0])) == 2
    await shut(transport, recorder, peer)


def test_a_kept_part_of_a_view_outlives_the_loop(new_loop):
    loop = new_loop()
    kept = []

    async def main():
        transport, recorder, peer = await connect(
            lambda: viewing(lambda self, view: kept.append(view[:4]))
        )
        await peer.send(b"hello")
        await recorder.until(lambda: kept)
        await shut(transport, recorder, peer)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert len(bytes(kept[0])) == 4
    kept[0].release()


async def test_a_numpy_like_export_during_the_call_is_harmless(loop):
    """A bytearray made of the view copies; a ctypes or numpy array would keep an export."""
    kept = []

    def export(self, view):
        kept.append(memoryview(view))
        self.received += view

    transport, recorder, peer = await connect(lambda: viewing(export))
    for number in range(10):
        await peer.send(b"%05d" % number)
        await recorder.got(5 * (number + 1))
    assert recorder.received == b"".join(b"%05d" % n for n in range(10))
    await shut(transport, recorder, peer)


async def test_a_view_can_be_written_back(loop):
    transport, recorder, peer = await connect(
        lambda: viewing(lambda self, view: self.transport.write(view))
    )
    data = bytes(range(256)) * 1000
    sending = asyncio.ensure_future(peer.send(data))
    assert await peer.receive_exactly(len(data)) == data
    await sending
    await shut(transport, recorder, peer)


def test_views_are_bounded_by_the_slice_size(new_loop):
    loop = new_loop(slice_size=4096, slab_size=65536)
    sizes = []

    def measure(self, view):
        sizes.append(len(view))
        self.received += view

    async def main():
        transport, recorder, peer = await connect(lambda: viewing(measure))
        data = bytes(range(256)) * 500
        sending = asyncio.ensure_future(peer.send(data))
        assert await recorder.got(len(data)) == data
        await sending
        await shut(transport, recorder, peer)

    loop.run_until_complete(main())
    assert max(sizes) <= 4096


async def test_received_bytes_stay_in_registered_memory(loop):
    """What it is for: no bytes object per receive. Only the slices tell, by staying few."""
    transport, recorder, peer = await connect(registered_recorder)
    await spin()  # its first receive is posted once we have the transport
    before = loop.rio_stats()
    for number in range(200):
        await peer.send(b"x" * 1000)
        await recorder.got(1000 * (number + 1))
    after = loop.rio_stats()
    assert after.bytes_received - before.bytes_received == 200_000
    assert after.slices_in_use == before.slices_in_use
    await shut(transport, recorder, peer)


async def test_both_kinds_on_one_server(loop):
    made = []

    def factory():
        made.append(Recorder() if len(made) % 2 else registered_recorder())
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    clients = [await asyncio.open_connection(*address) for _ in range(6)]
    for number, (_, writer) in enumerate(clients):
        writer.write(b"client %d" % number)
    while len(made) < len(clients):
        await asyncio.sleep(0.001)
    for recorder in made:
        await recorder.until(lambda recorder=recorder: len(recorder.received) == 8)
    assert sorted(bytes(recorder.received) for recorder in made) == [
        b"client %d" % number for number in range(6)
    ]
    for _, writer in clients:
        writer.close()
        await writer.wait_closed()
    for recorder in made:
        await recorder.lost()
    server.close()
    await server.wait_closed()


def test_bytes_that_come_otherwise_are_seen_too():
    """What TLS and other loops call."""
    seen = []

    def look(self, view):
        seen.append((bytes(view), view.readonly, view))

    viewing(look).data_received(bytearray(b"hello"))
    assert seen[0][:2] == (b"hello", True)
    with pytest.raises(ValueError, match="released"):
        bytes(seen[0][2])
