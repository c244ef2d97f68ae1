"""Run the Windows CPython of the cache under Wine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from .places import WINE, Places, RigError, program, windows

FIRST_TIMEOUT_S = 300  # the first run makes the prefix
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


def logged(places: Places, log: Path, timeout_s: float, *arguments: str) -> int | None:
    """Run with output to ``log``; the exit status, or None if the time was over.

    The output goes through a pipe: under Wine a console is one only if standard output is.
    """
    with (
        log.open("wb") as file,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file) as cat,
        subprocess.Popen(
            command(places, *arguments),
            stdin=subprocess.DEVNULL, stdout=cat.stdin, stderr=subprocess.STDOUT,
            cwd=places.site if places.site.exists() else None,
            env=environment(places), start_new_session=True,
        ) as process,
    ):  # fmt: skip
        assert cat.stdin is not None
        cat.stdin.close()
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stop(places)
            return None


def stop(places: Places) -> None:
    """End what still runs in this prefix."""
    for name in SERVER:
        server = shutil.which(name)
        if server is not None:
            subprocess.run([server, "-k"], env=environment(places), check=False)
            return


def output(places: Places, *arguments: str) -> str:
    """What a short program writes; a failure is a `RigError` with its output."""
    log = places.cache / "output"
    status = logged(places, log, FIRST_TIMEOUT_S, *arguments)
    text = log.read_text(errors="replace").strip()
    if status != 0:
        raise RigError(f"Python under Wine ended with {status}: {text[-2000:]}")
    return text
