"""Other people's TLS on the command line: OpenSSL's and GnuTLS's clients and servers, curl, nginx.

Each program is driven by its pipes, from threads: what it is fed goes through TLS to the loop under
test, and what comes back it prints.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
import ssl
import subprocess
import tempfile
import threading
from typing import IO, TYPE_CHECKING, Any

from ..loop.issuing import Authority
from .servers import program
from .support import SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Identities:
    """An authority, and whom it certifies: a server, and a client called alice."""

    def __init__(self, folder: pathlib.Path) -> None:
        authority = Authority(folder)
        self.trusted = authority.path
        self.server = authority.issue()
        self.client = authority.issue("alice")

    def server_context(
        self, version: ssl.TLSVersion | None = None, *, demanding: bool = False
    ) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        if demanding:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.trusted)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context

    def client_context(
        self, version: ssl.TLSVersion | None = None, *, certified: bool = False
    ) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.trusted))
        if certified:
            context.load_cert_chain(self.client)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


class Program:
    """A running one; ended with its block. Its methods block, so threads call them."""

    def __init__(self, command: list[Any], **options: Any) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            **options,
        )
        self._feeding: list[threading.Thread] = []

    def feed(self, data: bytes) -> None:
        """Does not wait until it has been taken."""
        thread = threading.Thread(target=self._write, args=(data,))
        self._feeding.append(thread)
        thread.start()

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def take(self, size: int) -> bytes:
        """So many bytes of its output; fewer if it ends. Who takes too long is killed."""
        timer = threading.Timer(SECONDS, self._process.kill)
        timer.start()
        try:
            return self._process.stdout.read(size)
        finally:
            timer.cancel()

    def take_line_with(self, word: bytes) -> bytes:
        """The next line of its output that has it, or nothing at its end."""
        timer = threading.Timer(SECONDS, self._process.kill)
        timer.start()
        try:
            return next((line for line in self._process.stdout if word in line), b"")
        finally:
            timer.cancel()

    def say_no_more(self) -> None:
        """The end of its input."""
        self._join()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _join(self) -> None:
        for thread in self._feeding:
            thread.join(SECONDS)
            assert not thread.is_alive(), self.complaints()

    def ended(self) -> int:
        """Its exit status."""
        return self._process.wait(SECONDS)

    def complaints(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._join()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@contextlib.asynccontextmanager
async def running(command: list[Any], **options: Any) -> AsyncIterator[Program]:
    made = Program(command, **options)
    try:
        yield made
    finally:
        await asyncio.to_thread(made.close)


@dataclasses.dataclass(frozen=True)
class OpenSSL:
    """``s_client`` and ``s_server``; quiet ones pass everything on, and obey no letters."""

    name = "openssl"

    def client(
        self, port: int, who: Identities, *, certified: bool = False, alpn: str = ""
    ) -> list[Any]:
        command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-quiet"]
        # The end of its input is the end of what it says; letters are no commands.
        command += ["-no_ign_eof", "-nocommands"]
        command += ["-servername", "localhost", "-verify_hostname", "localhost"]
        command += ["-CAfile", who.trusted, "-verify_return_error"]
        if certified:
            command += ["-cert", who.client]
        return command + (["-alpn", alpn] if alpn else [])

    def server(
        self,
        port: int,
        who: Identities,
        version: ssl.TLSVersion,
        *,
        demanding: bool = False,
        alpn: str = "",
    ) -> list[Any]:
        command = [program("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-quiet"]
        command += ["-cert", who.server, {771: "-tls1_2", 772: "-tls1_3"}[version]]
        if demanding:
            command += ["-Verify", "2", "-CAfile", who.trusted, "-verify_return_error"]
        return command + (["-alpn", alpn] if alpn else [])

    async def echo(self, running: Program, data: bytes, reader: Any, writer: Any) -> bytes:
        """It prints what it gets, and is fed the same again."""
        writer.write(data)
        got = await asyncio.to_thread(running.take, len(data))
        running.feed(got)
        return await reader.readexactly(len(data))


@dataclasses.dataclass(frozen=True)
class GnuTLS:
    """``gnutls-cli`` and ``gnutls-serv``; the server echoes, by lines."""

    name = "gnutls"

    def client(
        self, port: int, who: Identities, *, certified: bool = False, alpn: str = ""
    ) -> list[Any]:
        command = [program("gnutls-cli"), "-p", port, "127.0.0.1", "--logfile=/dev/null"]
        command += ["--sni-hostname=localhost", "--verify-hostname=localhost"]
        command += [f"--x509cafile={who.trusted}"]
        if certified:
            command += [f"--x509certfile={who.client}", f"--x509keyfile={who.client}"]
        return command + ([f"--alpn={alpn}"] if alpn else [])

    def server(
        self,
        port: int,
        who: Identities,
        version: ssl.TLSVersion,
        *,
        demanding: bool = False,
        alpn: str = "",
    ) -> list[Any]:
        number = {771: "1.2", 772: "1.3"}[version]
        command = [program("gnutls-serv"), "--echo", "--port", port, "--quiet"]
        command += [f"--x509certfile={who.server}", f"--x509keyfile={who.server}"]
        command += [f"--priority=NORMAL:-VERS-ALL:+VERS-TLS{number}"]
        if demanding:
            command += ["--require-client-cert", "--verify-client-cert"]
            command += [f"--x509cafile={who.trusted}"]
        else:
            command += ["--disable-client-cert"]
        return command + ([f"--alpn={alpn}"] if alpn else [])

    async def echo(self, running: Program, data: bytes, reader: Any, writer: Any) -> bytes:
        """It takes no more than a line at a time, and no bytes that are no text."""
        text = data.hex().encode()
        lines = [text[at : at + 64] + b"\n" for at in range(0, min(len(text), 6400), 64)]
        for line in lines:
            writer.write(line)
            assert await reader.readexactly(len(line)) == line
        return data


PROGRAMS = [OpenSSL(), GnuTLS()]


async def until_connected(port: int, context: ssl.SSLContext, limit_s: float = SECONDS) -> Any:
    """Reader and writer, as soon as a program that was just started listens."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    while True:
        try:
            return await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="localhost"
            )
        except ConnectionRefusedError:
            assert loop.time() < deadline
            await asyncio.sleep(0.02)


class Resuming(ssl.SSLObject):
    """The side of a client that offers a session: asyncio has no option for that."""

    offered: ssl.SSLSession | None = None

    @classmethod
    def _create(cls, *arguments: Any, session: Any = None, **named: Any) -> Any:
        return super()._create(*arguments, session=session or cls.offered, **named)  # type: ignore[misc]


def resuming(session: ssl.SSLSession) -> type[Resuming]:
    return type("Offering", (Resuming,), {"offered": session})
