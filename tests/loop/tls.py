"""What the tests of TLS share: contexts, a server of streams, plain peers in threads."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .support import SECONDS, Peer, listener

if TYPE_CHECKING:
    from .issuing import Authority

# SSLProtocol of 3.10 forgets that its transport was closed.
forgetful = pytest.mark.filterwarnings(
    *["ignore:unclosed transport <asyncio.sslproto:ResourceWarning"] * (sys.version_info < (3, 11))
)

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def server_context(certificate: Path, trusted: Authority | None = None) -> ssl.SSLContext:
    """``trusted`` issues the certificates that clients must have."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if trusted is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(trusted.path)
    return context


def client_context(authority: Authority, certificate: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.path))
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


def only(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    context.minimum_version = context.maximum_version = version


@contextlib.asynccontextmanager
async def serving(
    handler: Any, context: ssl.SSLContext | None, path: str | None = None, **options: Any
) -> AsyncIterator[Any]:
    """A server of streams; its address, or its path. Ends its handlers, too."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: Any, writer: Any) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    if path is None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context, **options)
    else:
        server = await asyncio.start_unix_server(handle, path, ssl=context, **options)
    try:
        yield path or server.sockets[0].getsockname()
    finally:
        server.close()
    if tasks:
        done, late = await asyncio.wait(tasks, timeout=SECONDS)
        assert not late
        for task in done:
            task.exception()
    await server.wait_closed()


async def echo(reader: Any, writer: Any) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def close(writer: Any) -> None:
    writer.close()
    await writer.wait_closed()


def blocking_client(address: Any, context: ssl.SSLContext, name: str = "localhost") -> Any:
    """For a thread: a TLS socket that is connected."""
    plain = socket.create_connection(address, SECONDS)
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


async def connect_to_blocking(factory: Any, contexts: Any, **options: Any) -> Any:
    """A client transport of the loop, its protocol, and a Peer in TLS."""
    loop = asyncio.get_running_loop()
    with listener() as server:
        server.settimeout(SECONDS)

        def accept() -> ssl.SSLSocket:
            sock, _ = server.accept()
            sock.settimeout(SECONDS)
            return contexts[0].wrap_socket(sock, server_side=True)

        accepting = asyncio.ensure_future(asyncio.to_thread(accept))
        transport, protocol = await loop.create_connection(
            factory, *server.getsockname(), ssl=contexts[1], **options
        )
        return transport, protocol, Peer(await accepting)


def end_properly(sock: ssl.SSLSocket) -> None:
    """For a thread: exchange close_notify and close."""
    try:
        sock.unwrap().close()
    except ssl.SSLEOFError:
        sock.close()
        if sys.version_info >= (3, 11):  # SSLProtocol of 3.10 answers none
            raise
