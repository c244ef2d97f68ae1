"""Loads on sockets that the program owns: the low-level calls, readers, files, datagrams."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from .ground import KIB, Ground, Wrong, within


async def sock_calls(ground: Ground) -> None:
    """sock_connect, sock_accept, sock_sendall, sock_recv and sock_recv_into."""
    rnd, loop = ground.random("sock_calls"), asyncio.get_running_loop()

    async def serve(listener: socket.socket) -> None:
        connection, _ = await loop.sock_accept(listener)
        memory = bytearray(64 * KIB)
        with connection:
            while count := await loop.sock_recv_into(connection, memory):
                await loop.sock_sendall(connection, memoryview(memory)[:count])

    async def receive(sock: socket.socket, size: int) -> bytes:
        back = bytearray()
        while len(back) < size:
            data = await loop.sock_recv(sock, 64 * KIB)
            if not data:
                raise Wrong(f"sock_recv: ended after {len(back)} of {size} bytes")
            back += data
        return bytes(back)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        while ground.running():
            server = asyncio.ensure_future(serve(listener))
            with socket.socket() as sock:
                sock.setblocking(False)
                await within(loop.sock_connect(sock, listener.getsockname()), "sock_connect")
                for _ in range(20):
                    sent = ground.message(rnd)
                    both = asyncio.gather(receive(sock, len(sent)), loop.sock_sendall(sock, sent))
                    back, _ = await within(both, "sock calls")
                    ground.same("sock calls", sent, back)
            await within(server, "sock server")


async def files(ground: Ground) -> None:
    """sendfile, on plain and on TLS connections, and sock_sendfile."""
    rnd, loop = ground.random("files"), asyncio.get_running_loop()
    path = ground.folder / "file"

    class Receiver(asyncio.Protocol):
        def __init__(self) -> None:
            self.data = bytearray()
            self.lost = loop.create_future()

        def data_received(self, data: bytes) -> None:
            self.data += data

        def connection_lost(self, _: Exception | None) -> None:
            self.lost.set_result(None)

    class Sender(asyncio.Protocol):
        """Writes a head, sends the file, writes a tail, closes."""

        def connection_made(self, transport: Any) -> None:
            transport.write(b"head")
            self.task = loop.create_task(self.send(transport))

        async def send(self, transport: Any) -> None:
            with path.open("rb") as file:
                await loop.sendfile(transport, file)
            transport.write(b"tail")
            transport.close()

    while ground.running():
        sent = ground.message(rnd)
        path.write_bytes(sent)
        secure = rnd.random() < 0.3
        server = await loop.create_server(
            Sender, "127.0.0.1", 0, ssl=ground.tls.server if secure else None
        )
        port = server.sockets[0].getsockname()[1]
        settings = {"ssl": ground.tls.client, "server_hostname": "localhost"} if secure else {}
        _, protocol = await loop.create_connection(Receiver, "127.0.0.1", port, **settings)
        await within(protocol.lost, "sendfile")
        server.close()
        await server.wait_closed()
        ground.same("sendfile", b"head" + sent + b"tail", bytes(protocol.data))
        await sock_sendfile(ground, path, sent)


async def sock_sendfile(ground: Ground, path: Any, sent: bytes) -> None:
    """The file through a pair of sockets."""
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right, path.open("rb") as file:
        left.setblocking(False)
        right.setblocking(False)
        sending = asyncio.ensure_future(loop.sock_sendfile(left, file))
        back = bytearray()
        while len(back) < len(sent):
            back += await within(loop.sock_recv(right, 64 * KIB), "sock_sendfile")
        if await sending != len(sent):
            raise Wrong("sock_sendfile tells another length")
    ground.same("sock_sendfile", sent, bytes(back))


async def readers(ground: Ground) -> None:
    """add_reader and add_writer on pairs of sockets, taken away and given again."""
    rnd = ground.random("readers")
    while ground.running():
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            sent = ground.message(rnd)
            ground.same("readers", sent, await within(across(left, right, sent), "readers"))
        await asyncio.sleep(0)


async def across(left: socket.socket, right: socket.socket, sent: bytes) -> bytes:
    """Write on one side and read on the other, by callbacks."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    rest, back = 0, bytearray()

    def write() -> None:
        nonlocal rest
        rest += left.send(sent[rest : rest + 64 * KIB])
        if rest >= len(sent):
            loop.remove_writer(left)

    def read() -> None:
        back.extend(right.recv(32 * KIB))
        if len(back) >= len(sent):
            loop.remove_reader(right)
            done.set_result(None)

    loop.add_reader(right, read)
    loop.add_writer(left, write)
    await done
    return bytes(back)


async def datagrams(ground: Ground) -> None:
    """UDP, one in flight: on loopback nothing may get lost, changed or doubled."""
    rnd, loop = ground.random("datagrams"), asyncio.get_running_loop()

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.transport.sendto(data, address)

    class Client(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.got: asyncio.Queue[bytes] = asyncio.Queue()

        def datagram_received(self, data: bytes, _: Any) -> None:
            self.got.put_nowait(data)

    while ground.running():
        server, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
        address = server.get_extra_info("sockname")
        client, protocol = await loop.create_datagram_endpoint(Client, remote_addr=address)
        for _ in range(100):
            sent = ground.message(rnd, 32 * KIB)
            client.sendto(sent)
            ground.same("datagrams", sent, await within(protocol.got.get(), "datagram"))
        if not protocol.got.empty():
            raise Wrong("a datagram came twice")
        client.close()
        server.close()
        await asyncio.sleep(0)


LOADS = (sock_calls, files, readers, datagrams)
