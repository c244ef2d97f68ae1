"""create_server: addresses, options, serving, closing, and their differences by version."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys

import pytest

from .marks import beyond_proactor, with_reused_ports
from .support import SECONDS, Recorder, listener, set_reset_on_close, spin


class Serving:
    """A protocol factory that keeps what it made."""

    def __init__(self):
        self.made: list[Recorder] = []

    def __call__(self):
        self.made.append(Recorder())
        return self.made[-1]

    async def connected(self, count: int) -> None:
        while len([r for r in self.made if r.transport is not None]) < count:
            await asyncio.sleep(0.001)

    async def drop(self) -> None:
        for recorder in self.made:
            recorder.transport.abort()
            await recorder.lost()


async def stop(server, serving=None):
    server.close()
    if serving is not None:
        await serving.drop()
    await server.wait_closed()


def dial(server) -> socket.socket:
    return socket.create_connection(server.sockets[0].getsockname()[:2], timeout=SECONDS)


async def test_a_server_on_a_free_port(loop):
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0)
    assert isinstance(server, asyncio.AbstractServer)
    assert server.is_serving()
    assert server.get_loop() is loop
    assert len(server.sockets) == 1
    host, port = server.sockets[0].getsockname()
    assert host == "127.0.0.1"
    assert port > 0
    with dial(server) as client:
        client.sendall(b"hi")
        await serving.connected(1)
        assert await serving.made[0].got(2) == b"hi"
        assert serving.made[0].transport.get_extra_info("peername") == client.getsockname()
    await serving.made[0].lost()
    await stop(server)
    assert not server.is_serving()
    assert tuple(server.sockets) == ()


async def test_a_closed_server_refuses_connections(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    server.close()
    server.close()
    await server.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=SECONDS)


async def test_a_port_in_use_is_an_os_error(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    with pytest.raises(OSError, match="address already in use|winerror 10048") as refusal:
        await loop.create_server(Recorder, *server.sockets[0].getsockname())
    assert refusal.value.errno == errno.EADDRINUSE
    await stop(server)


async def test_the_address_can_be_used_again_at_once(loop):
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    with dial(server):
        await serving.connected(1)
        serving.made[0].transport.close()
        await serving.made[0].lost()
    await stop(server)
    await stop(await loop.create_server(Recorder, *address))


async def test_several_hosts_make_several_sockets(loop):
    server = await loop.create_server(Recorder, ["127.0.0.1", "127.0.0.2"], 0)
    hosts = {sock.getsockname()[0] for sock in server.sockets}
    assert hosts == {"127.0.0.1", "127.0.0.2"}
    await stop(server)


@pytest.mark.parametrize("host", [None, ""])
async def test_no_host_means_every_interface(loop, host):
    serving = Serving()
    server = await loop.create_server(serving, host, 0)
    v4 = [s for s in server.sockets if s.family == socket.AF_INET]
    with socket.create_connection(("127.0.0.1", v4[0].getsockname()[1]), timeout=SECONDS):
        await serving.connected(1)
    await stop(server, serving)


async def test_ipv6(loop):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 on this system")
    serving = Serving()
    server = await loop.create_server(serving, "::1", 0)
    assert server.sockets[0].family == socket.AF_INET6
    transport, recorder = await loop.create_connection(
        Recorder, *server.sockets[0].getsockname()[:2]
    )
    assert len(transport.get_extra_info("peername")) == 4
    transport.write(b"six")
    await serving.connected(1)
    assert await serving.made[0].got(3) == b"six"
    transport.close()
    await recorder.lost()
    await serving.made[0].lost()
    await stop(server)


async def test_a_dual_stack_socket_of_the_users(loop):
    if not socket.has_dualstack_ipv6():
        pytest.skip("no dual-stack sockets on this system")
    serving = Serving()
    sock = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    server = await loop.create_server(serving, sock=sock)
    port = sock.getsockname()[1]
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port), timeout=SECONDS).close()
    await serving.connected(2)
    for recorder in serving.made:
        await recorder.lost()
    await stop(server)


async def test_a_bound_socket_of_the_users(loop):
    serving = Serving()
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = await loop.create_server(serving, sock=sock)
    with dial(server):
        await serving.connected(1)
    await serving.made[0].lost()
    await stop(server)


async def test_a_socket_that_listens_already(loop):
    serving = Serving()
    server = await loop.create_server(serving, sock=listener())
    with dial(server):
        await serving.connected(1)
    await serving.made[0].lost()
    await stop(server)


async def test_clients_that_came_before_serving_began_are_served(loop):
    sock = listener()
    with socket.create_connection(sock.getsockname()) as client:
        client.sendall(b"early")
        serving = Serving()
        server = await loop.create_server(serving, sock=sock)
        await serving.connected(1)
        assert await serving.made[0].got(5) == b"early"
    await serving.made[0].lost()
    await stop(server)


@with_reused_ports
async def test_reuse_port(loop):
    first = await loop.create_server(Recorder, "127.0.0.1", 0, reuse_port=True)
    address = first.sockets[0].getsockname()
    second = await loop.create_server(Recorder, *address, reuse_port=True)
    await stop(first)
    await stop(second)


async def test_start_serving_late(loop):
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0, start_serving=False)
    assert not server.is_serving()
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    with dial(server):
        await serving.connected(1)
    await serving.made[0].lost()
    await stop(server)


async def test_a_server_that_never_served_closes(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0, start_serving=False)
    await stop(server)


async def test_serve_forever_ends_with_its_cancellation(loop):
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0, start_serving=False)
    forever = asyncio.ensure_future(server.serve_forever())
    while not server.is_serving():
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already"):
        await server.serve_forever()
    with dial(server):
        await serving.connected(1)
    await serving.made[0].lost()
    forever.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forever
    assert not server.is_serving()
    with pytest.raises(RuntimeError, match="closed"):
        await server.serve_forever()


async def test_a_server_is_an_async_context(loop):
    async with await loop.create_server(Recorder, "127.0.0.1", 0) as server:
        assert server.is_serving()
    assert not server.is_serving()


async def test_connections_live_on_when_their_server_closes(loop):
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0)
    with dial(server) as client:
        await serving.connected(1)
        server.close()
        client.sendall(b"still")
        assert await serving.made[0].got(5) == b"still"
        serving.made[0].transport.write(b"here")
        assert await asyncio.to_thread(client.recv, 10) == b"here"
    await serving.made[0].lost()
    await server.wait_closed()


@pytest.mark.skipif(sys.version_info < (3, 12, 1), reason="wait_closed waits from 3.12.1")
async def test_wait_closed_waits_for_the_connections(loop):
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0)
    with dial(server):
        await serving.connected(1)
        server.close()
        waiting = asyncio.ensure_future(server.wait_closed())
        await asyncio.sleep(0.005)
        assert not waiting.done()
    await serving.made[0].lost()
    await asyncio.wait_for(waiting, SECONDS)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.close_clients is new in 3.13")
async def test_close_clients_flushes_and_closes(loop):
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0)
    with dial(server) as first, dial(server):
        await serving.connected(2)
        for recorder in serving.made:
            recorder.transport.write(b"bye")
        server.close()
        server.close_clients()
        await asyncio.wait_for(server.wait_closed(), SECONDS)
        assert await asyncio.to_thread(first.recv, 10) == b"bye"
        assert await asyncio.to_thread(first.recv, 10) == b""
    assert all(recorder.lost_with is None for recorder in serving.made)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.abort_clients is new in 3.13")
async def test_abort_clients_drops_what_waits(loop):
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0)
    with dial(server):
        await serving.connected(1)
        serving.made[0].transport.write(b"x" * 50_000_000)
        server.close()
        server.abort_clients()
        await asyncio.wait_for(server.wait_closed(), SECONDS)


@beyond_proactor  # whose accept fails an assertion when a client comes then
async def test_closing_a_server_while_clients_arrive(loop):
    """Trap 15: an accept may be under way in the kernel when the server closes."""
    for _ in range(20):
        serving = Serving()
        server = await loop.create_server(serving, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = []
        for _ in range(5):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(address)
            clients.append(client)
        await spin(1)
        server.close()
        await spin(3)
        for client in clients:
            client.close()
        for recorder in serving.made:
            if recorder.transport is not None:
                await recorder.lost()
        await server.wait_closed()


@beyond_proactor  # which closes the listener after the first of them
async def test_clients_that_reset_before_they_are_accepted_stop_nothing(loop):
    """Trap 15: the error of one client is not the listener's."""
    serving = Serving()
    sock = listener()
    address = sock.getsockname()
    for _ in range(10):
        client = socket.create_connection(address)
        set_reset_on_close(client)
        client.close()
    server = await loop.create_server(serving, sock=sock)
    with dial(server) as client:
        client.sendall(b"ok")
        while not any(recorder.received == b"ok" for recorder in serving.made):
            await asyncio.sleep(0.001)
    for recorder in serving.made:
        await recorder.lost()
    await stop(server)


async def test_two_hundred_clients_at_once(loop):
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0, backlog=256)
    clients = []
    for number in range(200):
        clients.append(dial(server))
        clients[-1].sendall(b"%03d" % number)
    await serving.connected(200)
    for recorder in serving.made:
        await recorder.got(3)
    assert sorted(bytes(r.received) for r in serving.made) == [b"%03d" % n for n in range(200)]
    for client in clients:
        client.close()
    for recorder in serving.made:
        await recorder.lost()
    await stop(server)


@pytest.mark.parametrize(
    ("arguments", "options", "refusal"),
    [
        ((), {}, ValueError),
        (("127.0.0.1", 0), {"sock": True}, ValueError),
        (("127.0.0.1", 0), {"ssl_handshake_timeout": 5}, ValueError),
        (("127.0.0.1", 70_000), {}, OverflowError),
        (("host.invalid", 0), {}, OSError),
        (("192.0.2.1", 0), {}, OSError),
    ],
)
async def test_impossible_servers(loop, arguments, options, refusal):
    if options.get("sock"):
        with socket.socket() as sock, pytest.raises(refusal):
            await loop.create_server(Recorder, *arguments, sock=sock)
        return
    with pytest.raises(refusal):
        await loop.create_server(Recorder, *arguments, **options)


async def test_a_datagram_socket_is_no_server(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(ValueError, match="Stream"):
        await loop.create_server(Recorder, sock=sock)
