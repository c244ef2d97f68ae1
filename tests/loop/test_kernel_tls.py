"""Contexts that allow the system's own TLS (kTLS); OpenSSL starts it on sockets of its own alone.

Neither asyncio nor we give it one, so the option must change nothing, and files go the long way.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from .support import Recorder, listener
from .tls import VERSIONS, close, connect_to_blocking, echo, forgetful, only, serving

pytestmark = [forgetful, pytest.mark.tls]

ENABLE_KTLS = getattr(ssl, "OP_ENABLE_KTLS", 1 << 3)
"""From 3.12 on ``ssl`` names it."""

TCP_ULP = 31


def refusal() -> str:
    """Why the system has no TLS of its own; "" if it has. Others than Linux know no such option."""
    with listener() as server, socket.create_connection(server.getsockname()) as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        except OSError as error:
            return str(error)
    return ""


with_kernel_tls = pytest.mark.skipif(
    refusal() != "", reason=f"this system has no TLS of its own: {refusal()}"
)


@pytest.fixture
def allowing(contexts):
    for context in contexts:
        context.options |= ENABLE_KTLS
    return contexts


@pytest.mark.parametrize("version", VERSIONS)
async def test_much_goes_both_ways(loop, allowing, version):
    only(allowing[0], version)
    data = bytes(range(256)) * 8_000
    async with serving(echo, allowing[0]) as address:
        reader, writer = await asyncio.open_connection(*address, ssl=allowing[1])
        for size in (1, 1000, len(data)):
            writer.write(data[:size])
            assert await reader.readexactly(size) == data[:size]
        await close(writer)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_file_is_read_and_written(loop, allowing, version, tmp_path):
    only(allowing[0], version)
    transport, recorder, peer = await connect_to_blocking(Recorder, allowing)
    data = bytes(range(256)) * 3_000
    (tmp_path / "file").write_bytes(data)
    receiving = asyncio.ensure_future(peer.receive_exactly(len(data) + 4))
    with (tmp_path / "file").open("rb") as file:
        with pytest.raises(RuntimeError, match="fallback is disabled"):
            await loop.sendfile(transport, file, fallback=False)
        assert await loop.sendfile(transport, file) == len(data)
        assert file.tell() == len(data)
    transport.write(b"tail")
    assert await receiving == data + b"tail"
    transport.abort()
    await recorder.lost()
    peer.close()


@with_kernel_tls
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_peer_whose_system_encrypts(loop, allowing, version):
    """A blocking socket of ``ssl`` is OpenSSL's own, so there the system does the work."""
    only(allowing[0], version)
    transport, recorder, peer = await connect_to_blocking(Recorder, allowing)
    with pytest.raises(OSError):  # it has it already
        peer.sock.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
    data = bytes(range(256)) * 8_000
    sending = asyncio.ensure_future(peer.send(data))
    assert await recorder.got(len(data)) == data
    await sending
    transport.write(data)
    assert await peer.receive_exactly(len(data)) == data
    transport.abort()
    await recorder.lost()
    peer.close()
