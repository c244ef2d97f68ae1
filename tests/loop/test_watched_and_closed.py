"""What was watched and closed: found by identity, its number free for whoever has it next."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from .marks import beyond_proactor, with_duplicates, with_watched_pipes

pytestmark = beyond_proactor

SIDES = [
    pytest.param("add_reader", "remove_reader", id="reader"),
    pytest.param("add_writer", "remove_writer", id="writer"),
]


def pair():
    """Two ends of a connection, non-blocking."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends


def never(*args):
    raise AssertionError("a callback of what is closed")


def on_the_number_of(closed):
    """A new connection whose first end has this number."""
    number = closed.fileno()
    closed.close()
    ours, theirs = pair()
    assert ours.fileno() == number
    return ours, theirs


@pytest.mark.parametrize(("add", "remove"), SIDES)
async def test_a_closed_socket_is_found_by_identity(loop, add, remove):
    ours, theirs = pair()
    getattr(loop, add)(ours, never)
    ours.close()
    theirs.close()
    assert getattr(loop, remove)(ours) is True
    with pytest.raises(ValueError):
        getattr(loop, remove)(ours)


async def test_the_other_side_of_a_closed_socket_can_be_removed_too(loop, kind):
    ours, theirs = pair()
    loop.add_reader(ours, never)
    loop.add_writer(ours, never)
    ours.close()
    theirs.close()
    # The standard loop's epoll complains of the first, and has forgotten both.
    if kind == "std":
        with pytest.raises(OSError):
            loop.remove_reader(ours)
    else:
        assert loop.remove_reader(ours) is True
        assert loop.remove_writer(ours) is True
    with pytest.raises(ValueError):
        loop.remove_writer(ours)


async def test_a_number_that_is_used_again_after_removing(loop):
    ours, theirs = pair()
    loop.add_reader(ours, never)
    new, peer = on_the_number_of(ours)
    assert loop.remove_reader(ours) is True
    got = loop.create_future()
    loop.add_reader(new, lambda: got.done() or got.set_result(new.recv(10)))
    peer.send(b"new")
    assert await got == b"new"
    assert loop.remove_reader(new) is True
    for sock in (theirs, new, peer):
        sock.close()


@pytest.mark.ours
@pytest.mark.parametrize("by", ["object", "number"])
async def test_a_number_that_is_used_again_without_removing(loop, by):
    """The standard loop keeps the old entry and never tells the system of the new file."""
    ours, theirs = pair()
    loop.add_reader(ours if by == "object" else ours.fileno(), never)
    new, peer = on_the_number_of(ours)
    got = loop.create_future()
    loop.add_reader(
        new if by == "object" else new.fileno(), lambda: got.done() or got.set_result(new.recv(10))
    )
    peer.send(b"new")
    assert await got == b"new"
    assert loop.remove_reader(new) is True
    for sock in (theirs, new, peer):
        sock.close()


@pytest.mark.ours
async def test_an_old_callback_is_not_the_next_ones(loop):
    ours, theirs = pair()
    loop.add_reader(ours, never)
    new, peer = on_the_number_of(ours)
    writable = loop.create_future()
    loop.add_writer(new, lambda: writable.done() or writable.set_result(True))
    peer.send(b"not for the old reader")
    await writable
    await asyncio.sleep(0.01)
    assert loop.remove_writer(new) is True
    assert loop.remove_reader(new) is False
    for sock in (theirs, new, peer):
        sock.close()


@pytest.mark.ours
async def test_removing_one_side_of_a_closed_one_watches_nobody_else(loop):
    ours, theirs = pair()
    loop.add_reader(ours, never)
    loop.add_writer(ours, never)
    new, peer = on_the_number_of(ours)
    assert loop.remove_reader(ours) is True
    peer.send(b"for nobody")
    await asyncio.sleep(0.01)
    assert loop.remove_writer(ours) is True
    for sock in (theirs, new, peer):
        sock.close()


@with_watched_pipes
async def test_the_selector_finds_what_was_closed(loop):
    ours, theirs = pair()
    loop.add_reader(ours, never)
    number = ours.fileno()
    ours.close()
    theirs.close()
    keys = loop._selector.get_map()
    assert keys[ours].fd == loop._selector.get_key(ours).fd == number
    assert ours in keys
    assert keys.get(ours).fileobj is ours
    assert loop.remove_reader(ours) is True
    with pytest.raises(ValueError):
        keys.get(ours)


@pytest.mark.ours
async def test_to_ask_for_the_next_one_leaves_the_closed_one(loop):
    ours, theirs = pair()
    loop.add_reader(ours, never)
    new, peer = on_the_number_of(ours)
    assert loop.remove_reader(new) is False
    assert loop.remove_reader(ours) is True
    for sock in (theirs, new, peer):
        sock.close()


@with_duplicates
async def test_a_file_put_over_one_that_is_watched(loop):
    """The number stays the same object's, so its callback goes on with what is there now."""
    ours, theirs = pair()
    new, peer = pair()
    got = loop.create_future()
    loop.add_reader(ours, lambda: got.done() or got.set_result(ours.recv(10)))
    os.dup2(new.fileno(), ours.fileno())
    loop.remove_reader(ours)
    loop.add_reader(ours, lambda: got.done() or got.set_result(ours.recv(10)))
    peer.send(b"over")
    assert await got == b"over"
    assert loop.remove_reader(ours) is True
    for sock in (ours, theirs, new, peer):
        sock.close()
