"""Where the rig keeps things, and the programs that it needs."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]

WINE = ("wine64", "/usr/lib/wine/wine64", "wine")
COMPILER = ("x86_64-w64-mingw32-gcc",)

PACKAGES = "apt-get install wine64 gcc-mingw-w64-x86-64 postgresql"


class RigError(Exception):
    """What is missing, or what did not work, in one sentence for the user."""


@dataclass(frozen=True)
class Places:
    """The folders of one cache."""

    cache: Path

    @property
    def python(self) -> Path:
        """The unpacked Windows CPython."""
        return self.cache / "python"

    @property
    def prefix(self) -> Path:
        """Wine's own files."""
        return self.cache / "prefix"

    @property
    def site(self) -> Path:
        """The package, its tests and its examples as they are installed for Windows."""
        return self.cache / "site"

    @property
    def peers(self) -> Path:
        """Other loops, to compare with."""
        return self.cache / "peers"

    @property
    def results(self) -> Path:
        """One JUnit file and one log for each file of tests."""
        return self.cache / "results"

    @property
    def objects(self) -> Path:
        """Generated C files and built modules."""
        return self.cache / "objects"


def default_cache() -> Path:
    """``ZERIO_WINE_CACHE``, or a folder of the user's cache."""
    chosen = os.environ.get("ZERIO_WINE_CACHE")
    if chosen:
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "zerio-asyncio" / "wine"


def program(names: tuple[str, ...]) -> str:
    """The first of ``names`` that this machine has."""
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return found
    raise RigError(f"there is no {names[0]} here; on Debian: {PACKAGES}")


def windows(path: Path) -> str:
    """How a program under Wine names ``path``."""
    return "Z:" + str(path.absolute()).replace("/", "\\")
