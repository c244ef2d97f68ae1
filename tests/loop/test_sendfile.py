"""loop.sendfile and loop.sock_sendfile: files that the system sends by itself."""

import asyncio
import io
import os
import socket
import sys

import pytest

from .marks import beyond_proactor, with_os_sendfile
from .support import WINDOWS, Recorder, connect, recorder_of, shut, spin

DATA = bytes(range(256)) * 40_000
"""10 MB: more than the system's buffers of one connection take."""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(DATA)
    with path.open("rb") as opened:
        yield opened


def check_position(file):
    """In the middle of a file; Windows sends it by one operation, and does not tell how much."""
    position = file.tell()
    assert position == 0 if WINDOWS else 100_000 <= position < len(DATA)


@pytest.fixture
def sent_by_the_system(monkeypatch):
    """Bytes of each successful call of os.sendfile, where the system has it."""
    if not hasattr(os, "sendfile"):
        return None
    sizes = []
    original = os.sendfile

    def sendfile(*arguments):
        sizes.append(original(*arguments))
        return sizes[-1]

    monkeypatch.setattr(os, "sendfile", sendfile)
    return sizes


# ---------------------------------------------------------------------------- over transports


async def test_between_what_was_written_before_and_after(loop, file, sent_by_the_system):
    transport, recorder, peer = await connect(Recorder)
    head, tail = b"h" * 1_000_000, b"tail"
    receiving = asyncio.ensure_future(peer.receive_exactly(len(head) + len(DATA) + len(tail)))
    transport.write(head)
    assert await loop.sendfile(transport, file) == len(DATA)
    transport.write(tail)
    assert await receiving == head + DATA + tail
    assert file.tell() == len(DATA)
    assert sent_by_the_system is None or sum(sent_by_the_system) == len(DATA)
    await shut(transport, recorder, peer)


@pytest.mark.parametrize(
    ("offset", "count", "part"),
    [
        (0, 5, slice(0, 5)),
        (1000, 2000, slice(1000, 3000)),
        (len(DATA) - 10, None, slice(len(DATA) - 10, None)),
        (len(DATA) - 10, 100, slice(len(DATA) - 10, None)),
        (len(DATA) + 10, None, slice(0, 0)),
        (3, 5_000_000, slice(3, 5_000_003)),
    ],
)
async def test_offset_and_count(loop, file, offset, count, part):
    transport, recorder, peer = await connect(Recorder)
    expected = DATA[part]
    receiving = asyncio.ensure_future(peer.receive_exactly(len(expected) + 1))
    assert await loop.sendfile(transport, file, offset, count, fallback=False) == len(expected)
    transport.write(b".")
    assert await receiving == expected + b"."
    if expected or sys.version_info >= (3, 14):
        assert file.tell() == offset + len(expected)
    else:
        assert file.tell() == 0
    await shut(transport, recorder, peer)


async def test_an_empty_file(loop, tmp_path):
    path = tmp_path / "empty"
    path.touch()
    transport, recorder, peer = await connect(Recorder)
    with path.open("rb") as empty:
        assert await loop.sendfile(transport, empty) == 0
    await shut(transport, recorder, peer)


async def test_what_is_no_file_falls_back(loop):
    transport, recorder, peer = await connect(Recorder)
    receiving = asyncio.ensure_future(peer.receive_exactly(100_000))
    assert await loop.sendfile(transport, io.BytesIO(DATA[:100_000])) == 100_000
    assert await receiving == DATA[:100_000]
    with pytest.raises(asyncio.SendfileNotAvailableError):
        await loop.sendfile(transport, io.BytesIO(DATA), fallback=False)
    transport.write(b"usable")
    assert await peer.receive() == b"usable"
    await shut(transport, recorder, peer)


@with_os_sendfile
async def test_a_system_that_refuses_falls_back(loop, file, monkeypatch):
    def refuse(*_):
        raise OSError(22, "not with this file")

    monkeypatch.setattr(os, "sendfile", refuse)
    transport, recorder, peer = await connect(Recorder)
    with pytest.raises(asyncio.SendfileNotAvailableError):
        await loop.sendfile(transport, file, fallback=False)
    receiving = asyncio.ensure_future(peer.receive_exactly(len(DATA)))
    assert await loop.sendfile(transport, file) == len(DATA)
    assert await receiving == DATA
    assert file.tell() == len(DATA)
    await shut(transport, recorder, peer)


async def test_nothing_else_is_written_meanwhile(loop, file):
    transport, recorder, peer = await connect(Recorder)
    sending = asyncio.ensure_future(loop.sendfile(transport, file))
    await asyncio.sleep(0.02)
    assert not sending.done()
    with pytest.raises(RuntimeError, match="sendfile is in progress"):
        transport.write(b"no")
    with pytest.raises(RuntimeError, match="sendfile is in progress"):
        transport.writelines([b"no"])
    await peer.receive_exactly(len(DATA))
    assert await sending == len(DATA)
    await shut(transport, recorder, peer)


@beyond_proactor
async def test_what_comes_meanwhile_is_held_back(loop, file, protocol):
    """A protocol that answers would have to write, which is refused for that time."""
    made = recorder_of(protocol)
    note = made.note

    def answering(call):
        note(call)
        if call == "data_received":
            made.transport.write(b"an answer")

    made.note = answering
    transport, recorder, peer = await connect(lambda: made)
    sending = asyncio.ensure_future(loop.sendfile(transport, file))
    await asyncio.sleep(0.02)
    await peer.send(b"a question")
    await asyncio.sleep(0.02)
    assert not sending.done()
    assert recorder.received == b""
    assert not transport.is_reading()
    assert await peer.receive_exactly(len(DATA)) == DATA
    assert await sending == len(DATA)
    assert transport.is_reading()
    assert await recorder.got(10) == b"a question"
    assert await peer.receive_exactly(9) == b"an answer"
    await shut(transport, recorder, peer)


@beyond_proactor
async def test_a_client_that_ends_its_side_gets_the_whole_file(loop, file, protocol):
    transport, recorder, peer = await connect(lambda: recorder_of(protocol))
    sending = asyncio.ensure_future(loop.sendfile(transport, file))
    await asyncio.sleep(0.02)
    peer.end()
    await asyncio.sleep(0.02)
    assert recorder.calls == ["connection_made"]
    assert await peer.receive_exactly(len(DATA)) == DATA
    assert await sending == len(DATA)
    await recorder.lost()
    assert recorder.calls == ["connection_made", "eof_received", "connection_lost"]
    peer.close()


BINARY = "file should be opened in binary mode"
COUNT = "count must be a positive integer"
OFFSET = "offset must be a non-negative integer"


@pytest.mark.parametrize("over", ["transport", "socket"])
@pytest.mark.parametrize(
    ("arguments", "refusal", "words"),
    [
        ({"count": 0}, ValueError, COUNT),
        ({"count": -1}, ValueError, COUNT),
        ({"count": 1.5}, TypeError, COUNT),
        ({"count": "all"}, TypeError, COUNT),
        ({"offset": -1}, ValueError, OFFSET),
        ({"offset": 0.5}, TypeError, OFFSET),
        ({"offset": None}, TypeError, OFFSET),
        ({"fallback": False}, ValueError, BINARY),
        ({}, ValueError, BINARY),
    ],
    ids=str,
)
async def test_arguments_that_are_refused(loop, file, over, arguments, refusal, words):
    transport, recorder, peer = await connect(Recorder)
    with open(file.name, encoding="latin-1") as text, socket.socket() as sock:
        sock.setblocking(False)
        sent = text if words is BINARY else file
        if over == "transport":
            sending = loop.sendfile(transport, sent, **arguments)
        else:
            sending = loop.sock_sendfile(sock, sent, **arguments)
        with pytest.raises(refusal, match=words):
            await sending
    assert transport.is_reading()
    transport.write(b"as ever")
    assert await peer.receive() == b"as ever"
    await shut(transport, recorder, peer)


@beyond_proactor
async def test_reading_that_was_paused_stays_paused(loop, file):
    transport, recorder, peer = await connect(Recorder)
    transport.pause_reading()
    await peer.send(b"later")
    receiving = asyncio.ensure_future(peer.receive_exactly(len(DATA)))
    assert await loop.sendfile(transport, file) == len(DATA)
    await receiving
    await spin()
    assert not transport.is_reading()
    assert recorder.received == b""
    transport.resume_reading()
    assert await recorder.got(5) == b"later"
    await shut(transport, recorder, peer)


async def test_the_peer_goes_away_in_the_middle(loop, file):
    transport, recorder, peer = await connect(Recorder)
    sending = asyncio.ensure_future(loop.sendfile(transport, file))
    await peer.receive_exactly(100_000)
    peer.reset()
    with pytest.raises(ConnectionError):
        await sending
    check_position(file)
    await shut(transport, recorder)


@pytest.mark.ours  # the standard loop waits for ever: nobody tells it that the socket is closed
@pytest.mark.parametrize("end", ["abort", "close"])
async def test_ended_by_ourselves_in_the_middle(loop, file, end):
    transport, recorder, peer = await connect(Recorder)
    sending = asyncio.ensure_future(loop.sendfile(transport, file))
    await peer.receive_exactly(100_000)
    getattr(transport, end)()
    with pytest.raises(ConnectionError):
        await sending
    check_position(file)
    await recorder.lost()
    peer.close()


@pytest.mark.ours  # there the waiter is told twice
async def test_ended_before_its_turn(loop, file):
    transport, recorder, peer = await connect(Recorder)
    transport.write(bytes(20_000_000))
    sending = asyncio.ensure_future(loop.sendfile(transport, file))
    await spin()
    transport.abort()
    with pytest.raises(ConnectionError):
        await sending
    assert file.tell() == 0
    peer.close()
    await recorder.lost()


@with_os_sendfile
async def test_cancelled_in_the_middle(loop, file, sent_by_the_system):
    transport, recorder, peer = await connect(Recorder)
    sending = asyncio.ensure_future(loop.sendfile(transport, file))
    await asyncio.sleep(0.02)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    sent = sum(sent_by_the_system)
    assert 0 < sent < len(DATA)
    receiving = asyncio.ensure_future(peer.receive_exactly(sent + 5))
    transport.write(b"after")
    assert await receiving == DATA[:sent] + b"after"
    await shut(transport, recorder, peer)


@with_os_sendfile
@pytest.mark.ours  # the standard loop leaves it where it was
async def test_the_position_after_a_cancellation(loop, file, sent_by_the_system, tcp):
    ours, _ = tcp
    sending = asyncio.ensure_future(loop.sock_sendfile(ours, file, 1000))
    await asyncio.sleep(0.02)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert file.tell() == 1000 + sum(sent_by_the_system)


async def test_one_after_another(loop, file):
    transport, recorder, peer = await connect(Recorder)
    receiving = asyncio.ensure_future(peer.receive_exactly(3 * len(DATA)))
    for _ in range(3):
        assert await loop.sendfile(transport, file) == len(DATA)
    assert await receiving == 3 * DATA
    await shut(transport, recorder, peer)


@pytest.mark.ours  # there by a KeyError
async def test_two_at_once_are_refused(loop, file):
    transport, recorder, peer = await connect(Recorder)
    sending = asyncio.ensure_future(loop.sendfile(transport, file))
    await spin()
    with pytest.raises(RuntimeError, match="already set"):
        await loop.sendfile(transport, file)
    await peer.receive_exactly(len(DATA))
    await sending
    await shut(transport, recorder, peer)


async def test_a_closing_transport_is_refused(loop, file):
    transport, recorder, peer = await connect(Recorder)
    transport.close()
    with pytest.raises(RuntimeError, match="closing"):
        await loop.sendfile(transport, file)
    await shut(transport, recorder, peer)


@with_os_sendfile
@pytest.mark.ours
async def test_other_connections_get_their_turn(loop, file, sent_by_the_system):
    """A receiver that is as quick as we are must not keep the loop to itself."""
    transport, recorder, peer = await connect(Recorder)
    turns = 0

    def turn():
        nonlocal turns
        turns += 1
        if not sending.done():
            loop.call_soon(turn)

    sending = asyncio.ensure_future(loop.sendfile(transport, file))
    loop.call_soon(turn)
    await peer.receive_exactly(len(DATA))
    await sending
    assert turns >= len(sent_by_the_system) > 1
    await shut(transport, recorder, peer)


# ------------------------------------------------------------------------------- over sockets


async def test_over_a_socket_with_a_slow_reader(loop, file, tcp, sent_by_the_system):
    ours, peer = tcp
    sending = asyncio.ensure_future(loop.sock_sendfile(ours, file))
    await asyncio.sleep(0.02)
    assert not sending.done()
    receiving = asyncio.ensure_future(peer.receive_exactly(len(DATA) + 5))
    assert await sending == len(DATA)
    await loop.sock_sendall(ours, b"after")
    assert await receiving == DATA + b"after"
    assert file.tell() == len(DATA)
    assert sent_by_the_system is None or sum(sent_by_the_system) == len(DATA)


async def test_a_part_over_a_socket(loop, file, tcp):
    ours, peer = tcp
    assert await loop.sock_sendfile(ours, file, 1000, 2000) == 2000
    assert await peer.receive_exactly(2000) == DATA[1000:3000]
    assert file.tell() == 3000


async def test_what_is_no_file_over_a_socket(loop, tcp):
    ours, peer = tcp
    assert await loop.sock_sendfile(ours, io.BytesIO(b"bytes")) == 5
    assert await peer.receive() == b"bytes"
    with pytest.raises(asyncio.SendfileNotAvailableError):
        await loop.sock_sendfile(ours, io.BytesIO(b"bytes"), fallback=False)


async def test_the_peer_of_a_socket_goes_away(loop, file, tcp):
    ours, peer = tcp
    sending = asyncio.ensure_future(loop.sock_sendfile(ours, file))
    await peer.receive_exactly(100_000)
    peer.reset()
    with pytest.raises(ConnectionError):
        await sending
    check_position(file)


async def test_debug_mode_refuses_a_blocking_socket(loop, file):
    loop.set_debug(True)
    with socket.socket() as sock:
        with pytest.raises(ValueError, match="must be non-blocking"):
            await loop.sock_sendfile(sock, file)
