"""Which sockets of a loop Windows' Registered I/O drives, and that nobody notices the others.

Runs on `winsock` with the table of tests/wine/fake_rio.c, which remembers what was called.
"""

import asyncio
import contextlib
import gc
import os
import socket
import sys
import time

import pytest

from .support import SECONDS, listener, make_loop

FAKE = "tests.wine.fake_rio"

pytestmark = pytest.mark.skipif(
    FAKE not in sys.modules, reason="asks the table of tests/wine/fake_rio.c what was called"
)


@pytest.fixture
def fake():
    fake = sys.modules[FAKE]
    fake.record(True)
    yield fake
    fake.become(fake.WORKS)
    fake.follow(fake.AS_WINDOWS)
    fake.record(False)


def count(fake):
    """How often each function was called since the last question."""
    counts = {}
    for call in fake.calls():
        name = call.split()[0]
        counts[name] = counts.get(name, 0) + 1
    return counts


def run(main, **options):
    loop = make_loop("winsock", **options)
    try:
        loop.run_until_complete(asyncio.wait_for(main(), SECONDS))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
        gc.collect()


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Told(asyncio.Protocol):
    """Keeps how its connection ended."""

    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def talk(reader, writer, size=5000):
    data = bytes(i % 251 for i in range(size))
    for _ in range(3):
        writer.write(data)
        assert await reader.readexactly(size) == data
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("size", [10, 5000, 1_000_000])
def test_both_ends_of_a_connection_of_our_own(fake, size):
    async def main():
        loop = asyncio.get_running_loop()
        assert loop.provider == "winsock"
        async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            await talk(*await asyncio.open_connection(host, port), size)

    run(main)
    counts = count(fake)
    assert counts["RIOCreateRequestQueue"] == 2
    assert counts["RIOReceive"] >= 6
    assert counts["RIOSend"] >= 6
    assert counts["RIORegisterBuffer"] == counts["RIODeregisterBuffer"]
    assert counts["RIOCloseCompletionQueue"] == 1


def test_registered_memory_is_whole_pages(fake):
    async def main():
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
            await talk(*await asyncio.open_connection(*server.sockets[0].getsockname()))

    run(main)
    registered = [call for call in fake.calls() if call.startswith("RIORegisterBuffer")]
    assert registered
    for call in registered:
        _, length, aligned = call.split()
        assert int(length.partition("=")[2]) % 4096 == 0
        assert aligned == "aligned=1"


def test_a_local_address_of_the_programs_choice(fake):
    async def main():
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), local_addr=("127.0.0.1", 0)
            )
            await talk(reader, writer)

    run(main)
    assert count(fake)["RIOCreateRequestQueue"] == 2


def test_a_socket_of_the_programs_own_is_served_all_the_same(fake):
    async def main():
        with listener() as server:
            theirs = socket.create_connection(server.getsockname())
            ours, _ = server.accept()
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(Echo, ours)
        reader, writer = await asyncio.open_connection(sock=theirs)
        await talk(reader, writer)
        assert loop.provider == "winsock"

    run(main)
    assert {"RIOReceive", "RIOSend"}.isdisjoint(count(fake))


@pytest.mark.parametrize("shared", [False, True])
def test_a_listener_of_the_programs_own_gives_plain_connections(fake, shared):
    """Also one that came from another process: those of it would never hear their clients."""

    async def main():
        sock = listener()
        if shared:
            original, sock = sock, socket.fromshare(sock.share(os.getpid()))
            original.close()
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Echo, sock=sock) as server:
            await talk(*await asyncio.open_connection(*server.sockets[0].getsockname()))

    run(main)
    assert count(fake)["RIOCreateRequestQueue"] == 1  # the client's


@pytest.mark.parametrize("registered", [False, True])
def test_datagrams(fake, registered):
    class Answer(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            self.transport.sendto(data, address)

    class Ask(asyncio.DatagramProtocol):
        def __init__(self):
            self.answers = asyncio.Queue()

        def datagram_received(self, data, address):
            self.answers.put_nowait((data, address))

    async def main():
        loop = asyncio.get_running_loop()
        server, _ = await loop.create_datagram_endpoint(Answer, local_addr=("127.0.0.1", 0))
        address = server.get_extra_info("sockname")
        connected, one = await loop.create_datagram_endpoint(Ask, remote_addr=address)
        free, other = await loop.create_datagram_endpoint(Ask, local_addr=("127.0.0.1", 0))
        connected.sendto(b"connected")
        assert await one.answers.get() == (b"connected", address)
        free.sendto(b"free", address)
        assert await other.answers.get() == (b"free", address)
        with pytest.raises(ValueError, match="Invalid address"):
            connected.sendto(b"", ("127.0.0.1", 1)) or connected.sendto(b"x", ("127.0.0.1", 1))
        free.sendto(b"by name", ("localhost", address[1]))
        assert await other.answers.get() == (b"by name", address)
        for transport in (server, connected, free):
            transport.close()
        await asyncio.sleep(0)

    run(main, **({"datagrams": "rio", "datagram_receives": 32} if registered else {}))
    counts = count(fake)
    if registered:
        assert counts["RIOCreateRequestQueue"] == 3
        assert counts["RIOReceiveEx"] >= 96, "32 each"
        assert counts["RIOSendEx"] == 5
        assert counts["RIOSend"] == 1
    else:
        assert {"RIOCreateRequestQueue", "RIOSend", "RIOSendEx"}.isdisjoint(counts)


@pytest.mark.parametrize("registered", [False, True])
def test_a_burst_that_a_busy_program_has_no_time_for(fake, registered):
    """Behind an ordinary socket is a buffer of the system, behind a registered one there is not."""
    heard = []

    class Count(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            heard.append(int(data))

    async def main():
        loop = asyncio.get_running_loop()
        server, _ = await loop.create_datagram_endpoint(Count, local_addr=("127.0.0.1", 0))
        await asyncio.sleep(0.05)  # the receives are posted
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(64):
                sender.sendto(b"%d" % number, server.get_extra_info("sockname"))
        time.sleep(0.2)
        await asyncio.sleep(0.3)
        server.close()

    run(main, **({"datagrams": "rio", "datagram_receives": 16} if registered else {}))
    assert heard == list(range(16 if registered else 64))


def test_files(tmp_path, fake):
    """They are read and sent: a socket for Registered I/O takes no TransmitFile."""
    content = bytes(i % 251 for i in range(300_000))
    (tmp_path / "file").write_bytes(content)

    async def main():
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            with (tmp_path / "file").open("rb") as file:
                sent = asyncio.ensure_future(loop.sendfile(writer.transport, file))
                assert await reader.readexactly(len(content)) == content
                assert await sent == len(content)
                with pytest.raises(asyncio.SendfileNotAvailableError, match="Registered I/O"):
                    await loop.sendfile(writer.transport, file, fallback=False)
            writer.close()
            await writer.wait_closed()

    run(main)


def test_a_loop_that_closes_under_its_connections_waits_for_their_memory(fake):
    class Silent(asyncio.Protocol):
        pass

    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Silent, "127.0.0.1", 0)
        for _ in range(3):
            kept.append(await loop.create_connection(Silent, *server.sockets[0].getsockname()))
        await asyncio.sleep(0.05)

    kept: list[object] = []
    with pytest.warns(ResourceWarning, match="unclosed"):
        run(main)
        kept.clear()
        gc.collect()
    counts = count(fake)
    assert counts["RIOReceive"] == 6
    assert counts["RIORegisterBuffer"] == counts["RIODeregisterBuffer"]
    assert fake.violations() == []


@pytest.mark.parametrize("reuse", [None, True])
def test_a_listener_has_its_address_alone_unless_it_was_asked_to_share(fake, reuse):
    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0, reuse_address=reuse)
        (sock,) = server.sockets
        assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE)) != bool(reuse)
        assert not sock.get_inheritable()
        server.close()

    run(main)


class Answering(asyncio.Protocol):
    """Answers the first bytes that come, and is done."""

    how = "close"

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)
        getattr(self.transport, self.how)()


def test_an_answer_right_before_the_close_arrives_whole(fake):
    """A close with a receive outstanding would reset the connection."""
    size = 200_000

    async def main():
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Answering, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            for _ in range(20):
                with socket.create_connection(address, timeout=SECONDS) as client:
                    client.sendall(bytes(size))
                    await asyncio.sleep(0.01)
                    client.setblocking(False)
                    answer = 0
                    while data := await loop.sock_recv(client, 65536):
                        answer += len(data)
                    assert answer > 0

    run(main)
    ends = [call for call in fake.calls() if call.startswith("closesocket")]
    assert len(ends) > 20
    assert {end for end in ends if "resets=1" in end or "receives=1" in end} == set()


def test_abort_waits_for_nothing_and_resets(fake):
    class Aborting(Answering):
        how = "abort"

    async def main():
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Aborting, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x")
            with contextlib.suppress(ConnectionResetError):  # Wine may tell it as an end
                while await reader.read(100):
                    pass
            assert any(call.startswith("closesocket resets=1") for call in fake.calls())
            writer.close()

    run(main)


def test_a_peer_that_never_ends_is_waited_for_in_the_background_only(fake):
    async def main():
        loop = asyncio.get_running_loop()
        with listener() as server:
            transport, protocol = await loop.create_connection(Told, *server.getsockname())
            server.setblocking(True)
            peer, _ = server.accept()
            transport.write(b"bye")
            transport.close()
            assert await protocol.lost is None
            assert transport.get_extra_info("socket").fileno() >= 0, "open in the background"
            peer.settimeout(SECONDS)
            assert peer.recv(100) == b"bye"
            assert peer.recv(100) == b"", "its side is ended"
            peer.sendall(b"for nobody")
            while transport.get_extra_info("socket").fileno() >= 0:
                await asyncio.sleep(0.05)
            peer.close()

    run(main)


@pytest.mark.parametrize("mode", ["REFUSES_QUEUES", "REFUSES_BUFFERS"])
def test_a_refused_registration_is_an_error_and_nothing_hangs(fake, mode):
    async def main():
        loop = asyncio.get_running_loop()
        with listener() as server:
            fake.become(getattr(fake, mode))
            with pytest.raises((OSError, MemoryError)):
                _, protocol = await loop.create_connection(Told, *server.getsockname())
                raise await protocol.lost
            fake.become(fake.WORKS)
            transport, _ = await loop.create_connection(Echo, *server.getsockname())
            transport.abort()
            await asyncio.sleep(0)

    run(main)


def test_a_commit_that_is_refused_ends_the_connection(fake):
    async def main():
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            transport, protocol = await loop.create_connection(Told, *address)
            fake.follow(fake.AS_WINDOWS | fake.COMMIT_FAILS)
            transport.write(bytes(200_000))  # several slices, so one commit
            exc = await protocol.lost
            assert isinstance(exc, OSError)
            assert exc.winerror == 10055

    run(main)


@pytest.mark.parametrize("rule", ["ACKNOWLEDGED", "BURSTS"])
def test_results_that_come_late_or_all_at_once(fake, rule):
    async def main():
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            clients = [await asyncio.open_connection(*address) for _ in range(5)]
            await asyncio.gather(*[talk(*client) for client in clients])

    fake.follow(fake.AS_WINDOWS | getattr(fake, rule))
    run(main)


@pytest.mark.filterwarnings("ignore")  # what such an end leaves unclosed says so
def test_a_damaged_queue_ends_the_loop_with_an_error(fake):
    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        await loop.create_connection(Echo, *server.sockets[0].getsockname())
        fake.become(fake.CORRUPTED)
        await asyncio.sleep(SECONDS)

    loop = make_loop("winsock")
    with pytest.raises(SystemError, match="completion queue is corrupt"):
        loop.run_until_complete(main())
    fake.become(fake.WORKS)
    loop.close()
    gc.collect()
    assert all("outstanding" in broken for broken in fake.violations())
