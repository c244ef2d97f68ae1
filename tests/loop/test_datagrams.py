"""Datagram endpoints: what goes out, what comes in, and what their protocols are told."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys

import pytest

from .datagrams import HOSTS, Answering, Letters, open_endpoint, peer, receive, receive_many, shut
from .marks import beyond_proactor, with_sending_now
from .support import WINDOWS, Changes, spin

FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["v4", "v6"])


@FAMILIES
async def test_a_datagram_and_its_answer(loop, family):
    transport, protocol, address = await open_endpoint(Answering, local_addr=(HOSTS[family], 0))
    with peer(family) as sock:
        sock.sendto(b"question", address)
        assert await receive(sock) == (b"question", address)
        assert protocol.received == [(b"question", sock.getsockname())]
        assert type(protocol.received[0][1]) is tuple
    await shut(transport)
    assert protocol.calls == ["connection_made", "datagram_received", "connection_lost"]
    assert protocol.lost_with is None


async def test_every_peer_has_its_own_address(loop):
    """More of them than an endpoint remembers, and with every kind of number in their names."""
    transport, protocol, _ = await open_endpoint(Answering, local_addr=("0.0.0.0", 0))
    port = transport.get_extra_info("sockname")[1]
    # A socket a name: Wine needs too long for a thousand of them.
    numbers = [1, 10, 99, 254] if WINDOWS else [1, 9, 10, 99, 100, 101, 200, 254]
    hosts = [f"127.{a}.{b}.{c}" for a in numbers for b in numbers for c in numbers]
    for number, host in enumerate(hosts * 2):
        with peer(host=host) as sock:
            message = b"%d" % number
            sock.sendto(message, ("127.0.0.1", port))
            await protocol.got(number + 1)
            assert protocol.received[-1] == (message, sock.getsockname())
            assert sock.recv(100) == message
    await shut(transport)


async def test_ipv6_addresses_of_every_length_are_understood(loop):
    transport, protocol, address = await open_endpoint(local_addr=("::1", 0))
    with peer(socket.AF_INET6) as sock:
        port = sock.getsockname()[1]
        for name in (("::1", port), ("::1", port, 0), ("::1", port, 0, 0), ("0:0::0:1", port)):
            transport.sendto(b"to", name)
            assert await receive(sock) == (b"to", address)
    assert protocol.errors == []
    await shut(transport)


async def test_an_ipv6_socket_hears_ipv4(loop):
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    transport, protocol, address = await open_endpoint(Answering, sock=sock)
    with peer() as other:
        other.sendto(b"mapped", ("127.0.0.1", address[1]))
        assert await receive(other) == (b"mapped", ("127.0.0.1", address[1]))
        assert protocol.received[0][1][0] == "::ffff:127.0.0.1"
    await shut(transport)


@beyond_proactor
@pytest.mark.parametrize("debug", [False, True])
async def test_a_burst_is_received_whole_and_in_order(loop, debug):
    loop.set_debug(debug)
    loop.slow_callback_duration = 100
    transport, protocol, address = await open_endpoint(Answering)
    with peer() as sock:
        for round_number in range(5):
            many = [b"%d %d" % (round_number, number) for number in range(100)]
            for message in many:
                sock.sendto(message, address)
            got = await protocol.got(100 * (round_number + 1))
            assert got[-100:] == many
            assert await receive_many(sock, 100) == many
    await shut(transport)


@FAMILIES
async def test_all_sizes_in_both_directions(loop, family):
    largest = 65507 if family == socket.AF_INET else 65527
    transport, protocol, address = await open_endpoint(Answering, local_addr=(HOSTS[family], 0))
    with peer(family) as sock:
        for size in (1, 511, 512, 513, 1472, 4096, 16383, 16384, 16385, 65000, largest):
            data = bytes(i * 7 & 255 for i in range(size))
            sock.sendto(data, address)
            assert await receive(sock) == (data, address)
            assert protocol.received.pop()[0] == data
    await shut(transport)


@beyond_proactor
async def test_empty_datagrams(loop):
    transport, protocol, address = await open_endpoint()
    with peer() as sock:
        for data in (b"", b"x", b""):
            sock.sendto(data, address)
        assert await protocol.got(3) == [b"", b"x", b""]
        transport.sendto(b"", sock.getsockname())
        transport.sendto(bytearray(), sock.getsockname())
        transport.sendto(b"last", sock.getsockname())
        expected = [b"", b"", b"last"] if sys.version_info >= (3, 13) else [b"last"]
        assert [(await receive(sock))[0] for _ in expected] == expected
    await shut(transport)


async def test_any_buffer_is_copied_as_it_is(loop):
    transport, _, _ = await open_endpoint()
    with peer() as sock:
        where = sock.getsockname()
        data = bytearray(b"0123456789")
        transport.sendto(data, where)
        data[:] = b"overwritten"
        transport.sendto(memoryview(data)[4:], where)
        transport.sendto(memoryview(bytes(range(8))).cast("H"), where)
        assert (await receive(sock))[0] == b"0123456789"
        assert (await receive(sock))[0] == b"written"
        assert (await receive(sock))[0] == bytes(range(8))
    await shut(transport)


@beyond_proactor
@pytest.mark.parametrize("data", ["text", 5, None, [b"list"]])
async def test_only_buffers_are_data(loop, data):
    transport, protocol, _ = await open_endpoint()
    name = type(data).__name__
    with pytest.raises(
        TypeError, match=f"^data argument must be a bytes-like object, not '{name}'"
    ):
        transport.sendto(data, ("127.0.0.1", 9))
    await shut(transport)
    assert protocol.lost_with is None


@with_sending_now
async def test_sending_is_over_when_sendto_returns(loop):
    """Nothing waits for the loop: a program may send and then block."""
    transport, _, _ = await open_endpoint()
    with peer() as sock:
        transport.sendto(b"now", sock.getsockname())
        assert sock.recv(10) == b"now"
        assert transport.get_write_buffer_size() == 0
    await shut(transport)


def test_sending_while_the_loop_rests(new_loop):
    loop = new_loop()
    transport, protocol, address = loop.run_until_complete(open_endpoint())
    with peer() as sock:
        transport.sendto(b"resting", sock.getsockname())
        assert sock.recv(10) == b"resting"
        sock.sendto(b"kept", address)
        assert loop.run_until_complete(protocol.got(1)) == [b"kept"]
    loop.run_until_complete(shut(transport))


async def test_sending_from_connection_made(loop):
    class Greeting(Letters):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.sendto(b"hello", where)

    with peer() as sock:
        where = sock.getsockname()
        transport, _, _ = await open_endpoint(Greeting)
        assert sock.recv(10) == b"hello"
    await shut(transport)


@with_sending_now
async def test_answers_amid_a_burst_are_counted_and_leave_in_order(loop):
    """What is asked of the transport amid a burst must not show how it sends."""
    sizes = []

    class Curious(Answering):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.sendto(b"and " + data, addr)
            if data.endswith(b"7"):
                sizes.append(self.transport.get_write_buffer_size())

    transport, protocol, address = await open_endpoint(Curious)
    transport.set_write_buffer_limits(0)
    with peer() as sock:
        many = [b"%d" % number for number in range(70)]
        for message in many:
            sock.sendto(message, address)
        await protocol.got(70)
        answers = [(await receive(sock))[0] for _ in range(140)]
        assert answers == [part for message in many for part in (message, b"and " + message)]
    assert sizes == [0] * 7
    assert "pause_writing" not in protocol.calls
    await shut(transport)


async def test_two_endpoints_talk(loop):
    limit = 500

    class Counting(Letters):
        ended = 0  # counted here: to look for it in all that came would take the square of it

        def datagram_received(self, data, addr):
            if int(data) < limit:
                self.transport.sendto(b"%d" % (int(data) + 1), addr)
            self.ended += int(data) >= limit - 1
            super().datagram_received(data, addr)

    one, first, _ = await open_endpoint(Counting)
    two, second, address = await open_endpoint(Counting)
    for _ in range(10):
        one.sendto(b"0", address)
    await first.until(lambda: first.ended == 10)
    await second.until(lambda: second.ended == 10)
    await shut(one, two)


# ------------------------------------------------------------------------------- the protocol


async def test_the_context_of_whoever_made_the_endpoint(loop):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    class Looking(Letters):
        def note(self, call):
            seen.append((call, variable.get()))
            super().note(call)

    variable.set("maker")
    transport, protocol, address = await open_endpoint(Looking)
    variable.set("changed")
    with peer() as sock:
        for _ in range(3):
            sock.sendto(b"x", address)
        await protocol.got(3)
    assert seen == [("connection_made", "maker")] + [("datagram_received", "maker")] * 3
    await shut(transport)


async def test_a_protocol_that_raises_is_reported_and_goes_on(loop, caught):
    class Raising(Letters):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"bad":
                raise ValueError("bad datagram")

    transport, protocol, address = await open_endpoint(Raising)
    with peer() as sock:
        for data in (b"good", b"bad", b"good"):
            sock.sendto(data, address)
        assert await protocol.got(3) == [b"good", b"bad", b"good"]
    await spin()
    context = caught.take_one(ValueError)
    assert "callback" in context["message"]
    await shut(transport)


async def test_connection_made_that_raises_is_reported_and_the_endpoint_lives(loop, caught):
    class Raising(Letters):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise ValueError("not today")

    transport, protocol, address = await open_endpoint(Raising)
    caught.take_one(ValueError)
    with peer() as sock:
        sock.sendto(b"still", address)
        assert await protocol.got(1) == [b"still"]
    await shut(transport)


async def emptied(transport):
    while transport.get_write_buffer_size():
        await asyncio.sleep(0)


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_interrupts_leave_the_loop_and_lose_nothing(new_loop, exception):
    loop = new_loop()

    class Interrupting(Answering):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data in {b"3", b"30"}:
                raise exception

    transport, protocol, address = loop.run_until_complete(open_endpoint(Interrupting))
    with peer() as sock:
        many = [b"%d" % number for number in range(60)]
        for message in many:
            sock.sendto(message, address)
        for _ in range(2):
            with pytest.raises(exception):
                loop.run_forever()
        loop.run_until_complete(protocol.got(60))
        assert [data for data, _ in protocol.received] == many
        loop.run_until_complete(emptied(transport))
        assert [sock.recv(10) for _ in many] == many
    loop.run_until_complete(shut(transport))


async def test_another_protocol_takes_over(loop):
    transport, first, address = await open_endpoint()
    second = Letters()
    with peer() as sock:
        sock.sendto(b"one", address)
        await first.got(1)
        assert transport.get_protocol() is first
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        sock.sendto(b"two", address)
        await second.got(1)
    await shut(transport)
    assert first.calls == ["connection_made", "datagram_received"]
    assert second.calls == ["datagram_received", "connection_lost"]


async def test_methods_that_are_put_on_a_protocol_later(loop):
    """Mocks are; asyncio looks the method up for each datagram."""
    transport, protocol, address = await open_endpoint()
    waiter = loop.create_future()
    with peer() as sock:
        sock.sendto(b"one", address)
        await protocol.got(1)
        protocol.datagram_received = lambda *args: waiter.set_result(args)
        sock.sendto(b"two", address)
        assert await waiter == (b"two", sock.getsockname())
    await shut(transport)


PAUSES = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="the standard library's datagram transport cannot pause"
)


@beyond_proactor
@PAUSES
async def test_pausing_reading_keeps_datagrams(loop):
    transport, protocol, address = await open_endpoint()
    with peer() as sock:
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        many = [b"%d" % number for number in range(50)]
        for message in many:
            sock.sendto(message, address)
        await asyncio.sleep(0.02)
        assert protocol.received == []
        transport.resume_reading()
        transport.resume_reading()
        assert await protocol.got(50) == many
    await shut(transport)
    assert not transport.is_reading()


@beyond_proactor
@PAUSES
async def test_pausing_amid_a_burst(loop):
    class Pausing(Letters):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if len(self.received) % 3 == 0:
                self.transport.pause_reading()
                loop.call_soon(self.go_on, len(self.received))

        def go_on(self, count):
            assert len(self.received) == count
            self.transport.resume_reading()

    transport, protocol, address = await open_endpoint(Pausing)
    with peer() as sock:
        many = [b"%d" % number for number in range(100)]
        for message in many:
            sock.sendto(message, address)
        assert await protocol.got(100) == many
    await shut(transport)


# ------------------------------------------------------------------------------ what it is


async def test_extra_info(loop):
    with peer() as sock:
        transport, _, address = await open_endpoint(remote_addr=sock.getsockname())
        assert transport.get_extra_info("peername") == sock.getsockname()
        assert transport.get_extra_info("sockname") == address
        own = transport.get_extra_info("socket")
        assert own.family == socket.AF_INET
        assert own.type == socket.SOCK_DGRAM
        assert transport.get_extra_info("nothing") is None
        assert transport.get_extra_info("nothing", 5) == 5
        await shut(transport)
    transport, _, _ = await open_endpoint()
    assert transport.get_extra_info("peername") is None
    await shut(transport)


async def test_limits_of_the_buffer(loop):
    transport, _, _ = await open_endpoint()
    assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
    assert transport.get_write_buffer_size() == 0
    transport.set_write_buffer_limits(high=100)
    assert transport.get_write_buffer_limits() == (25, 100)
    transport.set_write_buffer_limits(low=100)
    assert transport.get_write_buffer_limits() == (100, 400)
    with pytest.raises(ValueError, match="must be >= low"):
        transport.set_write_buffer_limits(high=1, low=2)
    await shut(transport)


@beyond_proactor
async def test_how_it_looks(loop):
    transport, protocol, _ = await open_endpoint()
    number = transport.get_extra_info("socket").fileno()
    assert f"fd={number}" in repr(transport)
    assert "read=polling" in repr(transport)
    assert "bufsize=0" in repr(transport)
    transport.close()
    assert "closing" in repr(transport)
    await protocol.lost()
    assert "closed" in repr(transport)


@pytest.mark.ours
async def test_its_classes(loop):
    transport, _, _ = await open_endpoint()
    assert type(transport).__name__ == "DatagramTransport"
    assert isinstance(transport, asyncio.DatagramTransport)
    assert isinstance(transport, asyncio.Transport)  # as the standard library's is
    await shut(transport)


async def test_a_protocol_with_nothing_to_say(loop):
    """asyncio.DatagramProtocol's own methods do nothing."""

    class Ended(Changes, asyncio.DatagramProtocol):
        ended = False

        def connection_lost(self, exc):
            self.ended = True
            self.changed()

    transport, protocol, address = await open_endpoint(Ended)
    with peer() as sock:
        sock.sendto(b"x", address)
        transport.sendto(bytes(70000), sock.getsockname())
        await asyncio.sleep(0.01)
    transport.close()
    await protocol.until(lambda: protocol.ended)
