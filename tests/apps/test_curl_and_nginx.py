"""curl asks our server; nginx serves our client, and stands before our server as its client."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import re
import ssl

import pytest

from .servers import program
from .support import KIB, MIB, SECONDS, digest, free_port, payload
from .test_httpx import serving as hypercorn
from .tls_programs import VERSIONS, resuming, running, until_connected

versions = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)

NUMBERS = {ssl.TLSVersion.TLSv1_2: "1.2", ssl.TLSVersion.TLSv1_3: "1.3"}


# ------------------------------------------------------------------- as little HTTP as is needed


async def message(reader) -> tuple[str, bytes]:
    """The head of a request or an answer, and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    size = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
    return head, await reader.readexactly(int(size[1])) if size else b""


class Site:
    """Sends every body back; what TLS tells of a connection is told of each request."""

    def __init__(self):
        self.told = []

    async def handle(self, reader, writer):
        tls = writer.get_extra_info("ssl_object")
        certificate = writer.get_extra_info("peercert")
        name = certificate and dict(part[0] for part in certificate["subject"])["commonName"]
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head, body = await message(reader)
                    self.told.append((head.split()[1], tls.version(), tls.session_reused, name))
                    last = "connection: close" in head.lower()
                    ends = "Connection: close\r\n" if last else ""
                    length = f"Content-Length: {len(body)}\r\n"
                    writer.write(f"HTTP/1.1 200 OK\r\n{length}{ends}\r\n".encode() + body)
                    await writer.drain()
                    if last:
                        return
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(context):
    site = Site()
    server = await asyncio.start_server(site.handle, "127.0.0.1", 0, ssl=context, limit=4 * MIB)
    try:
        yield site, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def curl(identities, *arguments) -> tuple[int, bytes]:
    """Its exit status, and what it printed."""
    command = [program("curl"), "--silent", "--show-error", "--max-time", SECONDS]
    command += ["--cacert", identities.trusted, *arguments]
    async with running(command) as client:
        await asyncio.to_thread(client.say_no_more)
        output = await asyncio.to_thread(client.take, -1)
        return await asyncio.to_thread(client.ended), output


# ------------------------------------------------------------------------------------------ curl


@versions
async def test_curl_sends_and_gets_large_bodies(loop, identities, tmp_path, version):
    data = payload(3 * MIB)
    (tmp_path / "body").write_bytes(data)
    number = NUMBERS[version]
    async with serving(identities.server_context()) as (site, port):
        status, back = await curl(
            identities,
            *(f"--tlsv{number}", "--tls-max", number, "--http1.1", "--header", "Expect:"),
            *("--data-binary", f"@{tmp_path / 'body'}", f"https://localhost:{port}/echo"),
        )
    assert status == 0
    assert digest(back) == digest(data)
    assert site.told == [("/echo", f"TLSv{number}", False, None)]


@versions
async def test_curl_resumes(loop, identities, version):
    async with serving(identities.server_context(version)) as (site, port):
        addresses = [f"https://localhost:{port}/{turn}" for turn in range(3)]
        status, _ = await curl(identities, "--header", "Connection: close", *addresses)
    assert status == 0
    assert [(path, reused) for path, _, reused, _ in site.told] == [
        ("/0", False),
        ("/1", True),
        ("/2", True),
    ]


@versions
async def test_curl_shows_a_certificate(loop, identities, version, caught):
    async with serving(identities.server_context(version, demanding=True)) as (site, port):
        address = f"https://localhost:{port}/"
        status, _ = await curl(identities, "--cert", identities.client, address)
        assert status == 0
        status, _ = await curl(identities, address)
        assert status != 0
    assert [name for *_, name in site.told] == ["alice"]
    assert all(isinstance(told["exception"], ssl.SSLError) for told in caught.take())


async def test_curl_by_http2(loop, identities, certificate, tmp_path):
    """Agreed on by ALPN, and with many frames in both directions."""
    data = payload(MIB)
    (tmp_path / "body").write_bytes(data)
    async with hypercorn(certificate) as address:
        shown = ("--write-out", "%{http_version}", "--output", tmp_path / "back")
        for agreed, option in (("2", "--http2"), ("1.1", "--http1.1")):
            status, told = await curl(
                identities,
                *("--cacert", certificate.file, option, "--header", "Expect:", *shown),
                *("--data-binary", f"@{tmp_path / 'body'}", f"{address}/echo"),
            )
            assert status == 0
            assert told.decode() == agreed
            assert digest((tmp_path / "back").read_bytes()) == digest(data)


# ----------------------------------------------------------------------------------------- nginx


CONFIGURATION = """\
daemon off;
master_process off;
worker_processes 1;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/client;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name localhost;
        root {folder};
        ssl_certificate {server};
        ssl_certificate_key {server};
        ssl_protocols {protocol};
        ssl_session_cache builtin:100;
        {more}
    }}
}}
"""

DEMANDING = "ssl_client_certificate {trusted}; ssl_verify_client on;"

BEFORE_US = """
location / {{
    proxy_pass https://127.0.0.1:{upstream};
    proxy_http_version 1.1;
    proxy_ssl_name localhost;
    proxy_ssl_server_name on;
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate {trusted};
    proxy_ssl_certificate {client};
    proxy_ssl_certificate_key {client};
    proxy_ssl_protocols {protocol};
    proxy_ssl_session_reuse on;
}}
"""


def nginx(folder: pathlib.Path, port: int, identities, version, more: str = "", **values):
    """What starts one in a folder of its own."""
    names = {name: getattr(identities, name) for name in ("trusted", "server", "client")}
    names |= {"protocol": f"TLSv{NUMBERS[version]}", "folder": folder, "port": port, **values}
    text = CONFIGURATION.format(more=more.format(**names), **names)
    (folder / "nginx.conf").write_text(text)
    return running([program("nginx", "/usr/sbin"), "-p", folder, "-c", folder / "nginx.conf"])


async def ask(reader, writer, path: str, body: bytes = b"", *headers: str) -> tuple[str, bytes]:
    method = "POST" if body else "GET"
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    writer.write("\r\n".join([*lines, *headers, "", ""]).encode() + body)
    head, back = await asyncio.wait_for(message(reader), SECONDS)
    return head.split("\r\n")[0], back


async def close(writer):
    writer.close()
    await writer.wait_closed()


@versions
async def test_files_of_nginx(loop, identities, tmp_path, version):
    data, port = payload(4 * MIB), free_port()
    (tmp_path / "file").write_bytes(data)
    async with nginx(tmp_path, port, identities, version):
        context = identities.client_context()
        reader, writer = await until_connected(port, context)
        assert writer.get_extra_info("ssl_object").version() == f"TLSv{NUMBERS[version]}"
        for _ in range(3):
            status, back = await ask(reader, writer, "/file")
            assert status == "HTTP/1.1 200 OK"
            assert digest(back) == digest(data)
        status, _ = await ask(reader, writer, "/no-file", b"", "Connection: close")
        assert status == "HTTP/1.1 404 Not Found"
        assert await reader.read() == b"", "nginx ends the connection, in TLS and below it"
        await close(writer)


@versions
async def test_nginx_knows_us(loop, identities, tmp_path, version):
    """By our certificate, and by a session that we resume."""
    port = free_port()
    (tmp_path / "file").write_bytes(b"for alice")
    async with nginx(tmp_path, port, identities, version, DEMANDING):
        context = identities.client_context(certified=True)
        reused = []
        for _ in range(2):
            reader, writer = await until_connected(port, context)
            assert await ask(reader, writer, "/file") == ("HTTP/1.1 200 OK", b"for alice")
            tls = writer.get_extra_info("ssl_object")
            reused.append(tls.session_reused)
            context.sslobject_class = resuming(tls.session)
            await close(writer)
        assert reused == [False, True]
        reader, writer = await until_connected(port, identities.client_context())
        status, _ = await ask(reader, writer, "/file")
        assert status == "HTTP/1.1 400 Bad Request"
        await close(writer)


@versions
async def test_nginx_before_our_server(loop, identities, tmp_path, version):
    """It checks our certificate, shows its own, and resumes sessions with us."""
    port = free_port()
    context = identities.server_context(demanding=True)
    async with serving(context) as (site, upstream):
        async with nginx(tmp_path, port, identities, version, BEFORE_US, upstream=upstream):
            reader, writer = await until_connected(port, identities.client_context())
            for size in (1, 16 * KIB, 2 * MIB):
                body = payload(size)
                status, back = await ask(reader, writer, "/echo", body)
                assert status == "HTTP/1.1 200 OK"
                assert digest(back) == digest(body)
            await close(writer)
    assert [(told[1], told[3]) for told in site.told] == [(f"TLSv{NUMBERS[version]}", "alice")] * 3
    assert [told[2] for told in site.told] == [False, True, True]
