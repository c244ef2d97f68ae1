"""The provider `winsock` on a Registered I/O of our own (fake_rio.c), where the system has none.

A plug-in of pytest, for Wine: ``python -m tests.wine test --fake-rio`` loads it. It has the
provider take the fake's table instead of the system's, leads what Python and we call of Winsock
through the fake (fake_rio_hooks.c), and fails each test in which the provider broke a rule. A test
that breaks one on purpose asks `violations` itself. ``ZERIO_FAKE_RIO`` (a number) has other rules
for the whole run than those of Windows.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

LIBRARY = Path(__file__).with_suffix(".dll")
TEXT_BYTES = 1 << 20

WORKS, REFUSES, WRONG_SIZE, LACKS_ENTRY, REFUSES_QUEUES, OTHER_LAYER, CORRUPTED, REFUSES_BUFFERS = (
    range(8)
)
"""What the fake can be told to be (`become`)."""

NO_BLOCKING_MODE, NO_PLAIN_CALLS, FLAGS_MATCH, NO_DATAGRAM_BUFFER = 1, 2, 4, 8
CLOSE_ABORTS, NEEDS_A_SOCKET, CLOSE_RESETS = 16, 32, 64
AS_WINDOWS = int(os.environ.get("ZERIO_FAKE_RIO", "127"))
COMMIT_FAILS, ACKNOWLEDGED, BURSTS = 128, 256, 512
LAYERED, WAIT_PACKETS, PACKETS_LATE = 1024, 2048, 4096
"""Rules (`follow`); fake_rio.h tells what each is."""

_fake = ctypes.CDLL(str(LIBRARY))


def _hook(module: str) -> ctypes.CDLL:
    """Lead a module's calls of Winsock through the fake; before the module asks for functions."""
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    loaded = ctypes.CDLL(found.origin)
    hooked = _fake.fake_hook(ctypes.c_void_p(loaded._handle))
    assert hooked, f"{module} calls nothing of Winsock"
    return loaded


# A worker that others start has it already; it asks for its functions when it is imported.
_overlapped = _hook("_overlapped") if "_overlapped" not in sys.modules else None
_socket = _hook("_socket")
import pytest  # noqa: E402

from zerio_asyncio.rio import _rio  # noqa: E402

_module = _hook(_rio.__name__)
_fake.fake_rules(AS_WINDOWS)


def install() -> None:
    """Have the provider take the fake's table from now on; before its first use."""
    _replace(_pointer(_fake.fake_ioctl), _pointer(_fake.fake_socket))


def remove() -> None:
    """Give the provider the system's table again."""
    _replace(None, None)


def _pointer(function: object) -> ctypes.c_void_p:
    return ctypes.cast(function, ctypes.c_void_p)  # type: ignore[arg-type]


def _replace(ioctl: ctypes.c_void_p | None, socket: ctypes.c_void_p | None) -> None:
    _module.winsock_table_replace(ioctl, socket)


def become(mode: int) -> None:
    """Be what ``mode`` says, for what is asked from now on."""
    _fake.fake_mode(mode)


def follow(rules: int) -> None:
    """Follow these rules from now on."""
    _fake.fake_rules(rules)


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
    assert _overlapped is not None, "it came too late"
    install()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    broken = violations()
    assert not broken, f"rules of Registered I/O were broken: {broken[:20]}"
