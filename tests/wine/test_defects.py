"""Where Wine differs from Windows, shown without anything of ours: why some tests are left out.

A test here that fails says that Wine has been mended, and that what rests on it can go.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

SECONDS = 3.0


def under_wine() -> bool:
    if sys.platform != "win32":
        return False
    import ctypes

    return hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")


pytestmark = pytest.mark.skipif(not under_wine(), reason="these are defects of Wine")


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    return one, other


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh", 1, 0))
    sock.close()


def run(main: Any) -> None:
    loop = asyncio.ProactorEventLoop()  # type: ignore[attr-defined]
    try:
        loop.run_until_complete(main(loop))
    finally:
        loop.close()


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """An accept that failed leaves its socket to the collector; not to that of the next file."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_a_reset_before_the_first_receive_reads_as_the_end() -> None:
    one, other = pair()
    reset(other)
    assert one.recv(1) == b""  # Windows: WSAECONNRESET
    one.close()


def test_a_send_that_begins_after_the_peer_has_closed_never_ends() -> None:
    """Windows ends it with WSAECONNRESET or WSAECONNABORTED."""

    async def main(loop: Any) -> None:
        one, other = pair()
        one.setblocking(False)
        other.close()
        sending = asyncio.ensure_future(loop.sock_sendall(one, b"x" * 5_000_000))
        done, _ = await asyncio.wait([sending], timeout=SECONDS)
        assert not done
        sending.cancel()
        await asyncio.wait([sending])
        one.close()

    run(main)


def test_an_accept_ends_with_the_code_of_a_socket_that_is_not_connected() -> None:
    """Windows drops a client that is gone, or gives its socket."""

    async def main(loop: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            accepting = asyncio.ensure_future(loop.sock_accept(server))
            await asyncio.sleep(0.05)
            reset(socket.create_connection(server.getsockname()))
            with pytest.raises(OSError) as refusal:
                await asyncio.wait_for(accepting, SECONDS)
            assert refusal.value.winerror in {10057, 59}  # type: ignore[attr-defined]

    run(main)


def test_a_datagram_socket_of_another_loopback_address_sends_from_the_first() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        one.bind(("127.0.0.1", 0))
        one.settimeout(SECONDS)
        other.bind(("127.1.1.1", 0))
        other.sendto(b"x", one.getsockname())
        assert one.recvfrom(1)[1][0] == "127.0.0.1"  # Windows: 127.1.1.1
