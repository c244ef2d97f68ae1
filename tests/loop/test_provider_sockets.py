"""Which sockets of a loop Windows' Registered I/O drives, and that nobody notices the others.

Runs on `winsock` with the table of tests/wine/fake_rio.c, which remembers what was called.
"""

import asyncio
import gc
import socket
import sys

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


def test_a_listener_of_the_programs_own_accepts_registered_connections(fake):
    async def main():
        sock = listener()
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Echo, sock=sock) as server:
            await talk(*await asyncio.open_connection(*server.sockets[0].getsockname()))

    run(main)
    assert count(fake)["RIOCreateRequestQueue"] == 2


def test_datagrams(fake):
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
        for transport in (server, connected, free):
            transport.close()
        await asyncio.sleep(0)

    run(main)
    counts = count(fake)
    assert counts["RIOCreateRequestQueue"] == 3
    assert counts["RIOReceiveEx"] >= 3
    assert counts["RIOSendEx"] == 3
    assert counts["RIOSend"] == 1


@pytest.mark.parametrize("refuses", [False, True])
def test_files(tmp_path, monkeypatch, refuses):
    """Also where a socket with a request queue takes no file (TransmitFile: WSAEOPNOTSUPP)."""
    content = bytes(i % 251 for i in range(300_000))
    (tmp_path / "file").write_bytes(content)

    def refuse(*_):
        raise OSError(None, "no files", None, 10045)

    async def main():
        loop = asyncio.get_running_loop()
        if refuses:
            monkeypatch.setattr(loop._proactor, "sendfile", refuse)
        async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            with (tmp_path / "file").open("rb") as file:
                sent = asyncio.ensure_future(loop.sendfile(writer.transport, file))
                assert await reader.readexactly(len(content)) == content
                assert await sent == len(content)
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
