"""The doctor's visit where `winsock` runs on the Registered I/O of our own (fake_rio.c).

``python -m tests.wine.doctor`` is ``python -m zerio_asyncio doctor`` with it, in each child, too;
``python -m tests.wine doctor --fake-rio`` runs that under Wine.
"""

from __future__ import annotations

import ctypes
import sys

from tests.wine import fake_rio
from zerio_asyncio import cli
from zerio_asyncio.doctor import child, steps
from zerio_asyncio.doctor.raw_winsock import Winsock


def install() -> None:
    """Have provider and facts take the fake's functions."""
    fake_rio.install()
    fake = ctypes.WinDLL(str(fake_rio.LIBRARY), use_last_error=True)  # type: ignore[attr-defined]
    fake.fake_function.restype = ctypes.c_void_p
    Winsock.replaced = {"WSAIoctl": fake.fake_ioctl, "WSASocketW": fake.fake_socket}
    for name in ("accept", "closesocket", "ioctlsocket", "recv", "send", "WSARecv", "WSASend"):
        Winsock.replaced[name] = fake._FuncPtr(fake.fake_function(name.encode()))


def main(arguments: list[str]) -> int:
    install()
    if arguments[:1] == ["--child"]:
        child.main(arguments[1:])
        return 0
    steps.CHILD = (sys.executable, "-m", __spec__.name, "--child")
    return cli.main(["doctor", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
