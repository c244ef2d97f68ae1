"""grpc.aio, whose poller is a thread of its own that wakes the loop through a socket pair.

Messages are plain bytes: what is tested is the traffic, not the code generator.
"""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest

from .support import KIB, MIB, digest, in_parallel, parts_of, payload

SIZES = [
    ("grpc.max_receive_message_length", 64 * MIB),
    ("grpc.max_send_message_length", 64 * MIB),
    ("grpc.so_reuseport", 0),
]


class Service:
    def __init__(self) -> None:
        self.cancelled = asyncio.Semaphore(0)
        self.begun = asyncio.Semaphore(0)

    async def echo(self, request, context):
        return request

    async def fail(self, request, context):
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, request.decode())

    async def wait(self, request, context):
        self.begun.release()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.release()
            raise

    async def count(self, request, context):
        try:
            for number in range(int(request)):
                yield b"%d" % number
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.release()
            raise

    async def digest(self, requests, context):
        return digest([part async for part in requests]).encode()

    async def converse(self, requests, context):
        async for request in requests:
            yield request

    def handlers(self):
        return grpc.method_handlers_generic_handler(
            "Service",
            {
                "echo": grpc.unary_unary_rpc_method_handler(self.echo),
                "fail": grpc.unary_unary_rpc_method_handler(self.fail),
                "wait": grpc.unary_unary_rpc_method_handler(self.wait),
                "count": grpc.unary_stream_rpc_method_handler(self.count),
                "digest": grpc.stream_unary_rpc_method_handler(self.digest),
                "converse": grpc.stream_stream_rpc_method_handler(self.converse),
            },
        )


@contextlib.asynccontextmanager
async def serving(certificate=None):
    service = Service()
    server = grpc.aio.server(options=SIZES)
    server.add_generic_rpc_handlers([service.handlers()])
    if certificate is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = (certificate.key_bytes, certificate.certificate_bytes)
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    service.server, service.port = server, port
    try:
        yield service
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def connecting(service, certificate=None):
    address = f"localhost:{service.port}"
    if certificate is None:
        channel = grpc.aio.insecure_channel(address, options=SIZES)
    else:
        trust = grpc.ssl_channel_credentials(certificate.certificate_bytes)
        channel = grpc.aio.secure_channel(address, trust, options=SIZES)
    async with channel:
        yield channel


@pytest.fixture(scope="module", autouse=True)
def poller():
    """What grpc opens once for the process is open, and stays, while descriptors are counted."""

    async def first():
        async with serving() as service, connecting(service) as channel:
            assert await channel.unary_unary("/Service/echo")(b"x") == b"x"
        return grpc.aio.insecure_channel("localhost:1")

    loop = asyncio.SelectorEventLoop()
    channel = loop.run_until_complete(first())
    yield
    loop.run_until_complete(channel.close())
    loop.close()


@pytest.fixture(params=["plain", "tls"])
def tls(request, certificate):
    return certificate if request.param == "tls" else None


async def test_thousands_of_calls(loop, tls):
    async with serving(tls) as service, connecting(service, tls) as channel:
        echo = channel.unary_unary("/Service/echo")

        async def client(number):
            for turn in range(100):
                message = f"{number} {turn}".encode()
                assert await echo(message) == message

        await in_parallel(20, work=client)


async def test_large_messages(loop, tls):
    async with serving(tls) as service, connecting(service, tls) as channel:
        echo = channel.unary_unary("/Service/echo")
        for size in (0, 1, 64 * KIB + 1, 3 * MIB, 16 * MIB):
            message = payload(size)
            assert await echo(message) == message


async def test_a_stream_down(loop, tls):
    async with serving(tls) as service, connecting(service, tls) as channel:
        call = channel.unary_stream("/Service/count")(b"3000")
        assert [int(number) async for number in call] == list(range(3000))


async def test_a_stream_up(loop, tls):
    data = payload(8 * MIB)

    async def parts():
        for part in parts_of(data, 30_011):
            yield part

    async with serving(tls) as service, connecting(service, tls) as channel:
        assert await channel.stream_unary("/Service/digest")(parts()) == digest(data).encode()


async def test_conversations(loop, tls):
    async with serving(tls) as service, connecting(service, tls) as channel:
        converse = channel.stream_stream("/Service/converse")

        async def client(number):
            call = converse()
            for turn in range(100):
                message = f"{number} {turn}".encode()
                await call.write(message)
                assert await call.read() == message
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF

        await in_parallel(10, work=client)


async def test_errors(loop):
    async with serving() as service, connecting(service) as channel:
        for method, code, details in (
            ("fail", grpc.StatusCode.FAILED_PRECONDITION, "not today"),
            ("nothing", grpc.StatusCode.UNIMPLEMENTED, "Method not found!"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(f"/Service/{method}")(b"not today")
            assert (caught.value.code(), caught.value.details()) == (code, details)


async def test_cancellations(loop):
    async with serving() as service, connecting(service) as channel:
        wait = channel.unary_unary("/Service/wait")
        calls = [wait(b"") for _ in range(20)]
        for _ in calls:
            await service.begun.acquire()
        for call in calls:
            call.cancel()
        for call in calls:
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await call.code() is grpc.StatusCode.CANCELLED
        for _ in calls:
            await service.cancelled.acquire()

        stream = channel.unary_stream("/Service/count")(b"10000000")
        async for number in stream:
            if int(number) == 100:
                stream.cancel()
                break
        await service.cancelled.acquire()
        assert await channel.unary_unary("/Service/echo")(b"still there?") == b"still there?"


async def test_deadlines(loop):
    async with serving() as service, connecting(service) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/Service/wait")(b"", timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_server_stops_with_calls_open(loop):
    async with serving() as service, connecting(service) as channel:
        call = channel.unary_unary("/Service/wait")(b"")
        await service.begun.acquire()
        await service.server.stop(grace=None)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
