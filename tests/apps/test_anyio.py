"""anyio on its asyncio back end, whose option ``loop_factory`` takes our loop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_process
import anyio.to_thread
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSListener, TLSStream

from ..loop.support import make_loop
from .support import KIB, MIB, payload

LARGE = payload(4 * MIB)


@pytest.fixture
def run(kind, no_leaks):
    """Runs a main function as a program would, ``anyio.run`` with the loop under test."""

    def run(main, *arguments):
        async def checked():
            assert getattr(asyncio.get_running_loop(), "provider", "std") == kind
            with anyio.fail_after(60):
                return await main(*arguments)

        options = {"loop_factory": lambda: make_loop(kind)}
        return anyio.run(checked, backend="asyncio", backend_options=options)

    return run


async def echo(stream):
    async with stream:
        async for data in stream:
            await stream.send(data)
        await stream.send_eof()


async def converse(stream, count=300):
    """Small messages, then a large one in both directions at once."""
    buffered = BufferedByteReceiveStream(stream)
    for number in range(count):
        message = b"%06d" % number
        await stream.send(message)
        assert await buffered.receive_exactly(len(message)) == message
    async with anyio.create_task_group() as group:
        group.start_soon(stream.send, LARGE)
        assert await buffered.receive_exactly(len(LARGE)) == LARGE


def test_tcp(run):
    async def main():
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)

            async def client():
                async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                    await converse(stream)
                    await stream.send_eof()
                    with pytest.raises(anyio.EndOfStream):
                        await stream.receive()

            async with anyio.create_task_group() as clients:
                for _ in range(8):
                    clients.start_soon(client)
            group.cancel_scope.cancel()

    run(main)


def test_tls(run, certificate):
    async def main():
        plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
        listener = TLSListener(plain, certificate.server(), standard_compatible=False)
        port = plain.extra(anyio.abc.SocketAttribute.local_port)

        async def echo_tls(stream):
            async with stream:
                async for data in stream:
                    await stream.send(data)

        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo_tls)

            async def client():
                stream = await anyio.connect_tcp(
                    "127.0.0.1",
                    port,
                    ssl_context=certificate.client(),
                    tls_hostname="localhost",
                    tls_standard_compatible=False,
                )
                async with stream:
                    assert isinstance(stream, TLSStream)
                    await converse(stream, 100)

            async with anyio.create_task_group() as clients:
                for _ in range(4):
                    clients.start_soon(client)
            group.cancel_scope.cancel()

    run(main)


def test_unix_sockets(run, tmp_path):
    async def main():
        path = tmp_path / "anyio.sock"
        listener = await anyio.create_unix_listener(path)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            async with await anyio.connect_unix(path) as stream:
                await converse(stream)
            group.cancel_scope.cancel()

    run(main)


def test_descriptors_over_a_unix_socket(run, tmp_path):
    async def main():
        path = tmp_path / "anyio.sock"
        passed = tmp_path / "passed"
        passed.write_text("hello")

        async def give(stream):
            async with stream:
                with passed.open() as file:
                    await stream.send_fds(b"here", [file])
                assert await stream.receive() == b"thanks"

        listener = await anyio.create_unix_listener(path)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, give)
            async with await anyio.connect_unix(path) as stream:
                message, descriptors = await stream.receive_fds(10, 1)
                assert message == b"here"
                with open(descriptors[0]) as file:
                    assert file.read() == "hello"
                await stream.send(b"thanks")
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
            group.cancel_scope.cancel()

    run(main)


def test_udp(run):
    async def main():
        async with await anyio.create_udp_socket(
            family=socket.AF_INET, local_host="127.0.0.1"
        ) as server:
            port = server.extra(anyio.abc.SocketAttribute.local_port)

            async def answer():
                async for data, (host, number) in server:
                    await server.sendto(data.upper(), host, number)

            async with anyio.create_task_group() as group:
                group.start_soon(answer)
                async with await anyio.create_connected_udp_socket("127.0.0.1", port) as client:
                    for number in range(1000):
                        await client.send(b"message %d" % number)
                        assert await client.receive() == b"MESSAGE %d" % number
                    large = b"x" * 60_000
                    await client.send(large)
                    assert await client.receive() == large.upper()
                group.cancel_scope.cancel()

    run(main)


def test_unix_datagrams(run, tmp_path):
    async def main():
        path = str(tmp_path / "server.sock")
        async with await anyio.create_unix_datagram_socket(local_path=path) as server:
            mine = str(tmp_path / "client.sock")
            async with await anyio.create_connected_unix_datagram_socket(
                path, local_path=mine
            ) as client:
                for number in range(500):
                    await client.send(b"%d" % number)
                    data, sender = await server.receive()
                    assert (data, sender) == (b"%d" % number, mine)
                    await server.sendto(data, sender)
                    assert await client.receive() == data

    run(main)


def test_processes(run):
    script = "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data[::-1])"

    async def main():
        done = await anyio.run_process([sys.executable, "-c", script], input=LARGE)
        assert done.stdout == LARGE[::-1]
        done = await anyio.run_process("echo out; echo err >&2; exit 3", check=False)
        assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
        async with await anyio.open_process(["cat"]) as process:
            for number in range(200):
                await process.stdin.send(b"%d\n" % number)
                assert await process.stdout.receive() == b"%d\n" % number
            await process.stdin.aclose()
            assert await process.wait() == 0
        with anyio.move_on_after(0.1) as scope:
            await anyio.run_process(["sleep", "60"])
        assert scope.cancelled_caught

    run(main)


def test_threads(run):
    async def main():
        async with anyio.create_task_group() as group:
            results = []

            async def work(number):
                results.append(await anyio.to_thread.run_sync(pow, number, 2))

            for number in range(1000):
                group.start_soon(work, number)
        assert sorted(results) == [number**2 for number in range(1000)]

        async def square(number):
            await anyio.lowlevel.checkpoint()
            return number**2

        def back():
            return [anyio.from_thread.run(square, number) for number in range(200)]

        assert await anyio.to_thread.run_sync(back) == [number**2 for number in range(200)]

    run(main)


def test_a_portal(kind, no_leaks):
    """The loop in a thread of its own, called from this one."""
    options = {"loop_factory": lambda: make_loop(kind)}

    async def provider():
        return getattr(asyncio.get_running_loop(), "provider", "std"), threading.get_ident()

    with anyio.from_thread.start_blocking_portal("asyncio", options) as portal:
        name, thread = portal.call(provider)
        assert name == kind
        assert thread != threading.get_ident()
        for _ in range(500):
            assert portal.call(provider) == (name, thread)


def test_worker_processes(run):
    async def main():
        for number in range(20):
            assert await anyio.to_process.run_sync(pow, number, 2) == number**2

    run(main)


def test_signals(run):
    async def main():
        with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
            for _ in range(50):
                for number in (signal.SIGUSR1, signal.SIGUSR2):
                    os.kill(os.getpid(), number)
                    assert await anext(signals) == number

    run(main)


def test_cancellation_reaches_into_everything(run):
    async def main():
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        accepted = []

        async def silent(stream):
            async with stream:
                accepted.append(stream)
                await anyio.sleep_forever()

        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, silent)
            for number in range(50):
                with anyio.move_on_after(0.002 * (number % 4)) as scope:
                    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                        await stream.receive()
                assert scope.cancelled_caught
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                with anyio.move_on_after(0.1) as scope:  # until the buffers are full
                    while True:
                        await stream.send(LARGE)
                assert scope.cancelled_caught
            group.cancel_scope.cancel()

    run(main)


def test_readiness_of_sockets(run):
    async def main():
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            for number in range(300):
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.wait_readable, ours)
                    await anyio.wait_writable(theirs)
                    theirs.send(b"%d" % number)
                assert ours.recv(100) == b"%d" % number
            async with anyio.create_task_group() as group:

                async def close():
                    anyio.notify_closing(ours)

                group.start_soon(close)
                with pytest.raises(anyio.ClosedResourceError):
                    await anyio.wait_readable(ours)

    run(main)


def test_files(run, tmp_path):
    async def main():
        path = anyio.Path(tmp_path) / "file"
        await path.write_bytes(LARGE)
        async with await anyio.open_file(path, "rb") as file:
            parts = []
            while part := await file.read(100 * KIB):
                parts.append(part)
        assert b"".join(parts) == LARGE

    run(main)
