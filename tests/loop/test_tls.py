"""TLS on our transports: asyncio's SSL protocol above, our stream transport below."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys

import pytest

from .marks import with_unix_sockets
from .support import (
    SECONDS,
    Recorder,
    connect_unix,
    listener,
    receive_all,
    set_reset_on_close,
    spin,
)
from .tls import (
    VERSIONS,
    blocking_client,
    client_context,
    close,
    connect_to_blocking,
    echo,
    end_properly,
    forgetful,
    only,
    server_context,
    serving,
)

pytestmark = [forgetful, pytest.mark.tls]


@pytest.mark.parametrize("version", VERSIONS)
async def test_echo(loop, contexts, version):
    only(contexts[0], version)
    async with serving(echo, contexts[0]) as address:
        reader, writer = await asyncio.open_connection(*address, ssl=contexts[1])
        for size in (1, 1000, 100_000, 2_000_000):
            data = bytes(number % 251 for number in range(size))
            writer.write(data)
            assert await reader.readexactly(size) == data
        shown = {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        assert writer.get_extra_info("ssl_object").version() == shown
        await close(writer)


async def test_what_a_transport_tells(loop, contexts):
    async with serving(echo, contexts[0]) as address:
        _, writer = await asyncio.open_connection(*address, ssl=contexts[1])
        tell = writer.get_extra_info
        assert tell("sslcontext") is contexts[1]
        assert isinstance(tell("ssl_object"), ssl.SSLObject)
        assert tell("peercert")["subject"] == ((("commonName", "localhost"),),)
        name, protocol, bits = tell("cipher")
        assert name
        assert protocol.startswith("TLS")
        assert bits >= 128
        assert tell("compression", "default") is None
        assert tell("peername") == address
        assert tell("sockname")[0] == "127.0.0.1"
        assert tell("socket").fileno() >= 0
        assert tell("nothing", "default") == "default"
        assert not writer.can_write_eof()
        with pytest.raises(NotImplementedError):
            writer.write_eof()
        await close(writer)


async def test_many_clients_at_once(loop, contexts):
    async with serving(echo, contexts[0]) as address:

        async def client(number):
            reader, writer = await asyncio.open_connection(*address, ssl=contexts[1])
            for turn in range(5):
                writer.write(b"%d-%d\n" % (number, turn))
                assert await reader.readline() == b"%d-%d\n" % (number, turn)
            await close(writer)

        await asyncio.gather(*(client(number) for number in range(20)))


@with_unix_sockets
async def test_over_a_unix_socket(loop, contexts, tmp_path):
    async with serving(echo, contexts[0], str(tmp_path / "socket")) as path:
        reader, writer = await asyncio.open_unix_connection(
            path, ssl=contexts[1], server_hostname="localhost"
        )
        writer.write(b"x" * 300_000)
        assert await reader.readexactly(300_000) == b"x" * 300_000
        assert writer.get_extra_info("cipher")
        await close(writer)


async def test_over_a_socket_of_the_user(loop, contexts):
    async with serving(echo, contexts[0]) as address:
        sock = socket.create_connection(address, SECONDS)
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=contexts[1], server_hostname="localhost"
        )
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        await close(writer)


async def test_an_accepted_socket(loop, contexts):
    with socket.create_server(("127.0.0.1", 0)) as server:
        connecting = asyncio.ensure_future(
            asyncio.to_thread(blocking_client, server.getsockname(), contexts[1])
        )
        accepted, _ = await asyncio.to_thread(server.accept)
        transport, recorder = await loop.connect_accepted_socket(
            Recorder, accepted, ssl=contexts[0]
        )
        with await connecting as client:
            await asyncio.to_thread(client.sendall, b"hello")
            assert await recorder.got(5) == b"hello"
            transport.abort()
            await recorder.lost()


# ------------------------------------------------------------ names, protocols


async def test_protocols_are_agreed_on(loop, contexts):
    contexts[0].set_alpn_protocols(["h2", "http/1.1"])
    for offered, agreed in ((["http/1.1"], "http/1.1"), (["http/1.1", "h2"], "h2"), ([], None)):
        contexts[1].set_alpn_protocols(offered or ["nobody/speaks/this"])
        at_server = []

        async def tell(reader, writer, at_server=at_server):
            at_server.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())

        async with serving(tell, contexts[0]) as address:
            reader, writer = await asyncio.open_connection(*address, ssl=contexts[1])
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == agreed
            assert await reader.read() == b""
            await close(writer)
        assert at_server == [agreed]


async def test_a_server_of_many_names(loop, contexts, authority):
    """The SNI callback chooses the certificate by the name that the client asks for."""
    asked = []
    other = server_context(authority.issue("other.test"))

    def choose(sslobj, name, context):
        asked.append(name)
        if name == "other.test":
            sslobj.context = other

    contexts[0].sni_callback = choose
    async with serving(echo, contexts[0]) as address:
        for name in ("localhost", "other.test"):
            _, writer = await asyncio.open_connection(
                *address, ssl=contexts[1], server_hostname=name
            )
            subject = writer.get_extra_info("peercert")["subject"]
            assert subject == ((("commonName", name),),)
            await close(writer)
        contexts[1].check_hostname = False
        _, writer = await asyncio.open_connection(*address, ssl=contexts[1], server_hostname="")
        await close(writer)
    assert asked == ["localhost", "other.test", None]


async def test_a_name_that_the_server_refuses(loop, contexts, caught):
    contexts[0].sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    async with serving(echo, contexts[0]) as address:
        # The server forgets its alert when it aborts, so that it may be the reset that is seen.
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(*address, ssl=contexts[1])
        await spin()
    caught.take()  # the server's side, told in debug mode and by some versions


async def test_a_certificate_of_another_name(loop, contexts, caught):
    async with serving(echo, contexts[0]) as address:
        with pytest.raises(ssl.SSLCertVerificationError, match="(?i)hostname mismatch"):
            await asyncio.open_connection(*address, ssl=contexts[1], server_hostname="other.test")
        await spin()
    caught.take()


@pytest.mark.parametrize("ours", [True, False])
async def test_a_certificate_that_is_not_trusted(loop, contexts, authority, caught, ours):
    """Expired, or of an authority that the client does not know."""
    trusting = client_context(authority) if ours else ssl.create_default_context()
    server = server_context(authority.issue("localhost", days=-1)) if ours else contexts[0]
    async with serving(echo, server) as address:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(*address, ssl=trusting)
        await spin()
    caught.take()


async def test_no_version_in_common(loop, contexts, caught):
    only(contexts[0], VERSIONS[0])
    only(contexts[1], VERSIONS[1])
    async with serving(echo, contexts[0]) as address:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(*address, ssl=contexts[1])
        await spin()
    caught.take()


async def test_a_peer_that_does_not_speak_tls(loop, contexts):
    async def babble(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(babble, None) as address:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(*address, ssl=contexts[1])


async def test_a_client_that_does_not_speak_tls(loop, contexts, caught):
    """The server survives it, and serves the next one."""
    async with serving(echo, contexts[0]) as address:
        for words in (b"GET / HTTP/1.1\r\n\r\n" * 100, b""):
            with socket.create_connection(address, SECONDS) as sock:
                sock.sendall(words)
                sock.shutdown(socket.SHUT_WR)
                await asyncio.to_thread(drain, sock)
        reader, writer = await asyncio.open_connection(*address, ssl=contexts[1])
        writer.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        await close(writer)
    caught.take()


def drain(sock):
    try:
        receive_all(sock)
    except ConnectionError:
        pass


# --------------------------------------------------------------------- limits


async def test_a_handshake_that_never_comes_times_out(loop, contexts):
    done = asyncio.Event()

    async def silent(reader, writer):
        await done.wait()

    async with serving(silent, None) as address:
        with pytest.raises(ConnectionAbortedError, match="handshake is taking longer"):
            await asyncio.open_connection(*address, ssl=contexts[1], ssl_handshake_timeout=0.05)
        done.set()


async def test_a_server_drops_who_does_not_shake_hands(loop, contexts, caught):
    async with serving(echo, contexts[0], ssl_handshake_timeout=0.05) as address:
        with socket.create_connection(address, SECONDS) as sock:
            await asyncio.to_thread(drain, sock)  # ends only because the server ends it
    contexts_told = caught.take()
    assert all(isinstance(told["exception"], ConnectionAbortedError) for told in contexts_told)


@pytest.mark.ours  # the standard loop forgets to close the socket
@pytest.mark.parametrize("limit", [0, -1])
async def test_impossible_limits(loop, contexts, limit):
    with listener() as server:
        address = server.getsockname()
        with pytest.raises(ValueError):
            await asyncio.open_connection(*address, ssl=contexts[1], ssl_handshake_timeout=limit)


async def test_limits_are_for_tls(loop):
    with pytest.raises(ValueError, match="only meaningful with ssl"):
        await asyncio.open_connection("127.0.0.1", 1, ssl_handshake_timeout=1)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the time-out is new in 3.11")
async def test_a_peer_that_does_not_answer_the_end(loop, contexts):
    """close() waits so long for the other's close_notify, and not longer."""
    transport, recorder, peer = await connect_to_blocking(
        Recorder, contexts, ssl_shutdown_timeout=0.05
    )
    transport.close()
    lost_with = await recorder.lost()
    assert lost_with is None or isinstance(lost_with, (TimeoutError, ConnectionAbortedError))
    peer.close()


async def test_cancelled_during_the_handshake(loop, contexts):
    done = asyncio.Event()

    async def silent(reader, writer):
        await done.wait()

    async with serving(silent, None) as address:
        task = asyncio.ensure_future(asyncio.open_connection(*address, ssl=contexts[1]))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        done.set()


# ---------------------------------------------------------- ends, flow control


async def test_the_peer_ends_properly(loop, contexts):
    transport, recorder, peer = await connect_to_blocking(Recorder, contexts)
    await peer.send(b"last words")
    await asyncio.to_thread(end_properly, peer.sock)
    assert await recorder.got(10) == b"last words"
    assert await recorder.lost() is None
    assert "eof_received" in recorder.calls or sys.version_info < (3, 11)


async def test_an_end_by_us_is_told_to_the_peer(loop, contexts):
    """With a close_notify, behind all that was written."""
    transport, recorder, peer = await connect_to_blocking(Recorder, contexts)
    receiving = asyncio.ensure_future(asyncio.to_thread(receive_all, peer.sock))
    transport.write(b"x" * 3_000_000)
    transport.close()
    assert len(await receiving) == 3_000_000  # a ragged end would be an SSLEOFError
    peer.sock.close()
    await recorder.lost()


async def test_keeping_open_after_the_peers_end_is_not_possible(loop, contexts):
    """TLS has no half-close here: eof_received may ask for it, and the connection ends."""
    transport, recorder, peer = await connect_to_blocking(Recorder, contexts)
    recorder.keep_open = True
    ending = asyncio.ensure_future(asyncio.to_thread(end_properly, peer.sock))
    await recorder.lost()
    await ending


async def test_a_ragged_end(loop, contexts):
    """FIN without close_notify."""
    transport, recorder, peer = await connect_to_blocking(Recorder, contexts)
    await peer.send(b"cut")
    peer.sock.close()
    await recorder.lost()
    assert recorder.received == b"cut"


async def test_a_reset(loop, contexts):
    transport, recorder, peer = await connect_to_blocking(Recorder, contexts)
    transport.write(b"x" * 1_000_000)
    set_reset_on_close(peer.sock)
    peer.sock.close()
    lost_with = await recorder.lost()
    assert lost_with is None or isinstance(lost_with, ConnectionError)
    assert transport.is_closing() or sys.version_info < (3, 11)


async def test_abort(loop, contexts):
    transport, recorder, peer = await connect_to_blocking(Recorder, contexts)
    transport.write(b"x" * 3_000_000)
    transport.abort()
    assert await recorder.lost() is None
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.to_thread(receive_all, peer.sock)
        raise ConnectionError("closed without an alert, as abort may")
    peer.close()


async def test_a_slow_reader_pauses_the_writer(loop, contexts):
    transport, recorder, peer = await connect_to_blocking(Recorder, contexts)
    transport.set_write_buffer_limits(high=50_000, low=10_000)
    data = bytes(range(256)) * 40_000
    written = 0
    while written < len(data) and "pause_writing" not in recorder.calls:
        transport.write(data[written : written + 65_536])
        written += 65_536
        await asyncio.sleep(0)
    assert "pause_writing" in recorder.calls
    receiving = asyncio.ensure_future(peer.receive_exactly(len(data)))
    await recorder.until(lambda: "resume_writing" in recorder.calls)
    transport.write(data[written:])
    assert await receiving == data
    transport.abort()
    await recorder.lost()
    peer.close()


async def test_pausing_the_reader_holds_the_peer_back(loop, contexts):
    transport, recorder, peer = await connect_to_blocking(Recorder, contexts)
    transport.pause_reading()
    data = bytes(range(256)) * 60_000
    sending = asyncio.ensure_future(peer.send(data))
    await asyncio.sleep(0.02)
    assert not sending.done()
    held = len(recorder.received)
    await asyncio.sleep(0.005)
    assert len(recorder.received) == held
    transport.resume_reading()
    assert await recorder.got(len(data)) == data
    await sending
    transport.abort()
    await recorder.lost()
    peer.close()


async def test_large_transfers_both_ways_at_once(loop, contexts):
    transport, recorder, peer = await connect_to_blocking(Recorder, contexts)
    data = bytes(range(256)) * 8_000

    def talk():
        got = bytearray()
        for start in range(0, len(data), 64_000):
            peer.sock.sendall(data[start : start + 64_000])
            got += peer.sock.recv(64_000)
        while len(got) < len(data):
            got += peer.sock.recv(1 << 18)
        return got

    talking = asyncio.ensure_future(asyncio.to_thread(talk))
    transport.write(data)
    assert await recorder.got(len(data)) == data
    assert await talking == data
    transport.abort()
    await recorder.lost()
    peer.close()


async def test_a_file_over_tls(loop, contexts, tmp_path):
    """No system call encrypts: it is read and written."""
    transport, recorder, peer = await connect_to_blocking(Recorder, contexts)
    data = bytes(range(256)) * 3_000
    (tmp_path / "file").write_bytes(data)
    receiving = asyncio.ensure_future(peer.receive_exactly(len(data)))
    with (tmp_path / "file").open("rb") as file:
        assert await loop.sendfile(transport, file) == len(data)
        with pytest.raises(RuntimeError):
            await loop.sendfile(transport, file, fallback=False)
    assert await receiving == data
    transport.abort()
    await recorder.lost()
    peer.close()


async def test_writing_many_small_parts(loop, contexts):
    transport, recorder, peer = await connect_to_blocking(Recorder, contexts)
    receiving = asyncio.ensure_future(peer.receive_exactly(50_000))
    for number in range(5_000):
        transport.writelines([b"%04d" % number, bytearray(b"-"), memoryview(b"=====")])
    assert await receiving == b"".join(b"%04d-=====" % number for number in range(5_000))
    transport.abort()
    await recorder.lost()
    peer.close()


def test_a_loop_that_closes_with_a_connection_open(new_loop, contexts):
    """As with any transport: the socket is gone, and nothing is told to a loop that is no more."""
    loop = new_loop()
    transport, _, peer = loop.run_until_complete(connect_to_blocking(Recorder, contexts))
    transport.abort()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    peer.close()


@pytest.mark.ours
async def test_a_registered_protocol_over_tls(loop, contexts):
    import zerio_asyncio

    class Viewing(zerio_asyncio.RegisteredProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def view_received(self, view):
            self.transport.write(view)

    server = await loop.create_server(Viewing, "127.0.0.1", 0, ssl=contexts[0])
    host, port = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(host, port, ssl=contexts[1])
    for size in (1, 5000, 300_000):
        writer.write(bytes(size))
        assert await reader.readexactly(size) == bytes(size)
    await close(writer)
    server.close()
    await server.wait_closed()


@with_unix_sockets
async def test_a_pair_of_unix_sockets(loop, contexts):
    """socketpair: no address, no name; both sides on this loop."""
    plain, recorder, peer = await connect_unix(Recorder)
    transport, other = await loop.connect_accepted_socket(Recorder, peer.sock)
    client, server = await asyncio.gather(
        loop.start_tls(plain, recorder, contexts[1], server_hostname="localhost"),
        loop.start_tls(transport, other, contexts[0], server_side=True),
    )
    client.write(b"hello")
    assert await other.got(5) == b"hello"
    client.abort()
    server.abort()
    await recorder.lost()
    await other.lost()
