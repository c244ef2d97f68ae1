"""A page of a website: what the row ``https`` asks of uvicorn, and what must come back.

The answer is the same each time, to the byte, for uvicorn is told to name neither itself nor the
date. So the generator compares all of it, as it does with an echo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable
    from pathlib import Path

BODY = b"Hello, World!"

REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n"

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]


async def application(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - ASGI's own
    """Answer with the page."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


def serve(
    loop: asyncio.AbstractEventLoop,
    listener: socket.socket,
    certificate: Path,
    ready: Callable[[], None],
) -> None:
    """Run uvicorn on a loop until the process is told to end; ``ready`` is called once."""
    import uvicorn  # noqa: PLC0415 - only one row needs it

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
