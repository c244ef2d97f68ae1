"""The keys and certificates of certificates.py, or, without its package, those of a command.

cryptography has no wheel for 3.13 without the GIL, and wants a compiler of its own. Where it is
missing, the command openssl makes the same (3.0 or later; it has no days before now to begin with,
so what shall be over ends before it begins).
"""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
LOCAL = "subjectAltName=DNS:localhost,IP:127.0.0.1"


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class CommandedAuthority:
    """Issues certificates; its own, self-signed, is in the file ``path``."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._issued = 0
        self._key = folder / f"{name}.key"
        self.path = folder / f"{name}.pem"
        uses = "keyUsage=critical,digitalSignature,keyCertSign,cRLSign"
        _openssl("req", "-x509", *KEY, "-keyout", self._key, "-out", self.path, "-days", 1,
                 "-subj", f"/CN={name}", "-addext", uses)  # fmt: skip

    def issue(self, name: str = "localhost", days: int = 1) -> Path:
        """A new key and a certificate for ``name``, valid for so many days, in one file."""
        self._issued += 1
        path = self._folder / f"{self._issued}-{name}.pem"
        key, request = path.with_suffix(".key"), path.with_suffix(".request")
        names = LOCAL if name == "localhost" else f"subjectAltName=DNS:{name}"
        _openssl("req", *KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}",
                 "-addext", names)  # fmt: skip
        _openssl("x509", "-req", "-in", request, "-CA", self.path, "-CAkey", self._key,
                 "-copy_extensions", "copy", "-days", days, "-out", path)  # fmt: skip
        path.write_bytes(key.read_bytes() + path.read_bytes())
        return path


def make_by_command(folder: Path) -> Path:
    """Write a new key and its certificate into one file of ``folder``; it is its own authority."""
    path, key = folder / "localhost.pem", folder / "localhost.key"
    _openssl("req", "-x509", *KEY, "-keyout", key, "-out", path, "-days", 1,
             "-subj", "/CN=localhost", "-addext", LOCAL)  # fmt: skip
    path.write_bytes(key.read_bytes() + path.read_bytes())
    return path


if TYPE_CHECKING or find_spec("cryptography") is not None:
    from .certificates import Authority, make
else:
    Authority, make = CommandedAuthority, make_by_command

__all__ = ["Authority", "make"]
