"""Datagram endpoints: whom they are bound to, whom they may send to, and what goes wrong there."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import struct

import pytest

from .datagrams import Answering, Letters, open_endpoint, peer, receive, shut
from .marks import beyond_proactor, with_reused_ports, with_sending_now
from .support import WINDOWS, spin


async def test_a_connected_endpoint(loop):
    with peer() as sock, peer() as stranger:
        transport, protocol, address = await open_endpoint(remote_addr=sock.getsockname())
        transport.sendto(b"no address")
        transport.sendto(b"none", None)
        transport.sendto(b"its own", sock.getsockname())
        for data in (b"no address", b"none", b"its own"):
            assert await receive(sock) == (data, address)
        stranger.sendto(b"stranger", address)
        sock.sendto(b"peer", address)
        assert await protocol.got(1) == [b"peer"]
        assert protocol.received[0][1] == sock.getsockname()
        await shut(transport)


async def test_a_connected_endpoint_sends_nowhere_else(loop):
    with peer() as sock, peer() as other:
        where = sock.getsockname()
        transport, protocol, _ = await open_endpoint(remote_addr=where)
        for address in (other.getsockname(), ("127.0.0.1", 1), "nonsense"):
            message = re.escape(f"Invalid address: must be None or {where}")
            with pytest.raises(ValueError, match=f"^{message}$"):
                transport.sendto(b"x", address)
        transport.sendto(b"alive")
        assert (await receive(sock))[0] == b"alive"
        await shut(transport)
        assert protocol.errors == []


@beyond_proactor
async def test_a_socket_that_was_connected_before(loop):
    """The system knows the peer, the transport was told of none: it does not look at addresses."""
    with peer() as sock, peer() as other:
        ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ours.connect(sock.getsockname())
        transport, protocol, address = await open_endpoint(sock=ours)
        assert transport.get_extra_info("peername") == sock.getsockname()
        transport.sendto(b"one")
        transport.sendto(b"two", other.getsockname())
        assert await receive(sock) == (b"one", address)
        assert await receive(sock) == (b"two", address)
        sock.sendto(b"back", address)
        assert await protocol.got(1) == [b"back"]
        await shut(transport)


async def test_local_and_remote_address(loop):
    with peer() as sock, peer() as free:
        wanted = free.getsockname()
        free.close()
        transport, _, address = await open_endpoint(
            local_addr=wanted, remote_addr=sock.getsockname()
        )
        assert address == wanted
        transport.sendto(b"x")
        assert await receive(sock) == (b"x", wanted)
        await shut(transport)


@beyond_proactor
async def test_broadcasting_to_one_address_and_hearing_all(loop):
    """With allow_broadcast the socket is not connected, yet sends to the remote address alone."""
    with peer() as sock, peer() as other:
        where = sock.getsockname()
        transport, protocol, _ = await open_endpoint(
            local_addr=("127.0.0.1", 0), remote_addr=where, allow_broadcast=True
        )
        own = transport.get_extra_info("socket")
        assert own.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        assert transport.get_extra_info("peername") is None
        transport.sendto(b"no address")
        transport.sendto(b"its own", where)
        assert [(await receive(sock))[0] for _ in range(2)] == [b"no address", b"its own"]
        other.sendto(b"from another", transport.get_extra_info("sockname"))
        assert await protocol.got(1) == [b"from another"]
        with pytest.raises(ValueError, match="Invalid address"):
            transport.sendto(b"x", other.getsockname())
        await shut(transport)


async def test_broadcast_on_loopback(loop):
    transport, protocol, address = await open_endpoint(
        local_addr=("0.0.0.0", 0), allow_broadcast=True
    )
    transport.sendto(b"everybody", ("127.255.255.255", address[1]))
    await protocol.until(lambda: protocol.received or protocol.errors)
    assert [data for data, _ in protocol.received] == [b"everybody"]
    await shut(transport)


async def test_multicast_on_loopback(loop):
    group = "239.255.77.77"
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", 0))
    request = struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton("127.0.0.1"))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    transport, protocol, address = await open_endpoint(sock=sock)
    transport.sendto(b"the group", (group, address[1]))
    assert await protocol.got(1) == [b"the group"]
    assert protocol.received[0][1] == ("127.0.0.1", address[1])
    await shut(transport)


@with_reused_ports
async def test_a_port_for_two(loop):
    one, first, address = await open_endpoint(local_addr=("127.0.0.1", 0), reuse_port=True)
    two, second, _ = await open_endpoint(local_addr=address, reuse_port=True)
    with pytest.raises(OSError) as refused:
        await open_endpoint(local_addr=address)
    assert refused.value.errno == errno.EADDRINUSE
    senders = [peer() for _ in range(40)]
    for sock in senders:
        sock.sendto(b"x", address)
    await asyncio.sleep(0)
    while len(first.received) + len(second.received) < 40:
        await asyncio.sleep(0.001)
    for sock in senders:
        sock.close()
    await shut(one, two)


async def test_a_scope_goes_both_ways(loop):
    index = 1 if WINDOWS else socket.if_nametoindex("lo")
    transport, protocol, address = await open_endpoint(Answering, local_addr=("::1", 0))
    with peer(socket.AF_INET6) as sock:
        sock.sendto(b"scoped", (*address[:2], 0, index))
        assert (await receive(sock))[0] == b"scoped"
        transport.sendto(b"to a zone", ("::1", sock.getsockname()[1], 0, index))
        assert (await receive(sock))[0] == b"to a zone"
    assert protocol.errors == []
    await shut(transport)


@beyond_proactor
@pytest.mark.parametrize("host", ["localhost", "127.1", "", "0x7f000001"])
async def test_addresses_in_other_words(loop, host):
    """A name or a number as the socket module understands it; empty is the own machine."""
    transport, protocol, _ = await open_endpoint()
    with peer() as sock:
        transport.sendto(b"by name", (host, sock.getsockname()[1]))
        assert (await receive(sock))[0] == b"by name"
    assert protocol.errors == []
    await shut(transport)


@beyond_proactor
async def test_addresses_in_other_words_amid_a_burst(loop):
    class Naming(Letters):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.sendto(b"1" + data, addr)
            self.transport.sendto(b"2" + data, ("localhost", addr[1]))

    transport, protocol, address = await open_endpoint(Naming)
    with peer() as sock:
        for number in range(30):
            sock.sendto(b"%d" % number, address)
        await protocol.got(30)
        expected = [b"%d%d" % (way, number) for number in range(30) for way in (1, 2)]
        assert [(await receive(sock))[0] for _ in range(60)] == expected
    await shut(transport)


async def test_a_subclass_of_tuple_and_numbers_that_are_no_int(loop):
    class Named(tuple):
        __slots__ = ()

    class Number(int):
        pass

    transport, _, _ = await open_endpoint()
    with peer() as sock:
        host, port = sock.getsockname()
        transport.sendto(b"named", Named((host, port)))
        transport.sendto(b"number", (host, Number(port)))
        assert [(await receive(sock))[0] for _ in range(2)] == [b"named", b"number"]
    await shut(transport)


# ------------------------------------------------------------------------------------ errors


@beyond_proactor
async def test_a_port_where_nobody_is(loop):
    """A connected socket hears of it; the endpoint goes on."""
    refusals = {ConnectionRefusedError, ConnectionResetError if WINDOWS else ConnectionRefusedError}
    with peer() as sock:
        where = sock.getsockname()
    transport, protocol, address = await open_endpoint(remote_addr=where)
    while len(protocol.errors) < 3:
        transport.sendto(b"anybody")
        await asyncio.sleep(0.001)  # Wine tells of every second one
    assert {type(error) for error in protocol.errors} <= refusals
    assert {error.errno for error in protocol.errors} <= {errno.ECONNREFUSED, errno.ECONNRESET}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(where)
        sock.settimeout(5)
        transport.sendto(b"now")
        # The last refusal may still be on its way, and takes this one's place.
        await asyncio.sleep(0.01)
        transport.sendto(b"now")
        assert await receive(sock) == (b"now", address)
        sock.sendto(b"yes", address)
        assert (await protocol.got(1))[0] == b"yes"
    assert "connection_lost" not in protocol.calls
    await shut(transport)


async def test_an_endpoint_without_a_peer_does_not_hear_of_it(loop):
    with peer() as sock:
        nobody = sock.getsockname()
    transport, protocol, address = await open_endpoint()
    with peer() as sock:
        for _ in range(3):
            transport.sendto(b"x", nobody)
            await asyncio.sleep(0.002)
        transport.sendto(b"somebody", sock.getsockname())
        assert await receive(sock) == (b"somebody", address)
    assert protocol.errors == []
    await shut(transport)


@beyond_proactor
@pytest.mark.parametrize(
    "address",
    [("127.0.0.1", 0), ("255.255.255.255", 9), ("240.0.0.1", 9)],
    ids=["no-port", "broadcast", "no-route"],
)
async def test_what_the_system_says_of_an_address_is_told(loop, address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.bind(("127.0.0.1", 0))
        with pytest.raises(OSError) as told:
            plain.sendto(b"x", address)
    transport, protocol, _ = await open_endpoint()
    transport.sendto(b"x", address)
    error = await protocol.failed()
    assert (type(error), error.errno) == (type(told.value), told.value.errno)
    with peer() as sock:
        transport.sendto(b"alive", sock.getsockname())
        assert sock.recv(10) == b"alive"
    await shut(transport)


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("size", [65508, 70000, 1 << 20])
async def test_a_datagram_that_no_packet_holds(loop, size, connected):
    with peer() as sock:
        where = sock.getsockname()
        options = {"remote_addr": where} if connected else {"local_addr": ("127.0.0.1", 0)}
        transport, protocol, _ = await open_endpoint(**options)
        address = None if connected else where
        transport.sendto(bytes(size), address)
        transport.sendto(b"fits", address)
        error = await protocol.failed()
        assert (type(error), error.errno) == (OSError, errno.EMSGSIZE)
        assert (await receive(sock))[0] == b"fits"
        await shut(transport)


@beyond_proactor
async def test_errors_amid_a_burst_concern_one_datagram_each(loop):
    class Overdoing(Letters):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if int(data) % 7 == 3:
                self.transport.sendto(bytes(70000), addr)
            self.transport.sendto(data, addr)

    transport, protocol, address = await open_endpoint(Overdoing)
    with peer() as sock:
        many = [b"%d" % number for number in range(50)]
        for message in many:
            sock.sendto(message, address)
        assert [(await receive(sock))[0] for _ in many] == many
        await protocol.failed(7)
    assert {error.errno for error in protocol.errors} == {errno.EMSGSIZE}
    assert len(protocol.errors) == 7
    await shut(transport)


@with_sending_now
async def test_error_received_that_raises(loop, caught):
    """Inside sendto it is the caller's."""

    class Raising(Letters):
        def error_received(self, exc):
            super().error_received(exc)
            raise LookupError("in error_received")

    with peer() as sock:
        where = sock.getsockname()
        transport, protocol, _ = await open_endpoint(Raising)
        with pytest.raises(LookupError):
            transport.sendto(bytes(70000), where)
        transport.sendto(b"alive", where)
        assert sock.recv(10) == b"alive"
        await shut(transport)
    transport, protocol, _ = await open_endpoint(Raising, remote_addr=where)
    transport.sendto(b"nobody")
    await protocol.failed()
    await spin()
    caught.take_one(LookupError)
    await shut(transport)


async def test_an_endpoint_that_ends_in_error_received(loop):
    class Ending(Letters):
        def error_received(self, exc):
            super().error_received(exc)
            self.transport.abort()

        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            for size in (1, 70000, 2):
                self.transport.sendto(bytes(size), addr)

    transport, protocol, address = await open_endpoint(Ending)
    with peer() as sock:
        for _ in range(30):
            sock.sendto(b"x", address)
        assert await protocol.lost() is None
    await spin()
    assert protocol.calls[-1] == "connection_lost"
    assert protocol.calls.count("connection_lost") == 1


@beyond_proactor
@pytest.mark.parametrize(
    ("address", "exception"),
    [
        (None, TypeError),
        ("127.0.0.1", TypeError),
        (5, TypeError),
        (("127.0.0.1",), TypeError),
        (("127.0.0.1", "80"), TypeError),
        (["127.0.0.1", 80], TypeError),
        (("127.0.0.1", 65536), OverflowError),
        (("127.0.0.1", -1), OverflowError),
        (("127.0.0.1", 1 << 70), OverflowError),
        (("127.0.0.1", 80, 5), TypeError),
        (("a\0b", 80), (ValueError, TypeError)),
    ],
)
async def test_an_address_that_is_none_is_fatal(loop, caught, address, exception):
    transport, protocol, _ = await open_endpoint()
    transport.sendto(b"x", address)
    assert isinstance(await protocol.lost(), exception)
    context = caught.take_one(exception)
    assert context["message"] == "Fatal write error on datagram transport"
    assert context["transport"] is transport
    assert context["protocol"] is protocol
    assert protocol.errors == []


@beyond_proactor
async def test_an_address_of_the_other_family_is_an_error(loop):
    transport, protocol, _ = await open_endpoint()
    transport.sendto(b"x", ("::1", 9))
    assert isinstance(await protocol.failed(), socket.gaierror)
    transport.sendto(b"x", ("256.256.256.256.", 9))
    assert isinstance(await protocol.failed(2), socket.gaierror)
    await shut(transport)


async def test_arguments_that_do_not_go_together(loop):
    with socket.socket() as stream:
        with pytest.raises(ValueError, match="[Ss]ocket was expected"):
            await open_endpoint(sock=stream)
    with pytest.raises(ValueError, match="unexpected address family"):
        await loop.create_datagram_endpoint(Letters)
    with pytest.raises((TypeError, AssertionError)):  # an assertion before 3.11
        await open_endpoint(local_addr=("127.0.0.1",))
    with pytest.raises(ValueError, match="can not get address information"):
        await open_endpoint(local_addr=("::1", 0), remote_addr=("127.0.0.1", 9))


@beyond_proactor
async def test_a_socket_with_a_transport_is_not_the_users(loop):
    transport, _, _ = await open_endpoint()
    sock = transport.get_extra_info("socket")
    with pytest.raises(RuntimeError, match="is used by transport"):
        loop.add_reader(sock.fileno(), lambda: None)
    await shut(transport)
