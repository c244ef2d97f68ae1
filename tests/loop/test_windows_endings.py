"""Whole programs on Windows: interrupts wake a sleeping loop, and ends are without noise."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap

import pytest

from .support import WINDOWS

pytestmark = [
    pytest.mark.skipif(not WINDOWS, reason="what ends a program otherwise is in other files"),
    pytest.mark.ours,
]

HEAD = """
import asyncio, signal, socket, struct, sys, threading, _thread
import zerio_asyncio

def run(main):
    with asyncio.Runner(loop_factory=zerio_asyncio.new_event_loop) as runner:
        return runner.run(main)
"""


def run(code: str) -> tuple[int, str, str]:
    """Status, output and errors of a program."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONWARNINGS": "ignore::ResourceWarning"},
    )
    return done.returncode, done.stdout.strip(), done.stderr.strip()


@pytest.mark.parametrize(
    "interrupt", ["_thread.interrupt_main()", "signal.raise_signal(signal.SIGINT)"]
)
def test_an_interrupt_wakes_a_sleeping_loop(kind, interrupt):
    """By the handler of Runner: the task is cancelled, and run() raises."""
    status, output, errors = run(f"""
        async def main():
            threading.Timer(0.1, lambda: {interrupt}).start()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                print("cancelled")
                raise

        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert (status, output.split(), errors) == (0, ["cancelled", "interrupted"], "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGBREAK", "SIGTERM"])
def test_a_signal_with_a_handler_wakes_a_sleeping_loop(kind, name):
    status, output, errors = run(f"""
        async def main():
            ended = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.{name}, ended.set)
            threading.Timer(0.1, signal.raise_signal, (signal.{name},)).start()
            await ended.wait()
            print("handled")

        run(main())
    """)
    assert (status, output, errors) == (0, "handled", "")


def test_what_is_left_open_ends_without_a_word(kind):
    """A server and transports that outlive their loop are collected after it."""
    status, output, errors = run("""
        kept = []

        async def main():
            server = await asyncio.start_server(lambda *both: kept.append(both), "127.0.0.1", 0)
            kept.append(server)
            kept.append(await asyncio.open_connection(*server.sockets[0].getsockname()))
            await asyncio.sleep(0.05)

        run(main())
        kept.clear()
        print("end")
    """)
    assert (status, output, errors) == (0, "end", "")


def test_a_child_that_outlives_its_loop_ends_without_a_word(kind):
    """Its transport, its pipes and theirs are collected in any order."""
    status, output, errors = run("""
        import gc

        pipe = asyncio.subprocess.PIPE

        async def start():
            return await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()",
                stdin=pipe, stdout=pipe, stderr=pipe,
            )

        for _ in range(3):
            child = run(start())
            del child
            gc.collect()
        print("end")
    """)
    assert (status, output, errors) == (0, "end", "")


def test_a_peer_that_resets_leaves_no_trace(kind):
    status, output, errors = run("""
        async def serve(reader, writer):
            try:
                while data := await reader.read(100):
                    writer.write(data)
            except ConnectionError:
                print("reset")
            writer.close()
            ended.set()

        async def main():
            global ended
            ended = asyncio.Event()
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            for _ in range(5):
                ended.clear()
                client = socket.create_connection(server.sockets[0].getsockname())
                await asyncio.to_thread(client.sendall, b"x")
                await asyncio.to_thread(client.recv, 1)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh", 1, 0))
                client.close()
                await ended.wait()
            server.close()
            await server.wait_closed()

        run(main())
        print("end")
    """)
    assert status == 0
    assert output.split() == ["reset"] * 5 + ["end"]
    assert errors == ""


CHILDREN = 70
"""More than the 63 that one WaitForMultipleObjects can wait for."""


@pytest.mark.timeout(150)  # a program starts in a quarter of a second under Wine
def test_more_children_than_one_wait_can_have(loop):
    code = "import sys; sys.exit(int(sys.argv[1]) + len(sys.stdin.read()))"

    async def main():
        children = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-c", code, str(number), stdin=asyncio.subprocess.PIPE
            )
            for number in range(CHILDREN)
        ]
        waiting = [asyncio.ensure_future(child.wait()) for child in children]
        await asyncio.sleep(0)
        assert not any(one.done() for one in waiting)
        for child in children:
            child.stdin.write(b"x")
            child.stdin.close()
        assert await asyncio.gather(*waiting) == list(range(1, CHILDREN + 1))

    loop.run_until_complete(main())
