"""Threads beside the loop's, and loops in several threads: with the GIL, and without it.

Nothing here is timed; what is lost shows as a test that waits for it in vain.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import importlib
import pkgutil
import queue
import re
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import zerio_asyncio
from zerio_asyncio.messaging.framing import MessageWriter
from zerio_asyncio.messaging.sending_ring import TAKEN, SendingRing
from zerio_asyncio.rio import realized

THREADS = 6
PATIENCE = 60.0
"""Seconds after which something is taken for lost."""

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
on_free_threads = pytest.mark.skipif(not FREE_THREADED, reason="this Python always has its GIL")


def at_once(count, work):
    """``work(number)`` in so many threads, which begin together; what they return."""
    ready = threading.Barrier(count)

    def begin(number):
        ready.wait(PATIENCE)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def run_beside(loop, work):
    """Run the loop until ``work``, a function for a thread of its own, has returned."""

    async def wait():
        return await asyncio.wait_for(loop.run_in_executor(None, work), PATIENCE)

    return loop.run_until_complete(wait())


# ------------------------------------------------------------------------ the ready queue


def test_no_callback_is_lost_and_each_threads_keep_their_order(loop):
    seen = [[] for _ in range(THREADS)]

    def send(number):
        for turn in range(3000):
            loop.call_soon_threadsafe(seen[number].append, turn)

    run_beside(loop, lambda: at_once(THREADS, send))
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == [list(range(3000))] * THREADS


def test_each_callback_wakes_the_loop(loop):
    """Each waits for the last one, so the loop falls asleep again and again."""

    def send(_):
        for _ in range(1000):
            told = threading.Event()
            loop.call_soon_threadsafe(told.set)
            assert told.wait(PATIENCE)

    run_beside(loop, lambda: send(0))
    run_beside(loop, lambda: at_once(3, send))


def test_a_callback_that_comes_before_the_sleep_ends_it(loop):
    """From a thread that finds the loop awake, after the loop has looked for callbacks."""
    select = loop._selector.select
    came = []

    def select_late(timeout):
        if timeout != 0 and not came:
            thread = threading.Thread(target=loop.call_soon_threadsafe, args=(came.append, 1))
            thread.start()
            thread.join()
        return select(timeout)

    loop._selector.select = select_late
    loop.call_later(5, loop.stop)
    while not came and not loop._stopping:
        loop._run_once()
    del loop._selector.select
    stopped, loop._stopping = loop._stopping, False
    assert came
    assert not stopped


def test_a_callback_runs_unless_it_was_cancelled(loop):
    ran = set()
    handles = queue.SimpleQueue()
    asked = []

    def send(number):
        for turn in range(1000):
            key = (number, turn)
            asked.append((key, loop.call_soon_threadsafe(ran.add, key)))
            handles.put(asked[-1][1])

    def cancel(_):
        for turn in range(1000):
            handle = handles.get(timeout=PATIENCE)
            if turn % 2:
                handle.cancel()
                repr(handle)

    def work():
        at_once(6, lambda number: cancel(number) if number % 2 else send(number))

    run_beside(loop, work)
    loop.run_until_complete(asyncio.sleep(0))
    assert len(asked) == 3000
    assert all(key in ran for key, handle in asked if not handle.cancelled())
    assert all(handle.cancelled() for key, handle in asked if key not in ran)


def test_what_other_threads_may_ask(loop):
    """While the loop starts and stops."""
    over = threading.Event()

    def ask(number):
        while not over.is_set():
            assert loop.is_running() in {True, False}
            if number == 0:  # another one at the same moment would be refused
                assert loop.rio_stats().slices_in_use >= 0
            assert loop.create_future().get_loop() is loop
            assert loop.time() > 0

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        loop.run_until_complete(asyncio.sleep(0))
    over.set()
    for thread in threads:
        thread.join()


def test_statistics_of_a_loop_at_work(loop):
    """Each number is one that was true; they need not be of one moment."""
    over = threading.Event()
    seen = []

    def ask():
        while not over.is_set():
            seen.append(loop.rio_stats())

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        loop.run_until_complete(asyncio.wait_for(echo(1), PATIENCE))
    finally:
        over.set()
        thread.join()
    seen.append(loop.rio_stats())
    for name in ("submissions", "completions", "system_calls", "waits", "bytes_sent"):
        counts = [getattr(stats, name) for stats in seen]
        assert counts == sorted(counts)
        assert counts[-1] > 0


@on_free_threads
def test_timers_of_wrong_threads_break_nothing(loop):
    """They are not promised to be on time."""
    fired = []

    def schedule(_):
        for turn in range(500):
            timer = loop.call_later(0.0001 * (turn % 7), fired.append, turn)
            if turn % 3 == 0:
                timer.cancel()

    run_beside(loop, lambda: at_once(THREADS, schedule))
    loop.run_until_complete(asyncio.sleep(0.01))
    assert loop._timers_total() == 0
    assert len(fired) >= THREADS * 333


@on_free_threads
def test_cancellations_by_wrong_threads_break_nothing(loop):
    """They are not promised to come before the callback, but the callback is whole or not run."""
    handles = queue.SimpleQueue()
    ran = []

    def schedule(turn):
        if turn < 3000:
            part = functools.partial(ran.append, (turn, str(turn) * 3))
            handles.put(loop.call_soon(part))
            handles.put(loop.call_later(0, part))
            loop.call_soon(schedule, turn + 1)
        else:
            for _ in range(THREADS):
                handles.put(None)

    def cancel(_):
        while (handle := handles.get(timeout=PATIENCE)) is not None:
            handle.cancel()
            assert handle.cancelled()

    loop.call_soon(schedule, 0)
    run_beside(loop, lambda: at_once(THREADS, cancel))
    loop.run_until_complete(asyncio.sleep(0.01))
    assert all(text == str(turn) * 3 for turn, text in ran)
    assert loop._timers_total() == loop._ready_total() == 0


# ------------------------------------------------------------------- loops in several threads


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def echo(number):
    """Messages of a size that spare bytes serve, all kept until the end."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    kept = []
    for turn in range(300):
        message = bytes([number, turn % 251]) * (300 + turn)
        writer.write(message)
        kept.append((message, await reader.readexactly(len(message))))
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return kept


def test_loops_in_several_threads(make_loop, provider):
    make_loop().close()  # skips where the provider is refused

    def run(number):
        for _ in range(2):
            loop = zerio_asyncio.new_event_loop(zerio_asyncio.LoopOptions(provider=provider))
            try:
                for _ in range(2):
                    kept = loop.run_until_complete(asyncio.wait_for(echo(number), PATIENCE))
                    assert all(sent == received for sent, received in kept)
            finally:
                loop.close()
        return kept

    for kept in at_once(THREADS, run):  # of threads that have ended
        assert all(sent == received for sent, received in kept)


def test_a_loop_that_moves_from_thread_to_thread(loop):
    """Spare bytes, and what is half received, are those of a thread that has ended."""
    for number in range(THREADS):
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(loop.run_until_complete, asyncio.wait_for(echo(number), PATIENCE))
            assert all(sent == received for sent, received in work.result())


FIRST_LOOPS = """
import threading, zerio_asyncio
ready = threading.Barrier(6)
def run():
    ready.wait()
    loop = zerio_asyncio.new_event_loop(zerio_asyncio.LoopOptions(provider={provider!r}))
    loop.rio_stats()
    loop.close()
threads = [threading.Thread(target=run) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.mark.timeout(300)  # five processes, each of which takes long under the thread sanitizer
def test_the_first_loops_of_a_process_in_several_threads(make_loop, provider):
    make_loop().close()  # skips where the provider is refused
    code = FIRST_LOOPS.format(provider=provider)
    for _ in range(5):
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_types_of_c_are_made_before_there_are_threads():
    """All that are written in the modules."""
    folder = Path(zerio_asyncio.__file__).parent / "rio"
    call = re.compile(r'ffi\.(?:new|cast|from_buffer|typeof)\(\s*"([^"]+)"')
    written = {
        name for path in folder.glob("*.py") for name in call.findall(path.read_text("utf-8"))
    }
    assert written
    assert set(realized.WRITTEN) >= written


# ------------------------------------------------------------------ memory that threads let go


def test_kept_bytes_do_not_change(loop):
    """Other threads keep what was received, and let it go while more comes."""
    ours, theirs = socket.socketpair()
    kept = queue.SimpleQueue()

    class Keeping(asyncio.Protocol):
        def data_received(self, data):
            kept.put(data)
            self.transport.write(data)

        def connection_made(self, transport):
            self.transport = transport

    def look(_):
        count = 0
        while (data := kept.get(timeout=PATIENCE)) is not None:
            assert data == data[:1] * len(data)
            count += len(data)
        return count

    def talk():
        for turn in range(1500):
            message = bytes([turn % 251]) * 1000
            theirs.sendall(message)
            back = bytearray()
            while len(back) < len(message):
                back += theirs.recv(4096)
            assert back == message
        for _ in range(3):
            kept.put(None)

    async def main():
        ours.setblocking(False)
        transport, _ = await loop.create_connection(Keeping, sock=ours)
        looking = loop.run_in_executor(None, at_once, 3, look)
        await asyncio.wait_for(loop.run_in_executor(None, talk), PATIENCE)
        transport.close()
        return await looking

    try:
        assert sum(loop.run_until_complete(main())) == 1500 * 1000
    finally:
        theirs.close()


def test_views_that_other_threads_let_go(loop):
    ours, theirs = socket.socketpair()
    parts = queue.SimpleQueue()

    class Keeping(zerio_asyncio.RegisteredProtocol):
        count = 0

        def view_received(self, view):
            self.count += len(view)
            parts.put((view.obj, view[1:], bytes(view)))

    def look(_):
        while (part := parts.get(timeout=PATIENCE)) is not None:
            exporter, view, wanted = part
            assert view == wanted[1:]
            try:
                memoryview(exporter).release()
            except BufferError:
                pass  # its delivery is over
            view.release()

    def talk():
        for turn in range(2000):
            theirs.sendall(bytes([turn % 251]) * (1 + turn % 5000))

    async def main():
        ours.setblocking(False)
        transport, protocol = await loop.create_connection(Keeping, sock=ours)
        looking = loop.run_in_executor(None, at_once, 3, look)
        await asyncio.wait_for(loop.run_in_executor(None, talk), PATIENCE)
        while protocol.count < sum(1 + turn % 5000 for turn in range(2000)):
            await asyncio.sleep(0.001)
        for _ in range(3):
            parts.put(None)
        await looking
        transport.close()
        while loop.rio_stats().connections:
            await asyncio.sleep(0.001)

    try:
        loop.run_until_complete(asyncio.wait_for(main(), PATIENCE))
        assert loop.rio_stats().slices_in_use == 0
    finally:
        theirs.close()


# -------------------------------------------------------------------- messages of other threads


class Sink:
    def __init__(self):
        self.written = []

    def write(self, data):
        self.written.append(bytes(data[4:]))

    def get_write_buffer_size(self):
        return 0


def test_messages_of_many_threads():
    sink = Sink()
    writer = MessageWriter(sink, lambda unsent, message: None, 1 << 20, 1 << 30)
    ring = SendingRing(32, 64)
    left = [THREADS]

    def put(number):
        for turn in range(1000):
            message = b"%d %d " % (number, turn) + bytes(turn % 300)
            while ring.put(writer, message) != TAKEN:
                time.sleep(0)  # lets go of the GIL, if there is one
        with lock:
            left[0] -= 1

    lock = threading.Lock()
    with ThreadPoolExecutor(THREADS) as pool:
        done = [pool.submit(put, number) for number in range(THREADS)]
        while left[0] or not ring.empty:
            ring.send(5)
            time.sleep(0)
        for work in done:
            work.result()
    turns = [[] for _ in range(THREADS)]
    for message in sink.written:
        number, turn, rest = message.split(b" ", 2)
        assert rest == bytes(int(turn) % 300)
        turns[int(number)].append(int(turn))
    assert turns == [list(range(1000))] * THREADS
    assert writer.waiting == 0


# --------------------------------------------------------------------- what is ours to declare


@on_free_threads
def test_a_wrong_thread_is_refused(loop):
    ours, theirs = socket.socketpair()

    async def main():
        ours.setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        for call in (lambda: transport.write(b"x"), transport.pause_reading, transport.write_eof):
            with pytest.raises(RuntimeError, match="Non-thread-safe"):
                await loop.run_in_executor(None, call)
        await loop.run_in_executor(None, transport.close)  # as a finalizer may
        while loop.rio_stats().connections:
            await asyncio.sleep(0.001)

    try:
        loop.run_until_complete(asyncio.wait_for(main(), PATIENCE))
    finally:
        theirs.close()


OF_ONE_SYSTEM = "zerio_asyncio.bench.windows"
"""A package that only its own system can import."""


def _cannot_be_imported(name):
    assert name == OF_ONE_SYSTEM


def modules():
    return [
        found.name
        for found in pkgutil.walk_packages(
            zerio_asyncio.__path__, "zerio_asyncio.", _cannot_be_imported
        )
        if not found.name.endswith((".build", "__main__"))
        and not found.name.startswith(OF_ONE_SYSTEM)
    ]


class Slot(ctypes.Structure):
    _fields_ = (("slot", ctypes.c_int), ("value", ctypes.c_void_p))


PY_MOD_GIL, NOT_USED = 4, 1
SLOTS_AT = object.__basicsize__ + 7 * ctypes.sizeof(ctypes.c_void_p)
"""``m_slots`` in a PyModuleDef: behind the head of an object, and 7 words."""


def says_of_the_gil(module):
    """What the module's slots say of the GIL; None if nothing."""
    definition = ctypes.pythonapi.PyModule_GetDef
    definition.restype = ctypes.c_void_p
    definition.argtypes = (ctypes.py_object,)
    place = definition(module)
    slots = ctypes.cast(place + SLOTS_AT, ctypes.POINTER(ctypes.POINTER(Slot)))[0]
    number = 0
    while slots[number].slot:
        if slots[number].slot == PY_MOD_GIL:
            return slots[number].value
        number += 1
    return None


@on_free_threads
@pytest.mark.parametrize(
    "name", [name for name in modules() if name.startswith("zerio_asyncio.core.")]
)
def test_modules_need_no_gil(name):
    module = importlib.import_module(name)
    if str(module.__file__).endswith(".py"):
        return
    assert says_of_the_gil(module) == NOT_USED


@on_free_threads
def test_nothing_turns_the_gil_on():
    """Told to leave it off, for cffi before 2.0 does not know that it can do without."""
    code = f"""
import importlib, sys
for name in {modules()!r}:
    try:
        importlib.import_module(name)
    except (AssertionError, ImportError):
        pass  # of Windows alone, or of what is not installed
print(sys._is_gil_enabled())
"""
    answer = subprocess.run(
        [sys.executable, "-X", "gil=0", "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["False"]
