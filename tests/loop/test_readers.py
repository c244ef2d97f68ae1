"""The readers of a loop whose base class has none, on any system, with a port that only notes."""

from __future__ import annotations

import asyncio
import socket

import pytest

from zerio_asyncio.loop.windows.readers import Readers

READ, WRITE = 0, 1


class Noting:
    """What `Readers` wants of a loop."""

    _thread_id = None  # it does not run

    def __init__(self):
        self.watched = {}
        self.ran = []

    def _watch(self, descriptor, mask):
        self.watched[descriptor] = mask

    def _check_closed(self):
        pass

    def is_closed(self):
        return False

    def get_debug(self):
        return False

    def _add_callback(self, handle):
        self.ran.append(handle._args)


@pytest.fixture
def noting():
    return Noting()


@pytest.fixture
def two():
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def test_one_side_after_the_other(noting, two):
    readers = Readers(noting)
    number = two[0].fileno()
    readers.add(two[0], READ, print, ("read",))
    readers.add(number, WRITE, print, ("write",))
    assert noting.watched == {number: 3}
    readers.ready([(number, 3)])
    assert noting.ran == [("read",), ("write",)]
    assert readers.remove(two[0], READ)
    assert noting.watched == {number: 2}
    assert readers.remove(number, WRITE)
    assert not readers.remove(number, WRITE)
    assert noting.watched == {number: 0}


def test_a_closed_socket_is_found_by_identity(noting, two):
    readers = Readers(noting)
    number = two[0].fileno()
    readers.add(two[0], READ, print, ())
    readers.add(two[0], WRITE, print, ())
    two[0].close()
    assert readers.remove(two[0], READ)
    assert noting.watched == {number: 0}
    assert readers.remove(two[0], WRITE)
    with pytest.raises(ValueError):
        readers.remove(two[0], WRITE)


def test_a_number_that_is_used_again(noting, two):
    readers = Readers(noting)
    number = two[0].fileno()
    readers.add(two[0], READ, print, ("old",))
    two[0].close()
    new, peer = socket.socketpair()
    assert new.fileno() == number
    assert not readers.remove(new, READ)
    readers.add(new, WRITE, print, ("new",))
    assert noting.watched == {number: 2}
    readers.ready([(number, 3)])
    assert noting.ran == [("new",)]
    with pytest.raises(ValueError):
        readers.remove(two[0], READ)
    assert readers.remove(new, WRITE)
    new.close()
    peer.close()


def test_closing_forgets_them_all(noting, two):
    readers = Readers(noting)
    readers.add(two[0], READ, asyncio.sleep, ())
    readers.add(two[1], READ, asyncio.sleep, ())
    readers.close(noting)
    assert set(noting.watched.values()) == {0}
    assert not readers.remove(two[0], READ)
