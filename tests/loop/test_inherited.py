"""What our loop inherits from the standard library must work on our port as it did before."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import socket
import threading

import pytest

from .support import SECONDS, Changes, Recorder, connect, listener, shut, spin


class Datagrams(Changes, asyncio.DatagramProtocol):
    def __init__(self):
        super().__init__()
        self.received: list[tuple[bytes, object]] = []
        self.errors: list[Exception] = []
        self.lost = False

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.received.append((data, address))
        self.changed()

    def error_received(self, error):
        self.errors.append(error)
        self.changed()

    def connection_lost(self, error):
        self.lost = True
        self.changed()


async def test_datagrams_both_ways(loop):
    server, at_server = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
    address = server.get_extra_info("sockname")
    client, at_client = await loop.create_datagram_endpoint(Datagrams, remote_addr=address)
    client.sendto(b"ping")
    client.sendto(b"x" * 9000)
    await at_server.until(lambda: len(at_server.received) == 2)
    assert [data for data, _ in at_server.received] == [b"ping", b"x" * 9000]
    server.sendto(b"pong", at_server.received[0][1])
    await at_client.until(lambda: at_client.received)
    assert at_client.received == [(b"pong", address)]
    for transport, protocol in ((server, at_server), (client, at_client)):
        transport.close()
        await protocol.until(lambda protocol=protocol: protocol.lost)


async def test_datagrams_to_a_port_where_nobody_listens(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        address = closed.getsockname()
    client, protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=address)
    while not protocol.errors:
        client.sendto(b"anybody?")
        await asyncio.sleep(0.001)
    assert isinstance(protocol.errors[0], ConnectionRefusedError)
    client.abort()
    await protocol.until(lambda: protocol.lost)


async def test_pipes(loop):
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader()
    reading, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
    )
    writing, protocol = await loop.connect_write_pipe(Recorder, os.fdopen(write_end, "wb", 0))
    data = bytes(range(256)) * 4000
    writing.write(data)
    writing.write_eof()
    assert await reader.read() == data
    await protocol.lost()
    reading.close()
    await spin()


async def test_names(loop):
    found = await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    assert any(address[0] in ("127.0.0.1", "::1") for *_, address in found)
    name, port = await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST)
    assert name == "127.0.0.1"
    assert port in ("80", "http")


async def test_executors(loop):
    assert await loop.run_in_executor(None, sum, range(100)) == 4950
    assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = [loop.run_in_executor(pool, pow, 2, n) for n in range(200)]
        assert await asyncio.gather(*results) == [2**n for n in range(200)]
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(None, divmod, 1, 0)


async def test_run_coroutine_threadsafe(loop):
    async def add(a, b):
        await asyncio.sleep(0.001)
        return a + b

    def work():
        return asyncio.run_coroutine_threadsafe(add(1, 2), loop).result(SECONDS)

    assert await asyncio.to_thread(work) == 3


def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


async def test_sock_receive_and_send(loop):
    ours, theirs = pair()
    receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await spin()
    await loop.sock_sendall(theirs, b"hello")
    assert await receiving == b"hello"
    buffer = bytearray(10)
    receiving = asyncio.ensure_future(loop.sock_recv_into(ours, buffer))
    await loop.sock_sendall(theirs, b"abc")
    assert await receiving == 3
    assert buffer[:3] == b"abc"
    ours.close()
    theirs.close()


async def test_sock_sendall_of_more_than_the_kernel_holds(loop):
    ours, theirs = pair()
    data = bytes(range(256)) * 20_000
    sending = asyncio.ensure_future(loop.sock_sendall(ours, data))
    received = bytearray()
    while len(received) < len(data):
        received += await loop.sock_recv(theirs, 1 << 16)
    await sending
    assert received == data
    ours.close()
    theirs.close()


async def test_sock_receive_can_be_cancelled(loop):
    ours, theirs = pair()
    receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await spin()
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    await loop.sock_sendall(theirs, b"kept")
    assert await loop.sock_recv(ours, 100) == b"kept"
    ours.close()
    theirs.close()


async def test_sock_accept_and_connect(loop):
    with listener() as server, socket.socket() as client:
        server.setblocking(False)
        client.setblocking(False)
        accepting = asyncio.ensure_future(loop.sock_accept(server))
        await loop.sock_connect(client, server.getsockname())
        accepted, address = await accepting
        assert address == client.getsockname()
        assert accepted.gettimeout() == 0
        await loop.sock_sendall(client, b"hi")
        assert await loop.sock_recv(accepted, 10) == b"hi"
        accepted.close()


async def test_sock_connect_is_refused(loop):
    with listener() as closed:
        address = closed.getsockname()
    with socket.socket() as client:
        client.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            await loop.sock_connect(client, address)


def test_blocking_sockets_are_refused_in_debug_mode(loop):
    loop.set_debug(True)

    async def main():
        with socket.socket() as sock, pytest.raises(ValueError, match="non-blocking"):
            await loop.sock_recv(sock, 1)

    loop.run_until_complete(main())


async def test_add_reader_is_level_triggered(loop):
    ours, theirs = pair()
    seen = []
    loop.add_reader(ours, seen.append, 1)
    theirs.send(b"x")
    while len(seen) < 3:
        await asyncio.sleep(0)
    assert loop.remove_reader(ours)
    assert not loop.remove_reader(ours)
    await spin()
    count = len(seen)
    await spin(5)
    assert len(seen) == count
    ours.close()
    theirs.close()


async def test_add_writer_and_reader_on_one_descriptor(loop):
    ours, theirs = pair()
    seen = []
    loop.add_reader(ours.fileno(), seen.append, "readable")
    loop.add_writer(ours.fileno(), seen.append, "writable")
    await asyncio.sleep(0.002)
    assert set(seen) == {"writable"}
    assert loop.remove_writer(ours.fileno())
    seen.clear()
    theirs.send(b"x")
    await asyncio.sleep(0.002)
    assert set(seen) == {"readable"}
    assert loop.remove_reader(ours.fileno())
    ours.close()
    theirs.close()


async def test_add_reader_again_replaces_the_callback(loop):
    ours, theirs = pair()
    first, second = [], []
    loop.add_reader(ours, first.append, 1)
    loop.add_reader(ours, second.append, 1)
    theirs.send(b"x")
    while not second:
        await asyncio.sleep(0)
    assert first == []
    loop.remove_reader(ours)
    ours.close()
    theirs.close()


async def test_a_hang_up_makes_a_descriptor_readable(loop):
    ours, theirs = pair()
    seen = loop.create_future()

    def readable():
        loop.remove_reader(ours)
        seen.set_result(ours.recv(10))

    loop.add_reader(ours, readable)
    theirs.close()
    assert await asyncio.wait_for(seen, SECONDS) == b""
    ours.close()


async def test_descriptors_that_cannot_be_watched(loop, tmp_path):
    with open(tmp_path / "file", "w") as file, pytest.raises(PermissionError):
        loop.add_reader(file.fileno(), print)
    with pytest.raises((ValueError, OSError)):
        loop.add_reader(-1, print)
    with pytest.raises((ValueError, TypeError)):
        loop.add_reader("no descriptor", print)
    assert not loop.remove_reader(12345)


async def test_sendfile(loop, tmp_path):
    data = bytes(range(256)) * 3000
    path = tmp_path / "data"
    path.write_bytes(data)
    transport, recorder, peer = await connect(Recorder)
    transport.write(b"head:")
    receiving = asyncio.ensure_future(peer.receive_exactly(5 + len(data) + 5))
    with path.open("rb") as file:
        assert await loop.sendfile(transport, file) == len(data)
    transport.write(b":tail")
    assert await receiving == b"head:" + data + b":tail"
    receiving = asyncio.ensure_future(peer.receive_exactly(100))
    with path.open("rb") as file:
        assert await loop.sendfile(transport, file, offset=50, count=100) == 100
    assert await receiving == data[50:150]
    await shut(transport, recorder, peer)


async def test_sock_sendfile(loop, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"x" * 100_000)
    ours, theirs = pair()
    receiving = asyncio.ensure_future(asyncio.to_thread(read_slowly, theirs, 100_000))
    with path.open("rb") as file:
        assert await loop.sock_sendfile(ours, file) == 100_000
    assert await receiving == b"x" * 100_000
    ours.close()
    theirs.close()


def read_slowly(sock, size):
    from .support import receive_exactly

    sock.settimeout(SECONDS)
    return receive_exactly(sock, size)
