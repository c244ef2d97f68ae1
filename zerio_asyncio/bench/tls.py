"""What the rows of TLS need: a certificate, and an OpenSSL for the native half.

The certificate is made when the rows run, signed by itself, on the curve P-256: the generator
trusts anybody, and servers need one. Every loop gets a context as programs make it, with the
versions and ciphers that are the interpreter's own choice.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.util
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from zerio_asyncio.bench import system
from zerio_asyncio.bench._native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "localhost"
DAYS = 30
COMMAND = ("openssl", "req", "-x509", "-nodes", "-batch", "-newkey", "ec", "-pkeyopt",
           "ec_paramgen_curve:P-256", "-subj", f"/CN={NAME}", "-days", str(DAYS))  # fmt: skip


def refusal() -> str | None:
    """Why there are no rows of TLS here; None if there are."""
    if not system.HAS_TLS_ROWS:
        return "they are for Linux"
    if lib.tls_version() == ffi.NULL:
        return "the generator finds no libssl.so.3 or libssl.so.1.1"
    if shutil.which(COMMAND[0]) is None and importlib.util.find_spec("cryptography") is None:
        return "a certificate takes the command openssl, or the package cryptography"
    return None


@contextlib.contextmanager
def certificate() -> Iterator[Path]:
    """A file with a new key and its certificate, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="zerio-bench.") as folder:
        target = Path(folder, "server.pem")
        if shutil.which(COMMAND[0]) is not None:
            _by_command(target)
        else:
            _by_package(target)
        yield target


def _by_command(target: Path) -> None:
    key = target.with_suffix(".key")
    subprocess.run(
        [*COMMAND, "-keyout", key, "-out", target], check=True, capture_output=True, timeout=60
    )
    target.write_bytes(key.read_bytes() + target.read_bytes())


def _by_package(target: Path) -> None:
    from cryptography import x509  # noqa: PLC0415 - only where there is no command
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, NAME)])
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=DAYS))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    target.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))


def server_context(path: Path) -> ssl.SSLContext:
    """What a server of any loop speaks TLS with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
