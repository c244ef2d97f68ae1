"""create_connection: addresses, choices, refusals, and the user's own sockets (trap 11)."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys

import pytest

from .marks import beyond_proactor, with_unix_sockets
from .support import WINDOWS, Peer, Recorder, connect, listener, recorder_of, shut


async def test_it_answers_a_transport_and_its_protocol(loop, protocol):
    transport, recorder, peer = await connect(lambda: recorder_of(protocol))
    assert transport.get_protocol() is recorder
    assert recorder.calls == ["connection_made"]
    await shut(transport, recorder, peer)


async def test_nobody_listens(loop):
    with listener() as closed:
        address = closed.getsockname()
    with pytest.raises(ConnectionRefusedError):
        await loop.create_connection(Recorder, *address)


@pytest.mark.parametrize("delay", [None, 0.01, 0])
async def test_every_address_refuses(loop, delay):
    with listener() as closed:
        port = closed.getsockname()[1]
    with pytest.raises(OSError, match="Connect call failed|Multiple exceptions|WinError 1225"):
        await loop.create_connection(Recorder, "localhost", port, happy_eyeballs_delay=delay)


@pytest.mark.ours  # the proactor of the standard library leaves something now and then
@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="the standard library's own coroutine keeps its errors there"
)
@pytest.mark.parametrize("all_errors", [False, True])
async def test_a_refusal_leaves_nothing_for_the_collector(loop, all_errors):
    options = {"all_errors": True} if all_errors else {}
    with listener() as closed:
        address = closed.getsockname()

    async def attempt():
        with pytest.raises((OSError, ExceptionGroup)):  # noqa: F821 - from 3.11
            await loop.create_connection(Recorder, *address, **options)

    await attempt()
    gc.collect()
    gc.disable()
    try:
        left = []  # by each attempt: what a test before left may end meanwhile
        for _ in range(3):
            await attempt()
            left.append(gc.collect())
        assert 0 in left
    finally:
        gc.enable()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in 3.11")
@pytest.mark.parametrize("delay", [None, 0.01])
async def test_all_errors_come_as_a_group(loop, kind, monkeypatch, delay):
    if kind == "std" and sys.version_info < (3, 12):
        pytest.skip("all_errors= is new in 3.12 there")
    with listener() as closed:
        host, port = closed.getsockname()

    async def two(*_, **__):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))] * 2

    with monkeypatch.context() as patched:
        patched.setattr(loop, "getaddrinfo", two)
        with pytest.raises(ExceptionGroup) as group:  # noqa: F821 - from 3.11
            await loop.create_connection(
                Recorder, "two", port, all_errors=True, happy_eyeballs_delay=delay
            )
        assert len(group.value.exceptions) == 2
        assert all(isinstance(each, ConnectionRefusedError) for each in group.value.exceptions)
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, "two", port, happy_eyeballs_delay=delay)
    # Where there are no errors it changes nothing, and what is no matter of connecting is itself.
    transport, recorder, peer = await connect(Recorder, all_errors=True)
    await shut(transport, recorder, peer)
    with pytest.raises(ValueError, match="same time"):
        await loop.create_connection(Recorder, host, 1, sock=peer.sock, all_errors=True)


async def test_happy_eyeballs_goes_on_to_the_address_that_answers(loop, monkeypatch):
    server = listener()
    port = server.getsockname()[1]
    with listener() as closed:
        dead = closed.getsockname()[1]

    async def getaddrinfo(host, wanted, **options):
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        # 192.0.2.1 is a documentation address: it refuses at once or never answers.
        hosts = [("192.0.2.1", port), ("127.0.0.1", dead), ("127.0.0.1", port)]
        return [(*kind, address) for address in hosts]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    transport, recorder = await loop.create_connection(
        Recorder, "name.invalid", port, happy_eyeballs_delay=0.01, interleave=1
    )
    assert transport.get_extra_info("peername") == ("127.0.0.1", port)
    sock, _ = server.accept()
    await shut(transport, recorder, Peer(sock))
    server.close()


async def test_addresses_are_tried_in_turn(loop, monkeypatch):
    server = listener()
    with listener() as closed:
        dead = closed.getsockname()

    async def getaddrinfo(host, port, **options):
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, dead), (*kind, dead), (*kind, server.getsockname())]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    transport, recorder = await loop.create_connection(Recorder, "name.invalid", 1)
    sock, _ = server.accept()
    await shut(transport, recorder, Peer(sock))
    server.close()


async def test_a_local_address(loop):
    transport, recorder, peer = await connect(Recorder, local_addr=("127.0.0.5", 0))
    assert transport.get_extra_info("sockname")[0] == "127.0.0.5"
    assert peer.sock.getpeername()[0] == "127.0.0.5"
    await shut(transport, recorder, peer)


async def test_a_local_address_in_use(loop):
    with listener() as taken, listener() as server:
        with pytest.raises(OSError, match="while attempting to bind"):
            await loop.create_connection(
                Recorder, *server.getsockname(), local_addr=taken.getsockname()
            )


async def test_names_that_do_not_resolve(loop):
    with pytest.raises(socket.gaierror):
        await loop.create_connection(Recorder, "host.invalid", 80)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        (("127.0.0.1", 1), {"server_hostname": "name"}),
        (("127.0.0.1", 1), {"ssl_handshake_timeout": 1}),
        ((None, None), {"ssl": True}),
    ],
)
async def test_impossible_requests(loop, arguments, options):
    with pytest.raises(ValueError, match=" "):
        await loop.create_connection(Recorder, *arguments, **options)


async def test_host_and_sock_together(loop):
    with socket.socket() as sock, pytest.raises(ValueError, match="at the same time"):
        await loop.create_connection(Recorder, "127.0.0.1", 1, sock=sock)


FAMILIES = [
    socket.AF_INET,
    socket.AF_INET6,
    pytest.param("unix", marks=with_unix_sockets),
]


class Subclass(socket.socket):
    """A user's own kind of socket."""


def connected(family=socket.AF_INET, make=socket.socket, blocking=False, bound=False):
    """A connected socket in the given state, and its other end."""
    if family == "unix":
        ours, theirs = socket.socketpair()
        client = make(fileno=ours.detach())
    else:
        with listener("::1" if family == socket.AF_INET6 else "127.0.0.1") as server:
            client = make(family, socket.SOCK_STREAM)
            if bound:
                client.bind((server.getsockname()[0], 0))
            client.connect(server.getsockname())
            theirs, _ = server.accept()
    client.setblocking(blocking)
    return client, theirs


@pytest.mark.parametrize("blocking", [False, True], ids=["non-blocking", "blocking"])
@pytest.mark.parametrize("make", [socket.socket, Subclass])
@pytest.mark.parametrize("family", FAMILIES)
async def test_a_connected_socket_of_the_users(loop, family, make, blocking):
    ours, theirs = connected(family, make, blocking)
    number = ours.fileno()
    transport, recorder = await loop.create_connection(Recorder, sock=ours)
    peer = Peer(theirs)
    assert transport.get_extra_info("socket").fileno() == number
    await peer.send(b"in")
    assert await recorder.got(2) == b"in"
    transport.write(b"out")
    assert await peer.receive() == b"out"
    transport.close()
    await recorder.lost()
    assert ours.fileno() == -1
    peer.close()


async def test_a_bound_and_connected_socket(loop):
    ours, theirs = connected(bound=True)
    name = ours.getsockname()
    transport, recorder = await loop.create_connection(Recorder, sock=ours)
    assert transport.get_extra_info("sockname") == name
    await shut(transport, recorder, Peer(theirs))


async def test_data_that_waits_in_the_users_socket_is_received(loop):
    ours, theirs = connected()
    theirs.sendall(b"early")
    transport, recorder = await loop.create_connection(Recorder, sock=ours)
    assert await recorder.got(5) == b"early"
    await shut(transport, recorder, Peer(theirs))


async def test_who_connects_has_the_transport_before_the_first_byte(loop, protocol):
    ours, theirs = connected()
    theirs.sendall(b"early")
    recorder, in_hand, seen = recorder_of(protocol), [], []
    note = recorder.note

    def watch(call):
        seen.append((call, bool(in_hand)))
        note(call)

    recorder.note = watch
    transport, _ = await loop.create_connection(lambda: recorder, sock=ours)
    in_hand.append(transport)
    await recorder.got(5)
    assert seen == [("connection_made", False), ("data_received", True)]
    await shut(transport, recorder, Peer(theirs))


async def test_a_socket_whose_peer_has_gone(loop):
    ours, theirs = connected()
    theirs.close()
    transport, recorder = await loop.create_connection(Recorder, sock=ours)
    assert await recorder.lost() is None
    assert recorder.calls == ["connection_made", "eof_received", "connection_lost"]


@beyond_proactor  # there shutting it down ends in the exception handler, and leaves it open
async def test_a_socket_that_is_not_connected(loop):
    ours = socket.socket()
    ours.setblocking(False)
    transport, recorder = await loop.create_connection(Recorder, sock=ours)
    assert isinstance(await recorder.lost(), OSError)


async def test_a_datagram_socket_is_refused(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="Stream"):
            await loop.create_connection(Recorder, sock=sock)
        assert sock.fileno() >= 0


@beyond_proactor
async def test_a_socket_of_an_open_transport_cannot_be_used_otherwise(loop):
    ours, theirs = connected()
    transport, recorder = await loop.create_connection(Recorder, sock=ours)
    for use in (
        lambda: loop.add_reader(ours, print),
        lambda: loop.add_writer(ours, print),
        lambda: loop.remove_reader(ours),
        lambda: loop.remove_writer(ours),
    ):
        with pytest.raises(RuntimeError, match="used by transport"):
            use()
    if not WINDOWS:  # the proactor's sock_ calls ask nobody
        with pytest.raises(RuntimeError, match="used by transport"):
            await loop.sock_recv(ours, 1)
    await shut(transport, recorder, Peer(theirs))


async def test_connect_accepted_socket(loop, protocol):
    ours, theirs = connected()
    transport, recorder = await loop.connect_accepted_socket(lambda: recorder_of(protocol), ours)
    peer = Peer(theirs)
    await peer.send(b"accepted")
    assert await recorder.got(8) == b"accepted"
    await shut(transport, recorder, peer)


async def test_connect_accepted_socket_refuses_datagram_sockets(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(ValueError, match="Stream"):
        await loop.connect_accepted_socket(Recorder, sock)


async def test_a_socket_of_the_users_stays_the_users_object_until_the_end(loop):
    """detach() by the user: the transport must not close a number that is not its own."""
    ours, theirs = connected()
    transport, recorder = await loop.create_connection(Recorder, sock=ours)
    transport.close()
    await recorder.lost()
    assert ours.fileno() == -1
    again, other = connected()  # probably gets the same number
    transport.close()
    transport.abort()
    await asyncio.sleep(0.005)
    again.getpeername()
    again.close()
    other.close()
    theirs.close()
