"""loop.sock_recv and its family: sockets that stay the program's own."""

import array
import asyncio
import socket
import ssl

import pytest

from .marks import beyond_proactor, with_called_methods, with_unix_sockets
from .support import WINDOWS, Peer, listener, spin

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def pair():
    """A non-blocking socket, and the plain other end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    peer = Peer(theirs)
    yield ours, peer
    ours.close()
    peer.close()


# --------------------------------------------------------------------------------- receiving


async def test_recv_gives_what_is_there(loop, pair):
    ours, peer = pair
    await peer.send(b"hello")
    assert await loop.sock_recv(ours, 3) == b"hel"
    data = await loop.sock_recv(ours, 100)
    assert (type(data), data) == (bytes, b"lo")


async def test_recv_waits(loop, tcp):
    ours, peer = tcp
    for number in range(100):  # longer than any number of receives that do not try first
        message = b"%d" % number
        task = asyncio.ensure_future(loop.sock_recv(ours, 100))
        await spin()
        assert not task.done()
        peer.sock.send(message)
        assert await task == message


async def test_recv_finds_what_came_before_it_was_asked_for(loop, tcp):
    ours, peer = tcp
    for number in range(100):
        message = b"%d" % number
        peer.sock.send(message)
        assert await loop.sock_recv(ours, 100) == message


async def test_the_end_of_the_stream_is_empty_bytes(loop, tcp):
    ours, peer = tcp
    await peer.send(b"last")
    peer.end()
    assert await loop.sock_recv(ours, 100) == b"last"
    for _ in range(20):
        assert await loop.sock_recv(ours, 100) == b""


async def test_the_end_while_waiting(loop, tcp):
    ours, peer = tcp
    task = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await spin()
    peer.close()
    assert await task == b""


async def test_a_reset_is_an_error(loop, tcp):
    ours, peer = tcp
    task = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await spin()
    peer.reset()
    with pytest.raises(ConnectionResetError):
        await task


@pytest.mark.parametrize("size", [1, 1000, 65536, 65537, 1 << 20])
async def test_recv_of_every_size(loop, tcp, size):
    ours, peer = tcp
    message = bytes(range(256)) * 4096
    sending = asyncio.ensure_future(peer.send(message))
    received = bytearray()
    wanted = len(message) if size > 1 else 1000
    while len(received) < wanted:
        data = await loop.sock_recv(ours, size)
        assert 0 < len(data) <= size
        received += data
    assert received == message[: len(received)]
    while len(received) < len(message):
        received += await loop.sock_recv(ours, 1 << 20)
    await sending
    assert received == message


async def test_large_and_small_in_turn(loop, tcp):
    ours, peer = tcp
    for turn in range(20):
        for message in (b"%d" % turn, b"L" * 60_000):
            sending = asyncio.ensure_future(peer.send(message))
            received = b""
            while len(received) < len(message):
                received += await loop.sock_recv(ours, 65536)
            assert received == message
            await sending


@pytest.mark.parametrize("size", [-1, "many", None, 1.5])
async def test_impossible_sizes(loop, pair, size):
    ours, _ = pair
    with pytest.raises((TypeError, ValueError)):
        await loop.sock_recv(ours, size)


async def test_recv_of_nothing(loop, pair):
    ours, peer = pair
    await peer.send(b"x")
    assert await loop.sock_recv(ours, 0) == b""
    assert await loop.sock_recv(ours, 1) == b"x"


async def test_recv_into(loop, tcp):
    ours, peer = tcp
    buffer = bytearray(b"........")
    for _ in range(40):
        task = asyncio.ensure_future(loop.sock_recv_into(ours, memoryview(buffer)[:4]))
        await spin()
        peer.sock.send(b"abc")
        assert await task == 3
        assert buffer == b"abc....."
        buffer[:] = b"........"
    peer.sock.send(b"123456")
    assert await loop.sock_recv_into(ours, buffer) == 6
    assert buffer == b"123456.."
    peer.end()
    assert await loop.sock_recv_into(ours, buffer) == 0


@beyond_proactor
@pytest.mark.parametrize("buffer", [b"read-only", "text", 7])
async def test_recv_into_what_cannot_be_written(loop, pair, buffer):
    ours, peer = pair
    await peer.send(b"x")
    with pytest.raises(TypeError):
        await loop.sock_recv_into(ours, buffer)
    assert await loop.sock_recv_into(ours, bytearray()) == 0
    assert await loop.sock_recv(ours, 10) == b"x"


@pytest.fixture
def datagrams():
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for sock in (one, other):
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
    yield one, other
    one.close()
    other.close()


@pytest.fixture
def datagram_calls(loop):
    need(loop, "sock_recvfrom")


def need(loop, call):
    if not hasattr(loop, call):  # the standard loop has those for datagrams from 3.11 on
        pytest.skip(f"{type(loop).__name__} has no {call}")


@pytest.mark.usefixtures("datagram_calls")
async def test_datagrams(loop, datagrams):
    one, other = datagrams
    for message in (b"first", b"", b"third"):
        task = asyncio.ensure_future(loop.sock_recvfrom(other, 100))
        await spin()
        assert await loop.sock_sendto(one, message, other.getsockname()) == len(message)
        assert await task == (message, one.getsockname())


@pytest.mark.usefixtures("datagram_calls")
async def test_datagrams_into_memory(loop, datagrams):
    one, other = datagrams
    buffer = bytearray(8)
    for size, expected in ((0, b"abcdefgh"), (3, b"abc")):
        task = asyncio.ensure_future(loop.sock_recvfrom_into(other, buffer, size))
        await spin()
        assert await loop.sock_sendto(one, b"abcdefghij", other.getsockname()) == 10
        assert await task == (len(expected), one.getsockname())
        assert buffer.startswith(expected)
        buffer[:] = bytes(8)


async def test_datagrams_by_recv_are_not_joined(loop, datagrams):
    one, other = datagrams
    one.connect(other.getsockname())
    for message in (b"one", b"two", b"three"):
        one.send(message)
    assert [await loop.sock_recv(other, 100) for _ in range(3)] == [b"one", b"two", b"three"]


# ----------------------------------------------------------------------------------- sending


@beyond_proactor
@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
async def test_sendall(loop, pair, make):
    ours, peer = pair
    assert await loop.sock_sendall(ours, make(b"hello")) is None
    assert await peer.receive() == b"hello"
    assert await loop.sock_sendall(ours, make(b"")) is None
    await loop.sock_sendall(ours, make(b"again"))
    assert await peer.receive() == b"again"


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
async def test_much_for_a_slow_reader(loop, tcp, make):
    ours, peer = tcp
    message = bytes(range(256)) * 40_000
    sending = asyncio.ensure_future(loop.sock_sendall(ours, make(message)))
    await asyncio.sleep(0.05)
    assert not sending.done()
    received = await peer.receive_exactly(len(message))
    await sending
    assert received == message
    await loop.sock_sendall(ours, b"after")
    assert await peer.receive() == b"after"


@pytest.mark.ours  # the standard loop counts items, the system bytes: it waits for ever
@pytest.mark.parametrize("count", [3, 1_000_000])
async def test_items_wider_than_a_byte(loop, tcp, count):
    ours, peer = tcp
    items = array.array("I", range(count))
    for data in (items, memoryview(items)):
        receiving = asyncio.ensure_future(peer.receive_exactly(4 * count))
        await loop.sock_sendall(ours, data)
        assert await receiving == items.tobytes()


async def test_memory_that_is_being_sent_keeps_its_size(loop, tcp):
    ours, peer = tcp
    data = bytearray(20_000_000)
    sending = asyncio.ensure_future(loop.sock_sendall(ours, data))
    await asyncio.sleep(0.02)
    with pytest.raises(BufferError):
        data.clear()
    await peer.receive_exactly(len(data))
    await sending
    data.clear()


@pytest.mark.parametrize("data", ["text", None, 5])
async def test_what_is_no_bytes_is_refused(loop, pair, data):
    ours, _ = pair
    with pytest.raises(TypeError):
        await loop.sock_sendall(ours, data)


async def test_memory_that_is_not_contiguous_is_refused(loop, pair):
    ours, _ = pair
    with pytest.raises(BufferError):
        await loop.sock_sendall(ours, memoryview(b"abcdef")[::2])


async def test_sending_to_who_is_gone(loop, tcp):
    ours, peer = tcp
    sending = asyncio.ensure_future(loop.sock_sendall(ours, bytes(20_000_000)))
    await asyncio.sleep(0.02)
    peer.reset()
    with pytest.raises(ConnectionError):
        await sending


# -------------------------------------------------------------------- accepting, connecting


async def test_accept(loop):
    with listener() as server:
        server.setblocking(False)
        for _ in range(20):
            task = asyncio.ensure_future(loop.sock_accept(server))
            await spin()
            with socket.create_connection(server.getsockname()) as client:
                connection, address = await task
                with connection:
                    assert address == client.getsockname()
                    assert connection.gettimeout() == 0
                    client.send(b"x")
                    assert await loop.sock_recv(connection, 10) == b"x"


async def test_accept_what_came_before(loop):
    with listener() as server:
        server.setblocking(False)
        with socket.create_connection(server.getsockname()) as client:
            connection, address = await loop.sock_accept(server)
            connection.close()
            assert address == client.getsockname()


async def test_accept_on_what_does_not_listen(loop, pair):
    ours, _ = pair
    with pytest.raises(OSError):
        await loop.sock_accept(ours)


def client_of(family):
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock


@beyond_proactor
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_connect(loop, host):
    with listener() as server, client_of(socket.AF_INET) as client:
        assert await loop.sock_connect(client, (host, server.getsockname()[1])) is None
        accepted, address = server.accept()
        with accepted:
            assert address == client.getsockname()


@beyond_proactor
async def test_connect_by_ipv6(loop):
    try:
        server = listener("::1")
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with server, client_of(socket.AF_INET6) as client:
        await loop.sock_connect(client, ("::1", server.getsockname()[1]))
        server.accept()[0].close()


@with_unix_sockets
async def test_connect_to_a_unix_socket(loop, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server, client_of(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        await loop.sock_connect(client, path)
        server.accept()[0].close()


async def test_connect_where_nobody_listens(loop):
    with socket.socket() as unused, client_of(socket.AF_INET) as client:
        unused.bind(("127.0.0.1", 0))
        words = "refused" if WINDOWS else "Connect call failed"
        with pytest.raises(ConnectionRefusedError, match=words):
            await loop.sock_connect(client, unused.getsockname())


async def test_a_connect_that_was_cancelled_can_be_tried_again(loop):
    with listener() as server, client_of(socket.AF_INET) as client:
        task = asyncio.ensure_future(loop.sock_connect(client, server.getsockname()))
        await asyncio.sleep(0)
        if task.cancel():  # or it has connected at once, as Windows may
            with pytest.raises(asyncio.CancelledError):
                await task
        for _ in range(3):
            try:
                await loop.sock_connect(client, server.getsockname())
            except OSError as error:  # already on its way: the system says so in its own words
                assert not isinstance(error, ConnectionRefusedError)
        accepted = server.accept()[0]
        with accepted:
            await loop.sock_sendall(client, b"through")
            assert accepted.recv(100) == b"through"


# ------------------------------------------------------------------------------- wrong sockets


CALLS = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 10),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(10)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 10),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(10)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, b"x"),
    "sock_sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", ("127.0.0.1", 9)),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
    "sock_connect": lambda loop, sock: loop.sock_connect(sock, ("127.0.0.1", 9)),
}

each_call = pytest.mark.parametrize("call", CALLS)


@beyond_proactor
@each_call
async def test_debug_mode_refuses_blocking_sockets(loop, call):
    need(loop, call)
    loop.set_debug(True)
    with socket.socket() as sock:
        with pytest.raises(ValueError, match="must be non-blocking"):
            await CALLS[call](loop, sock)
        sock.settimeout(1)
        with pytest.raises(ValueError, match="must be non-blocking"):
            await CALLS[call](loop, sock)


@beyond_proactor
@each_call
async def test_tls_sockets_are_refused(loop, call):
    need(loop, call)
    context = ssl.create_default_context()
    with socket.socket() as plain:
        with context.wrap_socket(plain, server_hostname="x", do_handshake_on_connect=False) as sock:
            with pytest.raises(TypeError, match="SSLSocket"):
                await CALLS[call](loop, sock)


@each_call
async def test_closed_sockets_are_refused(loop, call):
    need(loop, call)
    sock = socket.socket()
    sock.setblocking(False)  # or debug mode has another complaint
    sock.close()
    with pytest.raises(OSError):
        await CALLS[call](loop, sock)


@beyond_proactor
async def test_the_socket_of_a_transport_is_refused(loop, tcp):
    ours, peer = tcp
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    with pytest.raises(RuntimeError, match="is used by transport"):
        await loop.sock_recv(ours, 10)
    with pytest.raises(RuntimeError, match="is used by transport"):
        await loop.sock_sendall(ours, bytes(64_000_000))  # more than goes at once
    transport.abort()
    await spin()


class Own(socket.socket):
    """A socket with a mind of its own."""

    def recv(self, *arguments):
        return super().recv(*arguments).upper()

    def recv_into(self, buffer, *arguments):
        count = super().recv_into(buffer, *arguments)
        buffer[:count] = bytes(buffer[:count]).upper()
        return count

    def send(self, data, *arguments):
        return super().send(bytes(data[:2]).upper(), *arguments)


@with_called_methods
async def test_the_methods_of_a_derived_socket_are_used(loop, tcp):
    plain, peer = tcp
    with Own(plain.family, plain.type, plain.proto, plain.detach()) as ours:
        ours.setblocking(False)
        task = asyncio.ensure_future(loop.sock_recv(ours, 10))
        await spin()
        await peer.send(b"abc")
        assert await task == b"ABC"
        buffer = bytearray(4)
        task = asyncio.ensure_future(loop.sock_recv_into(ours, buffer))
        await spin()
        await peer.send(b"abc")
        assert await task == 3
        assert buffer == b"ABC\0"
        await loop.sock_sendall(ours, b"abcde")
        assert await peer.receive_exactly(5) == b"ABCDE"


class Interrupted(socket.socket):
    kind = KeyboardInterrupt

    def recv(self, *arguments):
        raise self.kind


@with_called_methods
@pytest.mark.parametrize("kind_of", [KeyboardInterrupt, SystemExit])
def test_interrupts_leave_the_loop_usable(loop, pair, kind_of):
    plain, peer = pair
    with Interrupted(plain.family, plain.type, plain.proto, plain.detach()) as ours:
        ours.setblocking(False)
        ours.kind = kind_of
        with pytest.raises(kind_of):
            loop.run_until_complete(loop.sock_recv(ours, 10))
    assert loop.run_until_complete(asyncio.sleep(0, "on")) == "on"


@pytest.mark.parametrize("into", [False, True])
async def test_what_is_there_is_received_without_waiting(loop, into):
    """By a call with no time to wait, whatever calls before it have found."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    async def receive():
        if not into:
            return await loop.sock_recv(ours, 100)
        buffer = bytearray(100)
        return bytes(buffer[: await loop.sock_recv_into(ours, buffer)])

    for number in range(5):
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)  # it has tried in vain, and waits
        theirs.send(b"for who waits")
        assert await waiting == b"for who waits"
        theirs.send(b"%d" % number)
        at_once = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        assert at_once.done()
        assert at_once.result() == b"%d" % number
    ours.close()
    theirs.close()


async def test_a_buffer_that_shrinks_while_it_is_sent(loop):
    """Its place and its length are asked for once; nothing before or behind it is sent."""
    memory = bytearray(b"x" * (4 << 20))
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    sending = asyncio.ensure_future(loop.sock_sendall(ours, memory))
    await asyncio.sleep(0)
    with pytest.raises(BufferError):
        del memory[16:]
    received = 0
    while received < 4 << 20:
        received += len(await loop.sock_recv(theirs, 1 << 20))
    await sending
    assert received == 4 << 20
    del memory[16:]
    ours.close()
    theirs.close()
