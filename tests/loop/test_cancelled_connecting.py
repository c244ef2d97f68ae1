"""Cancelling create_connection at every await: no descriptor kept, closed twice, or mixed up.

Trap 13 of docs/design.md. A loop that closes a number which meanwhile belongs to another
connection sends answers to the wrong client; the last test looks for exactly that.
"""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from .marks import beyond_proactor, with_unix_sockets
from .support import SECONDS, Recorder, connect, descriptors, listener, shut, socket_numbered


def count_descriptors() -> int:
    return len(descriptors())


async def cancel_after(turns, coroutine):
    """Runs the coroutine for so many turns, then cancels it. Its result, or None."""
    task = asyncio.ensure_future(coroutine)
    for _ in range(turns):
        await asyncio.sleep(0)
        if task.done():
            break
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None


async def drop(made):
    if made is not None:
        transport, recorder = made
        transport.abort()
        await recorder.lost()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_cancelled_at_every_turn(loop, host):
    with listener() as server:
        port = server.getsockname()[1]
        server.setblocking(False)
        # The first name resolution starts a thread; that is not what is counted.
        await drop(await loop.create_connection(Recorder, host, port))
        await asyncio.sleep(0.01)
        before = count_descriptors()
        for turns in range(25):
            await drop(await cancel_after(turns, loop.create_connection(Recorder, host, port)))
        for _ in range(50):
            if count_descriptors() == before:
                break
            await asyncio.sleep(0.005)
        assert count_descriptors() == before


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_with_a_socket_of_the_users(loop, turns):
    """The socket is the transport's or the user's, never nobody's, never both's."""
    with listener() as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    number = ours.fileno()
    made = await cancel_after(turns, loop.create_connection(Recorder, sock=ours))
    if made is not None:
        await drop(made)
        assert ours.fileno() == -1
    await asyncio.sleep(0.002)
    if ours.fileno() != -1:
        assert ours.fileno() == number
        ours.getpeername()
    ours.close()
    theirs.close()


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_adoption_of_an_accepted_socket(loop, turns):
    with listener() as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    await drop(await cancel_after(turns, loop.connect_accepted_socket(Recorder, ours)))
    await asyncio.sleep(0.002)
    ours.close()
    theirs.close()


@pytest.mark.ours  # cancelled at its last yield, asyncio's leaves a server that nobody has
@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_create_server(loop, turns):
    server = await cancel_after(turns, loop.create_server(Recorder, "localhost", 0))
    if server is not None:
        server.close()
        await server.wait_closed()


@with_unix_sockets
@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_unix_connections(loop, tmp_path, turns):
    path = str(tmp_path / "socket")
    server = await loop.create_unix_server(Recorder, path)
    await drop(await cancel_after(turns, loop.create_unix_connection(Recorder, path)))
    await asyncio.sleep(0.005)  # the standard loop loses a client that it accepts while closing
    server.close()


async def test_a_connection_that_never_ends_can_be_cancelled(loop):
    """A full backlog leaves connect() waiting in the kernel."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(server.getsockname())
        fillers.append(filler)
    before = count_descriptors()
    for _ in range(3):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(
                loop.create_connection(Recorder, *server.getsockname()), timeout=0.02
            )
    assert count_descriptors() == before
    for sock in [server, *fillers]:
        sock.close()


async def test_sock_connect_can_be_cancelled_and_its_number_reused(loop):
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(server.getsockname())
    for _ in range(5):
        sock = socket.socket()
        sock.setblocking(False)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.sock_connect(sock, server.getsockname()), 0.005)
        sock.close()
        transport, recorder, peer = await connect(Recorder)  # often gets the number of sock
        await peer.send(b"mine")
        assert await recorder.got(4) == b"mine"
        await shut(transport, recorder, peer)
    for sock in [server, *fillers]:
        sock.close()


async def test_answers_never_reach_the_wrong_client(loop):
    """Connections come, are cancelled, aborted and closed, while others must keep their bytes."""
    chance = random.Random(7)
    wrong: list[str] = []

    async def serve(reader, writer):
        try:
            while line := await reader.readline():
                writer.write(b"re:" + line)
                await writer.drain()
        except ConnectionError:
            pass  # clients of this test leave by reset, too
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    async def talk(name):
        reader, writer = await asyncio.open_connection(*address)
        try:
            for number in range(20):
                question = b"%s-%d\n" % (name, number)
                writer.write(question)
                answer = await asyncio.wait_for(reader.readline(), SECONDS)
                if answer != b"re:" + question:
                    wrong.append(f"{question!r} was answered {answer!r}")
        finally:
            writer.close()

    async def disturb():
        for _ in range(60):
            await drop(
                await cancel_after(chance.randrange(8), loop.create_connection(Recorder, *address))
            )
            with socket.socket() as own:
                own.setblocking(False)
                own.connect_ex(address)
                made = await cancel_after(
                    chance.randrange(4), loop.create_connection(Recorder, sock=own)
                )
                await drop(made)

    talks = [talk(b"client%d" % number) for number in range(30)]
    await asyncio.gather(*talks, *(disturb() for _ in range(4)))
    assert wrong == []
    server.close()
    await server.wait_closed()


@beyond_proactor
async def test_a_number_that_was_watched_is_forgotten_with_its_descriptor(loop):
    """add_reader, then close without remove_reader: the next owner of the number is not called."""
    seen = []
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    loop.add_reader(ours, seen.append, "old")
    loop.remove_reader(ours)
    with listener() as server:
        ours.close()
        theirs.close()
        again = socket_numbered(number)
        again.connect(server.getsockname())
        other, _ = server.accept()
    other.send(b"x")
    await asyncio.sleep(0.005)
    assert seen == []
    again.close()
    other.close()
