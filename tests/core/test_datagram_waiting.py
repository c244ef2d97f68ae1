"""Datagrams that must wait: what the system has no room for goes out as requests.

On loopback the system always has room for UDP, so two things stand in for a busy network: providers
whose table is changed (no calls without a request; none from memory that is not registered; calls
that take only a part, as luck has it), and Unix sockets, whose sender waits for its reader.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import random
import socket
import sys

import pytest

from tests.loop.datagrams import Answering, Letters, open_endpoint, peer, receive, shut
from zerio_asyncio.core.datagram import DatagramTransport
from zerio_asyncio.rio import providers
from zerio_asyncio.rio._rio import ffi, lib

HEADER = 8 if sys.version_info >= (3, 13) else 0
"""What each waiting datagram counts beside its bytes (asyncio.DatagramTransport.sendto)."""

CHANGES = ("as it is", "no calls", "no calls, no memory", "moody")


def changed(provider, change):
    """A copy of a provider that can do less."""
    table = ffi.new("rio_provider *", provider.c[0])
    if change != "moody":
        table.capabilities &= ~lib.RIO_CAP_NOW
        if change == "no calls, no memory":
            table.capabilities &= ~lib.RIO_CAP_SEND_MEMORY
        return table, None
    moods = random.Random(7)

    @ffi.callback(dict(ffi.typeof("rio_provider").fields)["send_datagrams_now"].type)
    def moody(requests, datagrams, count):
        some = moods.choice([0, 0, 1, count // 2, count])
        return (
            provider.c.send_datagrams_now(requests, datagrams, some)
            if some
            else -lib.RIO_EWOULDBLOCK
        )

    table.send_datagrams_now = moody
    return table, moody


@pytest.fixture(params=CHANGES)
def loop(request, monkeypatch, provider, make_loop):
    kept = []
    if request.param != "as it is":
        kept = [changed(one, request.param) for one in providers.known()]
        tables = tuple(providers.Provider(table) for table, _ in kept)
        monkeypatch.setattr(providers, "_PROVIDERS", tables)
    yield make_loop()
    del kept


def run(loop, coroutine):
    return loop.run_until_complete(asyncio.wait_for(coroutine, 20))


@pytest.fixture
def pair(tmp_path):
    """Connected Unix sockets with names, the sending one with the least of buffers."""
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("Python has no AF_UNIX here")
    ours, theirs = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    ours.bind(str(tmp_path / "ours"))
    theirs.bind(str(tmp_path / "theirs"))
    theirs.settimeout(10)
    ours.connect(theirs.getsockname())
    theirs.connect(ours.getsockname())
    yield ours, theirs
    ours.close()
    theirs.close()


async def transport_on(loop, sock, factory=Letters):
    waiter = loop.create_future()
    protocol = factory()
    transport = DatagramTransport(loop, sock, protocol, None, waiter)
    await waiter
    return transport, protocol


def test_questions_and_answers(loop):
    async def main():
        transport, protocol, address = await open_endpoint(Answering)
        with peer() as one, peer() as other:
            many = [b"%d" % number * (1 + number % 200) for number in range(80)]
            for message in many:
                one.sendto(message, address)
                other.sendto(message, address)
            for sock in (one, other):
                assert [(await receive(sock))[0] for _ in many] == many
        await shut(transport)
        assert protocol.errors == []

    run(loop, main())


def test_every_size_fits_a_slice(loop):
    async def main():
        transport, protocol, address = await open_endpoint()
        with peer() as sock:
            for size in (1, 16319, 16320, 16321, 16384, 40000, 65507):
                data = bytes(i * 7 & 255 for i in range(size))
                transport.sendto(data, sock.getsockname())
                assert await receive(sock) == (data, address)
        await shut(transport)

    run(loop, main())


def test_errors_keep_their_place(loop):
    async def main():
        transport, protocol, _ = await open_endpoint()
        with peer() as sock:
            where = sock.getsockname()
            for number in range(40):
                size = 70000 if number % 5 == 2 else 1 + number
                transport.sendto(bytes(size), where)
            sizes = [len((await receive(sock))[0]) for _ in range(32)]
            assert sizes == [1 + number for number in range(40) if number % 5 != 2]
            await protocol.failed(8)
            assert len(protocol.errors) == 8
        await shut(transport)

    run(loop, main())


def test_closing_sends_the_rest(loop):
    async def main():
        for _ in range(10):
            transport, protocol, _ = await open_endpoint()
            with peer() as sock:
                for number in range(30):
                    transport.sendto(b"%d" % number, sock.getsockname())
                transport.close()
                assert await protocol.lost() is None
                assert [int(sock.recv(10)) for _ in range(30)] == list(range(30))

    run(loop, main())


def test_names_wait_their_turn(loop):
    async def main():
        transport, protocol, _ = await open_endpoint()
        with peer() as sock:
            port = sock.getsockname()[1]
            for number in range(60):
                transport.sendto(b"%d" % number, (("127.0.0.1", "localhost")[number % 2], port))
            assert [int((await receive(sock))[0]) for _ in range(60)] == list(range(60))
        assert protocol.errors == []
        await shut(transport)

    run(loop, main())


def test_a_reader_that_is_slow_pauses_the_protocol(loop, pair):
    ours, theirs = pair

    async def main():
        transport, protocol = await transport_on(loop, ours)
        transport.set_write_buffer_limits(high=3000, low=500)
        rounds = []
        for _ in range(3):
            sent = 0
            del protocol.calls[:]
            while "pause_writing" not in protocol.calls:
                transport.sendto(b"%4d" % sent * 25)
                sent += 1
                assert sent < 10000
            rounds.append(sent)
            assert transport.get_write_buffer_size() > 3000
            assert transport.get_write_buffer_size() % (100 + HEADER) == 0
            received = [(await receive(theirs))[0] for _ in range(sent)]
            assert received == [b"%4d" % number * 25 for number in range(sent)]
            await protocol.until(lambda: "resume_writing" in protocol.calls)
            assert protocol.calls == ["pause_writing", "resume_writing"]
            await asyncio.sleep(0.01)
            assert transport.get_write_buffer_size() == 0
        await shut(transport)

    run(loop, main())
    assert loop.rio_stats().slices_in_use == 0


def test_closing_waits_for_the_reader(loop, pair):
    ours, theirs = pair

    async def main():
        transport, protocol = await transport_on(loop, ours)
        for number in range(50):
            transport.sendto(b"%d" % number)
        assert transport.get_write_buffer_size() > 0
        transport.close()
        await asyncio.sleep(0.01)
        assert "connection_lost" not in protocol.calls
        assert [int((await receive(theirs))[0]) for _ in range(50)] == list(range(50))
        assert await protocol.lost() is None

    run(loop, main())
    assert loop.rio_stats().slices_in_use == 0


@pytest.mark.parametrize("closing", [False, True])
def test_aborting_forgets_the_rest(loop, pair, closing):
    ours, theirs = pair

    async def main():
        transport, protocol = await transport_on(loop, ours)
        for number in range(50):
            transport.sendto(b"%d" % number)
        if closing:
            transport.close()
        transport.abort()
        assert await protocol.lost() is None
        await asyncio.sleep(0.01)
        return transport

    run(loop, main())
    theirs.setblocking(False)
    got = []
    with pytest.raises(BlockingIOError):
        while True:
            got.append(int(theirs.recv(10)))
    assert got == list(range(len(got)))
    assert len(got) < 50
    assert loop.rio_stats().slices_in_use == 0


def test_a_reader_that_goes_away(loop, pair):
    ours, theirs = pair

    async def main():
        transport, protocol = await transport_on(loop, ours)
        for number in range(20):
            transport.sendto(b"%d" % number)
        waiting = transport.get_write_buffer_size()
        theirs.close()
        await protocol.failed(1)
        while transport.get_write_buffer_size():
            await asyncio.sleep(0.001)
        assert waiting
        assert {error.errno for error in protocol.errors} <= {
            errno.ECONNREFUSED,
            errno.ECONNRESET,
            errno.ENOTCONN,
        }
        assert "connection_lost" not in protocol.calls
        await shut(transport)

    run(loop, main())


def test_a_loop_that_closes_while_datagrams_wait(loop, pair):
    ours, _ = pair

    async def main():
        transport, _ = await transport_on(loop, ours)
        for number in range(50):
            transport.sendto(b"%d" % number)
        return transport

    transport = run(loop, main())
    loop.close()
    assert transport.get_write_buffer_size() == 0
    transport.sendto(b"nowhere")
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        gc.collect()


def test_resuming_may_send_more(loop, pair):
    """A producer that obeys: everything arrives, once and in order."""
    ours, theirs = pair
    total = 3000

    class Producing(Letters):
        next = 0
        paused = False

        def produce(self):
            while self.next < total and not self.paused:
                self.transport.sendto(b"%d" % self.next)
                self.next += 1

        def pause_writing(self):
            self.paused = True

        def resume_writing(self):
            self.paused = False
            self.produce()

    async def main():
        transport, protocol = await transport_on(loop, ours, Producing)
        transport.set_write_buffer_limits(200)
        protocol.produce()
        assert protocol.paused

        def read():
            return [int(theirs.recv(100)) for _ in range(total)]

        assert await asyncio.to_thread(read) == list(range(total))
        await shut(transport)

    run(loop, main())


def test_a_loop_that_moves_between_threads_while_datagrams_wait(loop, pair):
    ours, theirs = pair

    async def begin():
        transport, protocol = await transport_on(loop, ours)
        for number in range(100):
            transport.sendto(b"%d" % number)
        return transport

    transport = run(loop, begin())

    async def go_on():
        return [int((await receive(theirs))[0]) for _ in range(100)]

    async def elsewhere():
        return await asyncio.to_thread(run, loop, go_on())

    assert asyncio.run(elsewhere()) == list(range(100))
    run(loop, shut(transport))
