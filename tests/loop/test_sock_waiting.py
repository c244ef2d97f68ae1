"""loop.sock_recv and its family while they wait: cancelled, closed, several, a number reused."""

import asyncio
import os
import socket

import pytest

from .marks import beyond_proactor, with_duplicates, with_fork, with_ports_to_choose
from .support import WINDOWS, fill, listener, socket_numbered, spin

pytestmark = pytest.mark.timeout(60)


async def test_a_cancelled_receive_leaves_the_socket_usable(loop, tcp):
    ours, peer = tcp
    for number in range(40):
        task = asyncio.ensure_future(loop.sock_recv(ours, 100))
        await spin()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        message = b"%d" % number
        peer.sock.send(message)
        assert await loop.sock_recv(ours, 100) == message


@pytest.mark.ours  # the standard loop takes the bytes before the task runs, and so may lose them
async def test_a_receive_that_is_cancelled_has_taken_nothing(loop, tcp):
    ours, peer = tcp
    message = bytes(range(256)) * 400
    peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received = bytearray()
    turn = 0

    def trickle():
        for start in range(0, len(message), 100):
            peer.sock.sendall(message[start : start + 100])

    sending = loop.run_in_executor(None, trickle)
    while len(received) < len(message):
        task = asyncio.ensure_future(loop.sock_recv(ours, 50))
        for _ in range(turn % 5):
            await asyncio.sleep(0)
        turn += 1
        task.cancel()
        try:
            received += await task
        except asyncio.CancelledError:
            pass
    await sending
    assert received == message


async def test_a_cancelled_send_leaves_the_socket_usable(loop, tcp):
    ours, peer = tcp
    before = fill(ours)
    task = asyncio.ensure_future(loop.sock_sendall(ours, b"never"))
    await spin()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    sending = asyncio.ensure_future(loop.sock_sendall(ours, b"after"))
    received = await peer.receive_exactly(len(before) + 5)
    await sending
    assert received == before + b"after"


@pytest.mark.ours  # the later call of the standard loop silences the earlier one
async def test_two_receives_on_one_socket_both_end(loop, tcp):
    ours, peer = tcp
    tasks = [asyncio.ensure_future(loop.sock_recv(ours, 1)) for _ in range(3)]
    await spin()
    for number in range(3):
        await peer.send(b"%d" % number)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        tasks = [task for task in tasks if not task.done()]
        assert len(tasks) == 2 - number


@pytest.mark.ours
async def test_two_sends_on_one_socket_both_end(loop, tcp):
    ours, peer = tcp
    one = asyncio.ensure_future(loop.sock_sendall(ours, b"1" * 10_000_000))
    other = asyncio.ensure_future(loop.sock_sendall(ours, b"2" * 10_000_000))
    received = await peer.receive_exactly(20_000_000)
    await asyncio.gather(one, other)
    assert (received.count(b"1"), received.count(b"2")) == (10_000_000, 10_000_000)


async def test_receiving_and_sending_at_once(loop, tcp):
    ours, peer = tcp
    before = fill(ours)
    sending = asyncio.ensure_future(loop.sock_sendall(ours, b"s" * 1_000_000))
    receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await spin()
    await peer.send(b"one")
    assert await receiving == b"one"
    receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await peer.receive_exactly(len(before) + 1_000_000)
    await sending
    await peer.send(b"two")
    assert await receiving == b"two"


@pytest.mark.ours  # there the call takes the reader's place
async def test_a_reader_and_a_receive_on_one_socket(loop, tcp):
    ours, peer = tcp
    seen = []
    loop.add_reader(ours, seen.append, "reader")
    receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await spin()
    await peer.send(b"x")
    assert await receiving == b"x"
    # On Windows the receive is under way before, and may leave nothing to be told of.
    assert seen or WINDOWS
    await asyncio.sleep(0.01)
    seen.clear()
    peer.sock.send(b"y")
    while not seen:
        await asyncio.sleep(0)
    assert loop.remove_reader(ours)
    assert await loop.sock_recv(ours, 100) == b"y"


@pytest.mark.ours
async def test_a_writer_and_a_receive_on_one_socket(loop, tcp):
    ours, peer = tcp
    seen = []
    receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await spin()
    loop.add_writer(ours, seen.append, "writer")
    while len(seen) < 3:
        await asyncio.sleep(0)
    assert not receiving.done()
    assert loop.remove_writer(ours)
    await spin()
    seen.clear()
    await peer.send(b"x")
    assert await receiving == b"x"
    assert not seen


@pytest.mark.ours  # there it fails: the selector knows the number, the system does not
async def test_a_number_that_belongs_to_another_socket_by_now(loop):
    one, far = socket.socketpair()
    one.setblocking(False)
    number = one.fileno()
    waiting = asyncio.ensure_future(loop.sock_recv(one, 100))
    await spin()
    with listener() as server:
        one.close()
        two = socket_numbered(number)
        two.connect(server.getsockname())
        other_far, _ = server.accept()
    two.setblocking(False)
    with far, two, other_far:
        far.close()
        receiving = asyncio.ensure_future(loop.sock_recv(two, 100))
        await spin()
        assert not receiving.done()
        other_far.send(b"for the new one")
        assert await receiving == b"for the new one"
        with pytest.raises(OSError):  # it has learnt that its socket is closed
            await waiting


@with_duplicates
@pytest.mark.ours
async def test_a_descriptor_that_got_another_file(loop, tcp):
    ours, _ = tcp
    for _ in range(20):
        replacement, far = socket.socketpair()
        with far:
            os.dup2(replacement.fileno(), ours.fileno())
            replacement.close()
            receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await spin()
            far.send(b"x")
            assert await receiving == b"x"


async def test_closed_after_a_receive_and_opened_again(loop):
    for number in range(50):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await spin()
            theirs.send(b"%d" % number)
            assert await receiving == b"%d" % number


async def test_a_socket_becomes_a_transports(loop, tcp):
    ours, peer = tcp
    receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await spin()
    await peer.send(b"greeting")
    assert await receiving == b"greeting"
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(b"answer")
    assert await peer.receive() == b"answer"
    await peer.send(b"more")
    assert await reader.read(100) == b"more"
    writer.close()
    await writer.wait_closed()


async def test_more_sockets_than_events_in_one_wait(loop):
    pairs = [socket.socketpair() for _ in range(400)]
    for ours, _ in pairs:
        ours.setblocking(False)
    for turn in range(3):
        tasks = [asyncio.ensure_future(loop.sock_recv(ours, 100)) for ours, _ in pairs]
        await spin()
        for number, (_, theirs) in enumerate(pairs):
            theirs.send(b"%d.%d" % (turn, number))
        expected = [b"%d.%d" % (turn, number) for number in range(len(pairs))]
        assert await asyncio.gather(*tasks) == expected
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


@with_fork
@pytest.mark.ours
async def test_a_copy_in_another_process_keeps_nobody_awake(loop, tcp):
    """A forked child keeps the file open, so the system never forgets what was asked of it."""
    ours, peer = tcp
    receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await spin()
    peer.sock.send(b"x")
    await receiving
    wait, release = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(release)
        os.read(wait, 1)
        os._exit(0)
    try:
        waiting = asyncio.ensure_future(loop.sock_recv(ours, 100))
        await spin()
        ours.close()
        peer.sock.send(b"for nobody")
        before = loop.rio_stats().waits
        await asyncio.sleep(0.1)
        assert loop.rio_stats().waits - before < 20
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    finally:
        os.close(release)
        os.waitpid(child, 0)
        os.close(wait)


@with_ports_to_choose
def test_the_loop_closes_while_a_call_waits(new_loop, tcp):
    ours, peer = tcp
    loop = new_loop()
    task = loop.create_task(loop.sock_recv(ours, 100))
    loop.run_until_complete(spin())
    task.cancel()
    loop.run_until_complete(spin())
    loop.close()
    peer.sock.send(b"x")
    other = new_loop()
    assert other.run_until_complete(other.sock_recv(ours, 100)) == b"x"


@beyond_proactor
def test_a_closed_loop_refuses(new_loop, tcp):
    ours, _ = tcp
    loop = new_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.sock_recv(ours, 100).send(None)


async def test_who_asks_without_waiting_gets_what_is_there(loop, tcp):
    """As with a timeout of 0, where the call is given one step."""
    ours, peer = tcp
    for _ in range(5):
        receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
        await spin()
        peer.sock.send(b"x")
        assert await receiving == b"x"
    await peer.send(b"there")
    for attempt in range(2):
        call = loop.sock_recv(ours, 100)
        try:
            call.send(None)
        except StopIteration as end:
            assert end.value == b"there"
            break
        finally:
            call.close()
    else:
        pytest.fail("twice there was something, and it was not given")


async def test_calls_are_coroutines(loop, tcp):
    ours, peer = tcp
    call = loop.sock_recv(ours, 100)
    assert asyncio.iscoroutine(call)
    await peer.send(b"x")
    assert await asyncio.wait_for(loop.create_task(call), 5) == b"x"
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(loop.sock_recv(ours, 100), 0.01)


async def test_an_exception_handler_hears_nothing_of_a_cancelled_call(loop, tcp, caught):
    ours, _ = tcp
    for _ in range(3):
        task = asyncio.ensure_future(loop.sock_recv(ours, 100))
        await spin(1)
        task.cancel()
    await spin()
    assert not caught
