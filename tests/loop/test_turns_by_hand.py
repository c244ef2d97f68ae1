"""Who turns the loop by hand, or puts something between the loop and its selector."""

from __future__ import annotations

import asyncio
import heapq
import selectors
import socket
import threading
from functools import partial
from unittest import mock

import pytest

from .marks import beyond_proactor
from .support import WINDOWS, listener

pytestmark = beyond_proactor


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


# ----------------------------------------------------------------------------- _run_once


def test_one_turn_a_call(loop):
    ran = []
    loop.call_soon(ran.append, 1)
    loop.call_soon(loop.call_soon, ran.append, 2)
    loop._run_once()
    assert ran == [1]
    loop._run_once()
    assert ran == [1, 2]


def test_a_turn_waits_for_the_next_timer(loop):
    ran = []
    loop.call_later(0.01, ran.append, 1)
    while not ran:
        loop._run_once()
    assert ran == [1]


def test_an_interface_that_pumps_the_loop(loop):
    """Its own event loop comes first, and turns this one between its events."""
    ran = []
    loop.call_later(0.01, ran.append, "timer")
    loop.call_soon(ran.append, "ready")
    while len(ran) < 2:
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert ran == ["ready", "timer"]
    loop.stop()
    loop.run_forever()


def serve_turn_by_turn(loop, turn):
    """An echo server whose loop is turned by ``turn``; what a client gets back."""
    server = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()
    got = []

    def client():
        with socket.create_connection(address, timeout=10) as sock:
            for number in range(20):
                sock.sendall(b"%d" % number)
                got.append(sock.recv(100))
        loop.call_soon_threadsafe(got.append, None)

    thread = threading.Thread(target=client)
    thread.start()
    while None not in got:
        turn()
    thread.join()
    server.close()
    loop.run_until_complete(asyncio.sleep(0))
    return got[:-1]


EXPECTED = [b"%d" % number for number in range(20)]


def by_hand(loop, turn, *args):
    """From 3.14 on a task takes its steps only while its loop is the running one."""
    asyncio._set_running_loop(loop)
    try:
        turn(*args)
    finally:
        asyncio._set_running_loop(None)


def test_a_server_turned_by_run_once(loop):
    assert serve_turn_by_turn(loop, lambda: by_hand(loop, loop._run_once)) == EXPECTED


def turn_as_the_standard_loop(loop):
    """What libraries do that nest loops: each step of a turn by the loop's private names."""
    ready, scheduled = loop._ready, loop._scheduled
    while scheduled and scheduled[0]._cancelled:
        heapq.heappop(scheduled)
    timeout = None
    if ready or loop._stopping:
        timeout = 0
    elif scheduled:
        timeout = max(scheduled[0]._when - loop.time(), 0)
    loop._process_events(loop._selector.select(timeout))
    end = loop.time() + loop._clock_resolution
    while scheduled and scheduled[0]._when < end:
        ready.append(heapq.heappop(scheduled))
    for _ in range(len(ready)):
        handle = ready.popleft()
        if not handle._cancelled:
            handle._run()


def test_a_server_turned_step_by_step(loop):
    turn = lambda: by_hand(loop, turn_as_the_standard_loop, loop)  # noqa: E731
    assert serve_turn_by_turn(loop, turn) == EXPECTED


def test_timers_step_by_step(loop):
    ran = []
    for number in range(5):
        loop.call_later(0.001 * number, ran.append, number)
    while len(ran) < 5:
        turn_as_the_standard_loop(loop)
    assert ran == [0, 1, 2, 3, 4]
    assert not loop._scheduled


def test_readers_step_by_step(loop):
    ours, theirs = socket.socketpair()
    seen = []
    loop.add_reader(ours, lambda: seen.append(ours.recv(10)))
    theirs.send(b"step")
    while not seen:
        turn_as_the_standard_loop(loop)
    assert seen == [b"step"]
    loop.remove_reader(ours)
    ours.close()
    theirs.close()


def test_sock_calls_step_by_step(loop):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    task = loop.create_task(loop.sock_recv(ours, 10))
    loop.call_later(0.002, theirs.send, b"step")
    while not task.done():
        by_hand(loop, turn_as_the_standard_loop, loop)
    assert task.result() == b"step"
    ours.close()
    theirs.close()


def test_another_run_once_is_used(loop):
    turns = []
    ours = loop._run_once
    loop._run_once = lambda: (turns.append(1), ours())
    try:
        loop.run_until_complete(asyncio.sleep(0.001))
        assert len(turns) >= 2
        count = len(turns)
    finally:
        del loop._run_once
    loop.run_until_complete(asyncio.sleep(0.001))
    assert len(turns) == count


def test_another_run_once_is_used_from_the_next_turn_on(loop):
    turns = []
    ours = loop._run_once

    async def main():
        loop._run_once = lambda: (turns.append(1), ours())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    try:
        loop.run_until_complete(main())
    finally:
        del loop._run_once
    assert len(turns) >= 3


def test_a_run_inside_of_a_turn(loop):
    """`_run_once` called by a callback of a loop that runs: one turn more, then the outer."""
    ran = []

    def inside():
        loop.call_soon(ran.append, "inner")
        loop._run_once()
        ran.append("after")

    loop.call_soon(inside)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert ran == ["inner", "after"]


def test_turns_in_one_thread_after_the_other(loop):
    """Nobody says when the last turn by hand was; the next may be another thread's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    got = []

    class Collecting(asyncio.Protocol):
        def data_received(self, data):
            got.append(data)

    transport, _ = loop.run_until_complete(loop.create_connection(Collecting, sock=ours))

    def turns(by, data):
        theirs.send(data)
        while data not in got:
            by()

    for data, by in (
        (b"1", loop._run_once),
        (b"2", partial(turn_as_the_standard_loop, loop)),
        (b"3", loop._run_once),
        (b"4", lambda: loop.run_until_complete(asyncio.sleep(0.001))),
    ):
        thread = threading.Thread(target=turns, args=(by, data))
        thread.start()
        thread.join()
    turns(loop._run_once, b"here")
    assert got == [b"1", b"2", b"3", b"4", b"here"]
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    theirs.close()


# ------------------------------------------------------------------------- the selector


def test_select_by_hand(loop):
    ours, theirs = socket.socketpair()
    loop.add_reader(ours, print)
    assert [key.fd for key, _ in loop._selector.select(0)] == []
    theirs.send(b"x")
    ((key, mask),) = loop._selector.select(timeout=10)
    assert key.fileobj is ours
    assert mask == selectors.EVENT_READ
    loop.remove_reader(ours)
    ours.close()
    theirs.close()


def wrapped(loop):
    """Note the time-out of each wait, as those do who measure how idle a loop is."""
    waits = []
    original = loop._selector.select

    def select(timeout=None):
        waits.append(timeout)
        return original(timeout)

    return waits, select


def test_another_select_is_used(loop):
    waits, select = wrapped(loop)
    with mock.patch.object(loop._selector, "select", select):
        loop.run_until_complete(asyncio.sleep(0.01))
        assert any(timeout is not None and 0 < timeout <= 0.01 for timeout in waits)
        assert 0 in waits
        count = len(waits)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert len(waits) == count


def test_a_server_behind_another_select(loop):
    waits, select = wrapped(loop)
    with mock.patch.object(loop._selector, "select", select):
        turns = lambda: loop.run_until_complete(asyncio.sleep(0.001))  # noqa: E731
        assert serve_turn_by_turn(loop, turns) == EXPECTED
    assert waits


def test_a_select_put_in_while_the_loop_runs(loop):
    waits, select = wrapped(loop)

    async def main():
        with mock.patch.object(loop._selector, "select", select):
            await asyncio.sleep(0.001)

    loop.run_until_complete(main())
    assert waits


class Around:
    """Another selector, around the loop's own."""

    def __init__(self, selector):
        self.selector = selector
        self.asked = 0

    def select(self, timeout=None):
        self.asked += 1
        return self.selector.select(timeout)

    def __getattr__(self, name):
        return getattr(self.selector, name)


def test_another_selector(loop):
    own = loop._selector
    loop._selector = around = Around(own)
    try:
        assert serve_turn_by_turn(loop, lambda: by_hand(loop, loop._run_once)) == EXPECTED
    finally:
        loop._selector = own
    assert around.asked > 0


def test_time_that_jumps_instead_of_waiting(loop):
    """A virtual clock: no wait is a wait, time goes on by what was asked for."""
    now = [1000.0]
    original = loop._selector.select

    def select(timeout=None):
        ready = original(0)
        if not ready and timeout:
            now[0] += timeout
        return ready

    with (
        mock.patch.object(loop, "time", partial(now.__getitem__, 0)),
        mock.patch.object(loop._selector, "select", select),
    ):
        loop.run_until_complete(asyncio.sleep(3600))
        assert now[0] == 4600.0


def test_events_are_seen_by_another_process_events(loop):
    ours, theirs = socket.socketpair()
    seen = []
    got = loop.create_future()
    original = loop._process_events
    loop._process_events = lambda events: (seen.extend(events), original(events))
    loop.add_reader(ours, lambda: got.done() or got.set_result(ours.recv(10)))
    theirs.send(b"x")
    assert loop.run_until_complete(got) == b"x"
    assert ours in [key.fileobj for key, _ in seen]
    del loop._process_events
    loop.remove_reader(ours)
    ours.close()
    theirs.close()


# --------------------------------------------------------------------------- Handle._run


def monitored(names):
    """In the place of ``Handle._run``: note the callback, and run it as before."""
    original = asyncio.events.Handle._run

    def run(self):
        names.append(getattr(self._callback, "__name__", repr(self._callback)))
        return original(self)

    return mock.patch.object(asyncio.events.Handle, "_run", run)


def callback_of_the_test():
    pass


def timer_of_the_test():
    pass


@pytest.mark.parametrize("debug", [False, True])
def test_a_monitor_sees_every_callback(loop, debug):
    loop.set_debug(debug)
    names = []
    with monitored(names):
        loop.call_soon(callback_of_the_test)
        loop.call_later(0.001, timer_of_the_test)
        loop.call_later(0.002, loop.stop)
        loop.run_forever()
    assert names.count("callback_of_the_test") == 1
    assert names.count("timer_of_the_test") == 1
    count = len(names)
    loop.run_until_complete(asyncio.sleep(0))
    assert len(names) == count


def test_a_monitor_that_comes_while_the_loop_runs(loop):
    names = []

    async def main():
        with monitored(names):
            await asyncio.sleep(0)
            loop.call_soon(callback_of_the_test)
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert "callback_of_the_test" in names


def test_a_monitor_of_timers_alone(loop):
    names = []
    original = asyncio.TimerHandle._run

    def run(self):
        names.append(self._callback.__name__)
        return original(self)

    with mock.patch.object(asyncio.TimerHandle, "_run", run):
        loop.call_soon(callback_of_the_test)
        loop.call_later(0, timer_of_the_test)
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
    assert names == ["timer_of_the_test", "stop"]


def test_errors_under_a_monitor(loop, caught):
    def fails():
        raise LookupError

    with monitored([]):
        loop.call_soon(fails)
        loop.run_until_complete(asyncio.sleep(0))
    (context,) = caught.take()
    assert isinstance(context["exception"], LookupError)
    assert "fails" in context["message"]


def test_what_monitors_read_of_a_handle(loop):
    handle = loop.call_soon(callback_of_the_test)
    assert handle._callback is callback_of_the_test
    assert handle._args == ()
    assert handle._context is not None
    assert handle._loop is loop
    assert asyncio.base_events._format_handle(handle).startswith("<Handle callback_of_the_test")
    loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.skipif(WINDOWS, reason="the proactor accepts by an operation of its own")
def test_a_listener_of_its_own_step_by_step(loop):
    with listener() as server:
        server.setblocking(False)
        task = loop.create_task(loop.sock_accept(server))
        client = socket.create_connection(server.getsockname())
        while not task.done():
            by_hand(loop, turn_as_the_standard_loop, loop)
        connection, _ = task.result()
        connection.close()
        client.close()
