"""Sockets on Windows that a completion port cannot have, or that have been elsewhere before."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from .support import SECONDS, WINDOWS, Recorder, listener, shut

pytestmark = pytest.mark.skipif(not WINDOWS, reason="completion ports are of Windows")


def connected(make=socket.socket):
    """A socket made by ``make`` and the plain other end."""
    with listener() as server:
        ours = make()
        ours.connect(server.getsockname())
        theirs, _ = server.accept()
    theirs.settimeout(SECONDS)
    return ours, theirs


@pytest.mark.ours
async def test_a_socket_of_another_port_is_refused_and_stays_the_users(loop):
    import _overlapped

    port = _overlapped.CreateIoCompletionPort(_overlapped.INVALID_HANDLE_VALUE, 0, 0, 0)
    ours, theirs = connected()
    with ours, theirs:
        _overlapped.CreateIoCompletionPort(ours.fileno(), port, 0, 0)
        ours.setblocking(False)
        with pytest.raises(OSError) as refusal:
            await loop.create_connection(Recorder, sock=ours)
        assert refusal.value.winerror == 10022
        assert ours.fileno() >= 0
        theirs.send(b"still")
        ours.setblocking(True)
        assert ours.recv(10) == b"still"
    assert loop.rio_stats().connections == 0


@pytest.mark.ours
async def test_a_closed_handle_is_refused(loop):
    ours, theirs = connected()
    ours.setblocking(False)
    socket.close(ours.fileno())  # behind the object's back
    with theirs, pytest.raises(OSError) as refusal:
        await loop.create_connection(Recorder, sock=ours)
    assert refusal.value.winerror == 10038
    ours.detach()
    assert loop.rio_stats().connections == 0


def synchronous():
    """A socket without WSA_FLAG_OVERLAPPED: its operations block, whatever they are asked."""
    import ctypes

    make = ctypes.WinDLL("ws2_32").WSASocketW
    make.restype = ctypes.c_void_p
    kind = socket.AF_INET, socket.SOCK_STREAM, 0
    return socket.socket(*kind, fileno=make(*kind, None, 0, 0))


@pytest.mark.ours
async def test_a_socket_that_is_not_overlapped_is_refused_or_works(loop):
    ours, theirs = connected(synchronous)
    ours.setblocking(False)
    with theirs:
        try:
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
        except OSError as refusal:
            assert refusal.winerror == 10022
            ours.close()
            return
        transport.write(b"there")
        assert await asyncio.to_thread(theirs.recv, 10) == b"there"
        theirs.send(b"back")
        assert await protocol.got(4) == b"back"
        await shut(transport, protocol)


async def test_a_shared_socket_works(loop):
    first, theirs = connected()
    ours = socket.fromshare(first.share(os.getpid()))
    first.close()
    ours.setblocking(False)
    with theirs:
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        transport.write(b"there")
        assert await asyncio.to_thread(theirs.recv, 10) == b"there"
        theirs.send(b"back")
        assert await protocol.got(4) == b"back"
        await shut(transport, protocol)
