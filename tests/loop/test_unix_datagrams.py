"""Datagrams over Unix sockets: paths, abstract names, no name at all, peers that do not read."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest

from .datagrams import Answering, Letters, open_endpoint, receive, shut
from .marks import with_unix_sockets
from .support import SECONDS, spin

pytestmark = with_unix_sockets


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "ours")


def unix_peer(address: str | bytes | None = None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.settimeout(SECONDS)
    if address is not None:
        sock.bind(address)
    return sock


async def test_a_path_at_both_ends(loop, path, tmp_path):
    transport, protocol, address = await open_endpoint(
        Answering, local_addr=path, family=socket.AF_UNIX
    )
    assert address == path
    theirs = str(tmp_path / "theirs")
    with unix_peer(theirs) as sock:
        for size in (1, 100, 65536, 100_000):
            data = bytes(i * 3 & 255 for i in range(size))
            sock.sendto(data, path)
            assert await receive(sock) == (data, path)
            assert protocol.received.pop() == (data, theirs)
    await shut(transport)


async def test_remote_path(loop, tmp_path):
    theirs = str(tmp_path / "theirs")
    with unix_peer(theirs) as sock:
        transport, protocol, _ = await open_endpoint(remote_addr=theirs, family=socket.AF_UNIX)
        assert transport.get_extra_info("peername") == theirs
        transport.sendto(b"one")
        transport.sendto(b"two", theirs)
        assert [(await receive(sock))[0] for _ in range(2)] == [b"one", b"two"]
        with pytest.raises(ValueError, match="Invalid address: must be None or"):
            transport.sendto(b"x", "/elsewhere")
        await shut(transport)
        assert protocol.errors == []


async def test_both_paths(loop, path, tmp_path):
    theirs = str(tmp_path / "theirs")
    with unix_peer(theirs) as sock:
        transport, protocol, _ = await open_endpoint(
            local_addr=path, remote_addr=theirs, family=socket.AF_UNIX
        )
        transport.sendto(b"there")
        assert await receive(sock) == (b"there", path)
        sock.sendto(b"back", path)
        assert await protocol.got(1) == [b"back"]
        await shut(transport)


async def test_abstract_names(loop):
    name = f"\0zerio-{os.getpid()}-{id(loop)}"
    ours = unix_peer(name + "-ours")
    transport, protocol, address = await open_endpoint(Answering, sock=ours)
    theirs = (name + "-theirs").encode()
    with unix_peer(theirs) as sock:
        sock.sendto(b"abstract", address)
        assert await receive(sock) == (b"abstract", address)
        assert protocol.received == [(b"abstract", theirs)]
    await shut(transport)


async def test_a_sender_without_a_name(loop, path):
    transport, protocol, _ = await open_endpoint(local_addr=path, family=socket.AF_UNIX)
    with unix_peer() as sock:
        for data in (b"nameless", b"", b"again"):
            sock.sendto(data, path)
        assert await protocol.got(3) == [b"nameless", b"", b"again"]
        assert not any(address for _, address in protocol.received)
    await shut(transport)


async def test_a_pair(loop):
    """A peer without a name: no address is right for it, and none is needed to hear it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.settimeout(SECONDS)
    transport, protocol, _ = await open_endpoint(sock=ours)
    with theirs:
        theirs.send(b"heard")
        assert await protocol.got(1) == [b"heard"]
        await shut(transport)


async def test_nobody_there(loop, tmp_path):
    transport, protocol, _ = await open_endpoint(family=socket.AF_UNIX)
    transport.sendto(b"x", str(tmp_path / "missing"))
    assert isinstance(await protocol.failed(), FileNotFoundError)
    left = str(tmp_path / "left")
    unix_peer(left).close()
    transport.sendto(b"x", left)
    assert isinstance(await protocol.failed(2), ConnectionRefusedError)
    await shut(transport)


async def test_a_burst(loop, path):
    transport, protocol, _ = await open_endpoint(local_addr=path, family=socket.AF_UNIX)
    many = [b"%d" % number for number in range(300)]

    def send():
        with unix_peer() as sock:
            for message in many:
                sock.sendto(message, path)

    await asyncio.to_thread(send)
    assert await protocol.got(300) == many
    await shut(transport)


async def test_a_peer_that_does_not_read_pauses_the_protocol(loop, tmp_path):
    theirs = str(tmp_path / "theirs")
    with unix_peer(theirs) as sock:
        transport, protocol, _ = await open_endpoint(family=socket.AF_UNIX)
        transport.set_write_buffer_limits(high=4000, low=1000)
        many = [b"%4d" % number * 25 for number in range(1000)]
        sent = 0
        while "pause_writing" not in protocol.calls:
            transport.sendto(many[sent], theirs)
            sent += 1
        assert transport.get_write_buffer_size() > 4000
        for message in many[:sent]:
            assert (await receive(sock))[0] == message
        await protocol.until(lambda: "resume_writing" in protocol.calls)
        assert transport.get_write_buffer_size() <= 1000
        await shut(transport)


async def test_close_waits_for_a_peer_that_does_not_read_and_abort_does_not(loop, tmp_path):
    for end in ("close", "abort"):
        theirs = str(tmp_path / end)
        with unix_peer(theirs) as sock:
            transport, protocol, _ = await open_endpoint(family=socket.AF_UNIX)
            sent = 0
            while transport.get_write_buffer_size() == 0 or sent < 100:
                transport.sendto(b"%d" % sent, theirs)
                sent += 1
            getattr(transport, end)()
            assert transport.is_closing()
            await spin()
            assert ("connection_lost" in protocol.calls) == (end == "abort")
            if end == "close":
                assert [int((await receive(sock))[0]) for _ in range(sent)] == list(range(sent))
            assert await protocol.lost() is None


async def test_an_error_behind_others_that_wait(loop, tmp_path):
    theirs = str(tmp_path / "theirs")
    with unix_peer(theirs) as sock:
        transport, protocol, _ = await open_endpoint(family=socket.AF_UNIX)
        sent = 0
        while transport.get_write_buffer_size() == 0:
            transport.sendto(b"%d" % sent, theirs)
            sent += 1
        transport.sendto(b"lost", str(tmp_path / "missing"))
        transport.sendto(b"last", theirs)
        expected = [b"%d" % number for number in range(sent)] + [b"last"]
        assert [(await receive(sock))[0] for _ in expected] == expected
        error = await protocol.failed()
        assert error.errno == errno.ENOENT
        await shut(transport)


async def test_local_paths_are_taken_over_and_refused(loop, path):
    """What an ended program left is removed; what is no socket stays."""
    unix_peer(path).close()
    transport, _, _ = await open_endpoint(local_addr=path, family=socket.AF_UNIX)
    await shut(transport)
    os.unlink(path)
    with open(path, "w"):
        pass
    with pytest.raises(OSError) as refused:
        await loop.create_datagram_endpoint(Letters, local_addr=path, family=socket.AF_UNIX)
    assert refused.value.errno == errno.EADDRINUSE
    with pytest.raises(TypeError, match="string is expected"):
        await open_endpoint(local_addr=("127.0.0.1", 0), family=socket.AF_UNIX)
