"""A page of a website: what the rows of HTTP ask of servers, and what must come back.

One is a bare Protocol, the others are uvicorn, with httptools and with TLS too, and aiohttp. The
answer is the same each time and from each of them, to the byte, for they are told to name neither
themselves nor the date. So the generator compares all of it, as it does with an echo.
"""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

HTTP, UVICORN, AIOHTTP, HTTPS = MODES = ("http", "uvicorn", "aiohttp", "https")

NEEDED = {
    HTTP: (),
    UVICORN: ("uvicorn", "httptools"),
    AIOHTTP: ("aiohttp",),
    HTTPS: ("uvicorn", "httptools"),
}
"""The packages of each."""

BODY = b"Hello, World!"

REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n"

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]

END = b"\r\n\r\n"
"""Where a request ends, which has no body."""


def refusal(mode: str) -> str | None:
    """Why a server cannot run here; None if it can."""
    missing = [name for name in NEEDED[mode] if importlib.util.find_spec(name) is None]
    return f"install {' and '.join(missing)}" if missing else None


class Page(asyncio.Protocol):
    """Answers each request with the page, as cheaply as Python can."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        """Answer what is complete; keep the rest."""
        if self.rest:
            data = self.rest + data
        count = data.count(END)
        if count:
            self.transport.write(ANSWER * count)
        self.rest = b"" if data.endswith(END) else data[data.rfind(END) + len(END) :]


async def application(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - ASGI's own
    """Answer with the page."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


def serve(
    mode: str,
    loop: asyncio.AbstractEventLoop,
    listener: socket.socket,
    ready: Callable[[], None],
    certificate: Path | None = None,
) -> None:
    """Run a server on a loop until the process is told to end; ``ready`` is called once."""
    if mode in (UVICORN, HTTPS):
        _serve_uvicorn(loop, listener, ready, certificate)
        return
    start = _start_aiohttp(listener) if mode == AIOHTTP else _start_bare(loop, listener)
    server = loop.run_until_complete(start)
    ready()
    loop.run_forever()
    del server


async def _start_bare(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> Any:
    return await loop.create_server(Page, sock=listener)


async def _start_aiohttp(listener: socket.socket) -> Any:
    from aiohttp import web  # noqa: PLC0415 - only one row needs it

    headers = {name.decode(): value.decode() for name, value in HEADERS}

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=BODY, headers=headers)

    async def shorten(_: web.Request, response: web.StreamResponse) -> None:
        for name in ("Date", "Server"):
            response.headers.pop(name, None)

    app = web.Application()
    app.router.add_get("/", page)
    app.on_response_prepare.append(shorten)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner


def _serve_uvicorn(
    loop: asyncio.AbstractEventLoop,
    listener: socket.socket,
    ready: Callable[[], None],
    certificate: Path | None,
) -> None:
    import uvicorn  # noqa: PLC0415 - only two rows need it

    class Telling(uvicorn.Server):  # type: ignore[misc, unused-ignore]  # may be missing
        """Says when it serves."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    config = uvicorn.Config(
        application,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        ssl_certfile=certificate,
        ssl_keyfile=certificate,
    )
    loop.run_until_complete(Telling(config).serve(sockets=[listener]))
