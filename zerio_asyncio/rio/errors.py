"""Winsock codes as Python's ``OSError``.

Every provider speaks Winsock codes (provider rule 9 in rio.h); the one map from a code to the
``errno`` that Python programs test is C's ``rio_errno``. `os_error` is what Python's own calls of
the system raise: the subclass that belongs to the code (``ConnectionResetError`` and its like), and
on Windows the code in ``winerror``. `winsock_error` adds the code's name and the call's.

Codes: https://learn.microsoft.com/windows/win32/winsock/windows-sockets-error-codes-2
"""

from __future__ import annotations

import os
import sys
from typing import Any, cast

from zerio_asyncio.rio._rio import ffi, lib

_WINSOCK_BASE = 10000  # WSABASEERR: all but the two overlapped codes lie above it


def _names() -> dict[int, str]:
    names = {
        lib.RIO_OPERATION_ABORTED: "WSA_OPERATION_ABORTED",
        lib.RIO_IO_PENDING: "WSA_IO_PENDING",
    }
    for name in dir(lib):
        value = getattr(lib, name)
        if name.startswith("RIO_E") and isinstance(value, int) and value > _WINSOCK_BASE:
            names[value] = f"WSA{name.removeprefix('RIO_')}"
    return names


_NAMES = _names()


class RioError(OSError):
    """A refused call, or a request that failed.

    It is also an instance of the built-in class for its errno, so ``except ConnectionResetError``
    works. ``winsock`` is the provider's code, on every system.
    """

    winsock: int = 0
    doing: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by code: the combined classes have no importable name."""
        return winsock_error, (self.winsock, self.doing)


_classes: dict[type[OSError], type[RioError]] = {OSError: RioError}


if sys.platform == "win32":

    def _text(code: int) -> str:
        told = ffi.getwinerror(code)
        return told[1].rstrip() if told is not None else ""

    def _arguments(code: int, text: str) -> tuple[Any, ...]:
        """OSError's; it takes errno from the last one."""
        return 0, text, None, code

else:

    def _text(code: int) -> str:
        return os.strerror(lib.rio_errno(code))

    def _arguments(code: int, text: str) -> tuple[Any, ...]:
        """OSError's."""
        return lib.rio_errno(code), text


def _class_for(base: type[OSError]) -> type[RioError]:
    """RioError joined with what Python itself raises."""
    found = _classes.get(base)
    if found is None:
        members = {"__doc__": f"{base.__name__} with a Winsock code.", "__module__": __name__}
        found = cast("type[RioError]", type(f"Rio{base.__name__}", (RioError, base), members))
        _classes[base] = found
    return found


def code_name(code: int) -> str:
    """Return a code's name: ``WSAENOBUFS`` for 10055; for a number without a name, its digits."""
    return _NAMES.get(code, str(code))


def os_error(code: int) -> OSError:
    """Make (do not raise) the exception that Python's own calls raise for a Winsock code."""
    return OSError(*_arguments(code, _text(code)))


def winsock_error(code: int, doing: str = "") -> RioError:
    """Make (do not raise) the exception for a Winsock code; ``doing`` names the failed call."""
    base = os_error(code)
    place = f"{doing}: " if doing else ""
    text = f"{place}{base.strerror} ({code_name(code)})"
    made = _class_for(type(base))(*_arguments(code, text))
    made.winsock = code
    made.doing = doing
    return made


def check(code: int, doing: str) -> None:
    """Raise if a call returned a code instead of 0."""
    if code:
        raise winsock_error(code, doing)


def last_error(doing: str) -> RioError:
    """Make the exception for this thread's last refused call."""
    return winsock_error(lib.rio_last_error(), doing)
