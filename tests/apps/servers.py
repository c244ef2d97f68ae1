"""Redis and PostgreSQL, the real ones, on loopback in temporary directories."""

from __future__ import annotations

import glob
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

from .support import SECONDS, free_port

if TYPE_CHECKING:
    from .certificates import Certificate

POSTGRES = "/usr/lib/postgresql/*/bin"
"""Where Debian has programs that are not on the path."""


PACKAGES = {
    "curl": "curl",
    "gnutls-cli": "gnutls-bin",
    "gnutls-serv": "gnutls-bin",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "redis-cli": "redis-tools",
    "redis-server": "redis-server",
}
"""Of Debian, that have programs which are not PostgreSQL's."""


def program(name: str, *places: str) -> str:
    """The path of a program; fails with what to install."""
    found = shutil.which(name) or next(
        (path for place in places for path in sorted(glob.glob(f"{place}/{name}"), reverse=True)),
        None,
    )
    assert found, f"no {name} here: install the Debian package {PACKAGES.get(name, 'postgresql')}"
    return found


def until(answers: list[str], process: subprocess.Popen[bytes], log: pathlib.Path) -> None:
    """Repeats a command until it succeeds, that is, until the server is up."""
    deadline = time.monotonic() + SECONDS
    while subprocess.run(answers, capture_output=True).returncode != 0:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


class Redis:
    def __init__(self, folder: pathlib.Path, certificate: Certificate) -> None:
        self.port, self.tls_port = free_port(), free_port()
        self._certificate = certificate
        self.unix = str(folder / "redis.sock")
        self._folder = folder

    def __enter__(self):
        command = [program("redis-server"), "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--unixsocket", self.unix, "--dir", str(self._folder)]
        command += ["--save", "", "--appendonly", "no"]
        command += ["--tls-port", str(self.tls_port), "--tls-auth-clients", "no"]
        own = self._certificate
        command += ["--tls-cert-file", str(own.file), "--tls-key-file", str(own.key)]
        command += ["--tls-ca-cert-file", str(own.file)]
        log = self._folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        ping = [program("redis-cli"), "-p", str(self.port), "ping"]
        until(ping, self._process, log)
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)


class Postgres:
    """A cluster of its own, with TLS where there is a certificate for it.

    PostgreSQL refuses root, so root runs it as ``postgres``.
    """

    USER = "tester"

    def __init__(self, certificate: Certificate | None = None) -> None:
        self.port = free_port()
        self._certificate = certificate

    def __enter__(self):
        # A directory of pytest is closed to the other user.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="zerio-postgres."))
        try:
            self._start()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        return self

    def _start(self) -> None:
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        else:
            self._as = {}
        data = self.folder / "data"
        initdb = [program("initdb", POSTGRES), "-D", str(data), "-U", self.USER, "-A", "trust"]
        initdb += ["-N", "-E", "UTF8", "--locale=C"]
        done = subprocess.run(initdb, capture_output=True, text=True, cwd="/", **self._as)
        assert done.returncode == 0, done.stdout + done.stderr
        if self._certificate is not None:
            self._give(data / "server.key", self._certificate.key_bytes)
            self._give(data / "server.crt", self._certificate.certificate_bytes)
        command = [program("postgres", POSTGRES), "-D", str(data), "-p", str(self.port)]
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "ssl": "off" if self._certificate is None else "on",
            "fsync": "off",
            "max_connections": "50",
        }
        for setting in settings.items():
            command += ["-c", "=".join(setting)]
        log = self.folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, cwd="/", **self._as
            )
        ready = [program("pg_isready", POSTGRES), "-h", "127.0.0.1", "-p", str(self.port)]
        until(ready, self._process, log)

    def _give(self, path: pathlib.Path, content: bytes) -> None:
        path.write_bytes(content)
        path.chmod(0o600)
        os.chown(path, self._as.get("user", -1), self._as.get("group", -1))

    def __exit__(self, *exception: object) -> None:
        self._process.send_signal(2)  # a "fast" shutdown: clients are disconnected
        self._process.wait(SECONDS)
        shutil.rmtree(self.folder)
