"""Run the Windows CPython of the cache under Wine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .places import WINE, Places, RigError, program, windows

FIRST_TIMEOUT_S = 120
LOOK_S = 0.2
PATIENCE_S = 10
SERVER = ("wineserver", "/usr/lib/wine/wineserver64", "/usr/lib/wine/wineserver")


def environment(places: Places) -> dict[str, str]:
    """What programs under Wine see of this process's environment, and ours."""
    places.prefix.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        "WINEPREFIX": str(places.prefix.absolute()),
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml=",  # no dialogue about .NET and HTML
        "PYTHONPATH": windows(places.site),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
    }


def command(places: Places, *arguments: str) -> list[str]:
    """The command line for this Python with ``arguments``."""
    python = places.python / "python.exe"
    if not python.exists():
        raise RigError(f"there is no Python in {places.cache}: run python -m tests.wine setup")
    return [program(WINE), str(python), *arguments]


def logged(
    places: Places, log: Path, watch: Callable[[], bool], more: dict[str, str], *arguments: str
) -> int | None:
    """Run with output to ``log`` and ``more`` in the environment; the exit status.

    None if ``watch``, asked again and again, was false and the program was ended therefore. The
    output goes through a pipe: under Wine a console is one only if standard output is.
    """
    with (
        log.open("wb") as file,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file) as cat,
        subprocess.Popen(
            command(places, *arguments),
            stdin=subprocess.DEVNULL, stdout=cat.stdin, stderr=subprocess.STDOUT,
            cwd=places.site if places.site.exists() else None,
            env={**environment(places), **more}, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        assert cat.stdin is not None
        cat.stdin.close()
        status = None
        while watch() and status is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(LOOK_S)
        with contextlib.suppress(ProcessLookupError):  # with what it left behind
            os.killpg(process.pid, signal.SIGKILL)
        try:
            cat.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:  # what is in no group of its holds the pipe
            cat.kill()
    return status


def stop(places: Places) -> None:
    """End what still runs in this prefix."""
    _server(places, "-k")


def _server(places: Places, option: str) -> None:
    _quietly(places, program(SERVER), option)


def _quietly(places: Places, *arguments: str) -> None:
    # What stays in the background must not keep a pipe open that somebody reads to its end.
    none = subprocess.DEVNULL
    subprocess.run(arguments, env=environment(places), stdin=none, stdout=none, stderr=none)


@contextlib.contextmanager
def server(places: Places) -> Iterator[None]:
    """Keep Wine's server and services up meanwhile: a start takes half a second instead of two.

    They are also in process groups of their own then, not in that of the first program, which may
    have to be killed.
    """
    _server(places, "-p")
    try:
        _quietly(places, program(WINE), "wineboot")
        yield
    finally:
        stop(places)


def output(places: Places, *arguments: str) -> str:
    """What a short program writes; a failure is a `RigError` with its output."""
    log = places.cache / "output"
    deadline = time.monotonic() + FIRST_TIMEOUT_S
    with server(places):
        status = logged(places, log, lambda: time.monotonic() < deadline, {}, *arguments)
    text = log.read_text(errors="replace").strip()
    if status != 0:
        raise RigError(f"Python under Wine ended with {status}: {text[-2000:]}")
    return text
