"""Sockets of a program's own class, whose methods do more than the system's: they are called.

Programs count bytes so, speak to a proxy, or fail on purpose. A class that changes none of these
methods is served like any other socket.
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from . import datagrams
from .marks import with_called_methods
from .support import SECONDS, Peer, Recorder, listener, shut

pytestmark = with_called_methods


class Telling(socket.socket):
    """Notes which methods are called, and says everything in capitals."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.called = set()

    def recv(self, *arguments):
        self.called.add("recv")
        return super().recv(*arguments).upper()

    def recvfrom(self, *arguments):
        self.called.add("recvfrom")
        data, address = super().recvfrom(*arguments)
        return data.upper(), address

    def send(self, data, *arguments):
        self.called.add("send")
        return super().send(bytes(data).upper(), *arguments)

    def sendmsg(self, buffers, *arguments):
        self.called.add("send")
        return super().sendmsg([bytes(each).upper() for each in buffers], *arguments)

    def sendto(self, data, *arguments):
        self.called.add("send")
        return super().sendto(data.upper(), *arguments)

    def accept(self):
        self.called.add("accept")
        return super().accept()


class Plain(socket.socket):
    """Changes nothing."""


def as_class(kind_of_socket, sock):
    return kind_of_socket(sock.family, sock.type, sock.proto, fileno=sock.detach())


@pytest.mark.parametrize("how", ["create_connection", "connect_accepted_socket"])
async def test_a_connection_receives_and_sends_by_them(loop, how):
    ours, theirs = socket.socketpair()
    sock, peer = as_class(Telling, ours), Peer(theirs)
    made = getattr(loop, how)
    if how == "create_connection":
        transport, recorder = await made(Recorder, sock=sock)
    else:
        transport, recorder = await made(Recorder, sock)
    await peer.send(b"question")
    assert await recorder.got(8) == b"QUESTION"
    transport.write(b"answer")
    transport.writelines([b" and", b" more"])
    assert await peer.receive_exactly(15) == b"ANSWER AND MORE"
    assert sock.called == {"recv", "send"}
    await shut(transport, recorder, peer)


async def test_streams_receive_and_send_by_them(loop):
    ours, theirs = socket.socketpair()
    peer = Peer(theirs)
    reader, writer = await asyncio.open_connection(sock=as_class(Telling, ours))
    await peer.send(b"question\n")
    assert await reader.readline() == b"QUESTION\n"
    writer.write(b"answer")
    await writer.drain()
    assert await peer.receive_exactly(6) == b"ANSWER"
    writer.close()
    await writer.wait_closed()
    peer.close()


async def test_a_listener_accepts_by_them(loop):
    sock = as_class(Telling, listener())
    made = loop.create_future()

    class Greeting(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            made.set_result((transport, self))

    server = await loop.create_server(Greeting, sock=sock)
    client = socket.create_connection(sock.getsockname(), timeout=SECONDS)
    transport, recorder = await made
    assert sock.called == {"accept"}
    await shut(transport, recorder, Peer(client))
    server.close()
    await server.wait_closed()


async def test_datagrams_go_by_them(loop):
    with datagrams.peer() as other:
        sock = Telling(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        transport, letters = await loop.create_datagram_endpoint(datagrams.Letters, sock=sock)
        transport.sendto(b"question", other.getsockname())
        data, address = await datagrams.receive(other)
        assert data == b"QUESTION"
        other.sendto(b"answer", address)
        assert await letters.got(1) == [b"ANSWER"]
        assert sock.called == {"recvfrom", "send"}
        await datagrams.shut(transport)


async def test_a_class_that_changes_nothing_is_served_as_any(loop):
    ours, theirs = socket.socketpair()
    one, recorder = await loop.create_connection(Recorder, sock=as_class(Plain, ours))
    other, another = await loop.create_connection(Recorder, sock=theirs)
    assert type(one) is type(other)
    await shut(one, recorder)
    await shut(other, another)


async def test_a_function_in_the_place_of_the_class(loop, monkeypatch):
    """As a test does whose program opens a device by it; who is connected works on."""
    plain = socket.socket
    monkeypatch.setattr(socket, "socket", lambda *args, **options: plain(*args, **options))

    async def answer(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"line\n")
    assert await reader.read() == b"line\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
