"""How a loop waits: sleeping, spinning, and both; nothing but the time it takes may differ."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from .children import no_children_left, program
from .marks import with_fork, with_posix_children, with_posix_signals, with_switch_counts
from .support import (
    SECONDS,
    Recorder,
    connect,
    make_loop,
    recorder_of,
    shut,
    spin,
)
from .test_fork import in_child

__all__ = ["no_children_left"]

STRATEGIES = ("block", "spin", "hybrid(1)", "hybrid(300)", "hybrid(1000000)")

pytestmark = pytest.mark.ours


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    return request.param


@pytest.fixture
def loop(new_loop, strategy):
    return new_loop(wait=strategy)


@pytest.fixture
def spinning(new_loop):
    return new_loop(wait="spin")


# ---- what it waits for --------------------------------------------------------------------------


def test_a_loop_tells_its_strategy(loop, strategy):
    assert loop.wait_strategy == strategy
    assert loop.options.wait == strategy


async def test_timers_fire_in_order_and_never_early(loop):
    began = loop.time()
    fired = []
    done = loop.create_future()
    delays = [0.02, 0.0, 0.0003, 0.005, 0.0001, 0.0015, 0.01]
    for delay in delays:
        loop.call_at(began + delay, lambda delay=delay: fired.append((delay, loop.time() - began)))
    loop.call_at(began + 0.03, done.set_result, None)
    await done
    assert [delay for delay, _ in fired] == sorted(delays)
    resolution = loop._clock_resolution
    assert all(at >= delay - resolution for delay, at in fired)


async def test_a_cancelled_timer_leaves_the_others(loop):
    seen = []
    loop.call_later(0.002, seen.append, "cancelled").cancel()
    loop.call_later(0.004, seen.append, "kept")
    await asyncio.sleep(0.006)
    assert seen == ["kept"]


async def test_messages_of_every_size(loop, protocol):
    transport, recorder, peer = await connect(lambda: recorder_of(protocol))
    expected = b""
    for size in (1, 1024, 16 * 1024, 64 * 1024, 1 << 20, 3):
        data = os.urandom(size)
        sending = asyncio.ensure_future(peer.send(data))
        expected += data
        assert await recorder.got(len(expected)) == expected
        await sending
        transport.write(data)
        assert await peer.receive_exactly(size) == data
    await shut(transport, recorder, peer)


@pytest.mark.parametrize("count", [1, 2, 5, 60])
async def test_many_connections_speak_in_turn(loop, count):
    ends = [await connect(Recorder) for _ in range(count)]
    for turn in range(5):
        for _, _, peer in ends:
            peer.sock.sendall(b"%d" % turn)
        for transport, recorder, _ in ends:
            await recorder.got(turn + 1)
            transport.write(b"ok")
        for _, _, peer in ends:
            assert await peer.receive_exactly(2) == b"ok"
    for end in ends:
        await shut(*end)


async def test_a_late_answer(loop):
    """Long after a loop has given up polling the connection."""
    transport, recorder, peer = await connect(Recorder)
    for turn in range(3):
        await asyncio.sleep(0.01)
        await peer.send(b"x")
        assert await recorder.got(turn + 1)
    await shut(transport, recorder, peer)


async def test_the_end_of_a_stream_and_a_reset(loop):
    for end in ("end", "reset"):
        transport, recorder, peer = await connect(Recorder)
        await peer.send(b"last")
        await recorder.got(4)
        getattr(peer, end)()
        lost_with = await recorder.lost()
        assert isinstance(lost_with, ConnectionResetError) == (end == "reset")
        assert transport.is_closing()
        peer.close()


async def test_closing_while_a_receive_is_polled(loop):
    for abort in (False, True):
        transport, recorder, peer = await connect(Recorder)
        await peer.send(b"x")
        await recorder.got(1)
        (transport.abort if abort else transport.close)()
        assert await recorder.lost() is None
        assert await peer.receive_all() == b""
        peer.close()


async def test_datagrams(loop):
    received = loop.create_future()

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            if not received.done():
                received.set_result((data, address))

    ours, _ = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
    theirs, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    await asyncio.sleep(0.002)
    theirs.sendto(b"datagram", ours.get_extra_info("sockname"))
    data, address = await asyncio.wait_for(received, SECONDS)
    assert (data, address) == (b"datagram", theirs.get_extra_info("sockname"))
    ours.close()
    theirs.close()
    await spin()


async def test_servers_and_streams(loop):
    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for number in range(50):
        writer.write(b"%d\n" % number)
        assert await reader.readline() == b"%d\n" % number
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


@with_posix_children
@pytest.mark.usefixtures("no_children_left")
async def test_a_child_ends(loop):
    process = await program("import sys; sys.exit(7)")
    assert await asyncio.wait_for(process.wait(), SECONDS) == 7


async def test_a_watched_descriptor(loop, tcp):
    ours, peer = tcp
    ready = loop.create_future()
    loop.add_reader(ours, lambda: ready.done() or ready.set_result(None))
    await asyncio.sleep(0.002)
    peer.sock.sendall(b"x")
    await asyncio.wait_for(ready, SECONDS)
    assert loop.remove_reader(ours)


# ---- threads ------------------------------------------------------------------------------------


def test_other_threads_run_while_the_loop_waits(loop):
    """The loop has nothing to do: a thread that never gets the GIL could not stop it."""
    turns = 0

    def work():
        nonlocal turns
        for _ in range(20_000):
            turns += 1
        loop.call_soon_threadsafe(loop.stop)

    worker = threading.Thread(target=work)
    loop.call_soon(worker.start)
    loop.run_forever()
    worker.join()
    assert turns == 20_000


async def test_many_threads_wake_one_loop_and_nothing_is_lost(loop):
    threads, each = 4, 300
    seen = []
    done = loop.create_future()

    def note(thread, number):
        seen.append((thread, number))
        if len(seen) == threads * each:
            done.set_result(None)

    def work(thread):
        for number in range(each):
            loop.call_soon_threadsafe(note, thread, number)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    await asyncio.wait_for(done, SECONDS)
    for worker in workers:
        worker.join()
    for thread in range(threads):
        assert [n for t, n in seen if t == thread] == list(range(each))


def test_an_idle_loop_is_stopped_by_another_thread_again_and_again(loop):
    for _ in range(20):
        timer = threading.Timer(0.002, loop.call_soon_threadsafe, (loop.stop,))
        timer.start()
        loop.run_forever()
        timer.join()


def test_a_loop_runs_in_one_thread_after_another(loop):
    held = {}
    failures = []

    async def begin():
        held["end"] = await connect(Recorder)
        await held["end"][2].send(b"x")
        await held["end"][1].got(1)

    async def go_on():
        transport, recorder, peer = held["end"]
        await peer.send(b"y")
        assert await recorder.got(2) == b"xy"
        transport.write(b"z")
        assert await peer.receive() == b"z"
        await shut(transport, recorder, peer)

    def run(work):
        def body():
            try:
                loop.run_until_complete(work())
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join(SECONDS)
        assert not thread.is_alive()

    run(begin)
    run(go_on)
    assert not failures, failures
    assert loop.run_until_complete(asyncio.sleep(0.001, "alive")) == "alive"


# ---- signals ------------------------------------------------------------------------------------


def interrupt_soon(number):
    arguments = (threading.main_thread().ident, number)
    timer = threading.Timer(0.02, signal.pthread_kill, arguments)
    timer.start()
    return timer


@with_posix_signals
class TestSignals:
    def test_a_handler_of_the_loop(self, loop):
        loop.add_signal_handler(signal.SIGUSR1, loop.stop)
        timer = interrupt_soon(signal.SIGUSR1)
        loop.run_forever()
        timer.join()
        assert loop.remove_signal_handler(signal.SIGUSR1)

    def test_a_handler_of_the_program(self, loop):
        """It runs although the loop itself has nothing to wake for."""

        def handler(*_):
            loop.stop()

        before = signal.signal(signal.SIGUSR1, handler)
        timer = interrupt_soon(signal.SIGUSR1)
        loop.run_forever()
        timer.join()
        signal.signal(signal.SIGUSR1, before)

    def test_the_keyboards_interrupt_leaves_a_loop_that_runs_on(self, loop):
        for _ in range(3):
            timer = interrupt_soon(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                loop.run_forever()
            timer.join()
        assert loop.run_until_complete(asyncio.sleep(0.001, "alive")) == "alive"


SERVER = [sys.executable, "-m", "zerio_asyncio", "echo"]


@with_posix_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_of_the_command_line_ends_by_a_signal(kind, strategy, number):
    command = [*SERVER, "--loop", f"zerio-{kind}", "--wait", strategy]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert f"({kind}, {strategy})" in server.stdout.readline()
        server.send_signal(number)
        assert server.wait(SECONDS) == 0


# ---- processes ----------------------------------------------------------------------------------


@with_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_parent_and_child_wait_each_on_its_own_loop(loop, kind, strategy):
    def child():
        asyncio._set_running_loop(None)
        made = make_loop(kind, wait=strategy)
        with contextlib.closing(made):
            return made.run_until_complete(asyncio.sleep(0.002, "child"))

    async def parent():
        transport, recorder, peer = await connect(Recorder)
        assert in_child(child) == "child"
        await peer.send(b"parent")
        assert await recorder.got(6) == b"parent"
        await shut(transport, recorder, peer)

    loop.run_until_complete(parent())


# ---- that it is so ------------------------------------------------------------------------------


def sleeps(loop):
    """How often the thread gave up its core while the loop waited for twenty timers."""
    import resource

    async def main():
        for _ in range(20):
            await asyncio.sleep(0.001)

    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    loop.run_until_complete(main())
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before


@with_switch_counts
@pytest.mark.parametrize("asleep", ["block", "hybrid(1)"])
def test_who_blocks_sleeps(new_loop, asleep):
    assert sleeps(new_loop(wait=asleep)) >= 10  # of 20; one that is due before it waits takes none


@with_switch_counts
@pytest.mark.parametrize("awake", ["spin", "hybrid(1000000)"])
def test_who_spins_does_not(new_loop, awake):
    loop = new_loop(wait=awake)
    # A pytest run has no other threads, but the system may still put one to sleep for a page.
    assert min(sleeps(loop) for _ in range(3)) <= 2


# ---- choosing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "Spin",
        "poll",
        "hybrid()",
        "hybrid(0)",
        "hybrid(-1)",
        "hybrid(1.5)",
        "hybrid(1000001)",
        "hybrid(٣)",
        "hybrid(50) ",
    ],
)
def test_what_is_no_strategy(monkeypatch, wrong):
    import zerio_asyncio

    with pytest.raises(ValueError, match=r"wait must be 'block', 'spin' or 'hybrid\(µs\)'"):
        zerio_asyncio.LoopOptions(wait=wrong)
    monkeypatch.setenv("ZERIO_WAIT", wrong)
    if wrong:
        with pytest.raises(ValueError, match="ZERIO_WAIT: wait must be"):
            zerio_asyncio.new_event_loop()
    else:
        zerio_asyncio.new_event_loop().close()


@pytest.mark.parametrize("wrong", [50, 0.5, True, b"spin", ("hybrid", 50)])
def test_a_strategy_is_a_string(wrong):
    import zerio_asyncio

    with pytest.raises(TypeError, match="wait must be"):
        zerio_asyncio.LoopOptions(wait=wrong)


def test_the_environment_chooses_and_options_win(monkeypatch, new_loop):
    monkeypatch.delenv("ZERIO_WAIT", raising=False)
    assert new_loop().wait_strategy == "block"
    monkeypatch.setenv("ZERIO_WAIT", "spin")
    assert new_loop().wait_strategy == "spin"
    assert new_loop(wait="block").wait_strategy == "block"
    monkeypatch.setenv("ZERIO_WAIT", "hybrid")
    loop = new_loop()
    assert loop.wait_strategy == "hybrid"
    assert loop.options.wait is None
    monkeypatch.setenv("ZERIO_WAIT", "")
    assert new_loop().wait_strategy == "block"
