"""The provider `winsock` on a Registered I/O of our own (fake_rio.c), where the system has none.

A plug-in of pytest, for Wine: ``python -m tests.wine test --fake-rio`` loads it. It has the
provider take the fake's table instead of the system's, and fails each test in which the provider
broke a rule that Microsoft documents. A test that breaks one on purpose asks `violations` itself.
"""

from __future__ import annotations

import ctypes
import socket
from pathlib import Path
from typing import Any

import pytest

from zerio_asyncio.rio import _rio

LIBRARY = Path(__file__).with_suffix(".dll")
TEXT_BYTES = 1 << 20

WORKS, REFUSES, WRONG_SIZE, LACKS_ENTRY, REFUSES_QUEUES, OTHER_LAYER, CORRUPTED = range(7)
"""What the fake can be told to be (`become`)."""

_fake = ctypes.CDLL(str(LIBRARY))
_module = ctypes.CDLL(str(_rio.__file__))


def install() -> None:
    """Have the provider take the fake's table from now on; before its first use."""
    _replace(_pointer(_fake.fake_ioctl), _pointer(_fake.fake_socket))
    socket.socket._real_close = _close_with_requests  # type: ignore[attr-defined]


def remove() -> None:
    """Give the provider the system's table again."""
    _replace(None, None)
    socket.socket._real_close = _close  # type: ignore[attr-defined]


def _pointer(function: object) -> ctypes.c_void_p:
    return ctypes.cast(function, ctypes.c_void_p)  # type: ignore[arg-type]


def _replace(ioctl: ctypes.c_void_p | None, socket: ctypes.c_void_p | None) -> None:
    _module.winsock_table_replace(ioctl, socket)


_close = socket.socket._real_close  # type: ignore[attr-defined]


def _close_with_requests(sock: socket.socket, *arguments: Any) -> None:
    _fake.fake_closing(ctypes.c_size_t(sock.fileno() & (2**64 - 1)))
    _close(sock, *arguments)


def become(mode: int) -> None:
    """Be what ``mode`` says, for what is asked from now on."""
    _fake.fake_mode(mode)


def _take(function: str) -> list[str]:
    text = ctypes.create_string_buffer(TEXT_BYTES)
    getattr(_fake, function)(text, TEXT_BYTES)
    return text.value.decode().splitlines()


def record(on: bool) -> None:
    """Begin to write calls down, or end it."""
    _fake.fake_record(int(on))


def calls() -> list[str]:
    """Return what was called since the last question: a name, then ``key=value``."""
    return _take("fake_calls")


def violations() -> list[str]:
    """Return the rules that were broken since the last question."""
    return _take("fake_violations")


def pytest_configure() -> None:
    install()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    broken = violations()
    assert not broken, f"rules of Registered I/O were broken: {broken[:20]}"
