"""Datagram endpoints: how they end, and what they leave."""

from __future__ import annotations

import asyncio
import gc
import warnings
import weakref

import pytest

from .datagrams import Answering, Letters, open_endpoint, peer, shut
from .marks import beyond_proactor, with_sending_now
from .support import spin


@beyond_proactor
async def test_nothing_is_received_after_close(loop):
    class Closing(Answering):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if len(self.received) == 5:
                self.transport.close()

    transport, protocol, address = await open_endpoint(Closing)
    with peer() as sock:
        for number in range(20):
            sock.sendto(b"%d" % number, address)
        assert await protocol.lost() is None
        await spin()
        assert len(protocol.received) == 5
        assert protocol.calls[-1] == "connection_lost"
        assert [sock.recv(10) for _ in range(5)] == [b"%d" % number for number in range(5)]


@pytest.mark.parametrize("end", ["close", pytest.param("abort", marks=with_sending_now)])
async def test_what_was_sent_before_the_end_goes_out(loop, end):
    class Ending(Letters):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            for number in range(5):
                self.transport.sendto(b"%d" % number, addr)
            getattr(self.transport, end)()

    transport, protocol, address = await open_endpoint(Ending)
    with peer() as sock:
        for _ in range(4):
            sock.sendto(b"end", address)
        assert await protocol.lost() is None
        assert [sock.recv(10) for _ in range(5)] == [b"%d" % number for number in range(5)]
        assert len(protocol.received) == 1
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(10)


async def test_ending_twice_is_harmless(loop):
    for first in ("close", "abort"):
        for second in ("close", "abort"):
            transport, protocol, _ = await open_endpoint()
            assert not transport.is_closing()
            getattr(transport, first)()
            getattr(transport, second)()
            assert transport.is_closing()
            assert "connection_lost" not in protocol.calls
            await protocol.lost()
            getattr(transport, second)()
            await spin()
            assert protocol.calls == ["connection_made", "connection_lost"]


@beyond_proactor
async def test_sending_on_a_lost_connected_endpoint_is_ignored_and_warned_of(loop, caplog):
    with peer() as sock:
        transport, protocol, _ = await open_endpoint(remote_addr=sock.getsockname())
        transport.abort()
        for _ in range(2):
            transport.sendto(b"into the void")
        await protocol.lost()
        for _ in range(2):
            transport.sendto(b"into the void")
        assert "socket.send() raised" not in caplog.text
        for _ in range(3):
            transport.sendto(b"into the void")
        assert caplog.text.count("socket.send() raised exception.") == 3
        sock.settimeout(0.02)
        with pytest.raises(TimeoutError):
            sock.recv(10)


@beyond_proactor
async def test_an_endpoint_without_a_peer_sends_until_it_is_lost(loop):
    transport, protocol, _ = await open_endpoint()
    with peer() as sock:
        transport.close()
        transport.sendto(b"late", sock.getsockname())
        assert sock.recv(10) == b"late"
    assert await protocol.lost() is None


async def test_an_unclosed_transport_is_warned_of_and_closed(loop):
    transport, protocol, _ = await open_endpoint()
    weak = weakref.ref(protocol)
    sock = transport.get_extra_info("socket")
    number = sock.fileno()
    transport.close()
    await protocol.lost()
    assert sock.fileno() == -1 != number
    del transport, protocol
    gc.collect()
    assert weak() is None


def test_a_loop_that_closes_under_endpoints(new_loop):
    loop = new_loop()

    async def many():
        return [await open_endpoint(Answering) for _ in range(5)]

    endpoints = loop.run_until_complete(many())
    with peer() as sock:
        for _, _, address in endpoints:
            for _ in range(5):
                sock.sendto(b"unread", address)
        loop.close()
    del endpoints
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    messages = [str(warning.message) for warning in caught]
    assert sum("unclosed transport" in message for message in messages) == 5, messages


async def test_a_cancelled_creation_leaves_nothing(loop):
    for turns in range(6):
        made = []

        def factory(made=made):
            made.append(Letters())
            return made[-1]

        task = asyncio.ensure_future(
            loop.create_datagram_endpoint(factory, local_addr=("127.0.0.1", 0))
        )
        await spin(turns)
        task.cancel()
        try:
            transport, protocol = await task
        except asyncio.CancelledError:
            if made and "connection_made" in made[0].calls:
                await made[0].lost()
        else:
            await shut(transport)
    await spin()


async def test_churn(loop):
    with peer() as sock:
        for number in range(100):
            transport, protocol, _ = await open_endpoint()
            sock.sendto(b"x", transport.get_extra_info("sockname"))
            if number % 2:
                await protocol.got(1)
            transport.abort() if number % 3 else transport.close()
            await protocol.lost()


@pytest.mark.ours
async def test_all_memory_comes_back(loop):
    transport, protocol, address = await open_endpoint(Answering)
    with peer() as sock:
        for _ in range(50):
            sock.sendto(b"x" * 1000, address)
        await protocol.got(50)
        stats = loop.rio_stats()
        assert 0 < stats.slices_in_use <= 16
        assert stats.connections == 1
    await shut(transport)
    await spin()
    stats = loop.rio_stats()
    assert (stats.slices_in_use, stats.connections) == (0, 0)
