"""What servers with several workers load: applications that work for a while, and worker classes.

``application`` (ASGI) and ``web_application`` (aiohttp) answer ``/work`` with the worker's process
and loop. gunicorn, hypercorn and granian know no factory of loops; each is given ours the way its
users can: gunicorn by a worker class, the others by the policy, which this module sets when a
worker imports it. ``ZERIO_LOOP=std`` in the environment leaves the standard loop in place.

python -m tests.apps.workers PORT WORKERS    runs granian, which has no option for it
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import warnings

from aiohttp import web
from aiohttp.worker import GunicornWebWorker

import zerio_asyncio

from .site import application as site

STANDARD = os.environ.get("ZERIO_LOOP") == "std"
LOOP = "asyncio" if STANDARD else "zerio_asyncio:new_event_loop"
WORK_SECONDS = 0.005


def install() -> None:
    if not STANDARD:
        with warnings.catch_warnings():  # policies are deprecated from 3.12 on
            warnings.simplefilter("ignore", DeprecationWarning)
            zerio_asyncio.install()


install()

EARLY = asyncio.new_event_loop()
"""With ``--preload``, of the process that the workers are forked from; it never runs there."""


def work() -> str:
    """Blocks the loop, as a computation does; but of cores there may be fewer than of workers."""
    time.sleep(WORK_SECONDS)
    provider = getattr(asyncio.get_running_loop(), "provider", "std")
    return f"{os.getpid()} {provider}"


async def application(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/work":
        body = work().encode()
        headers = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    else:
        await site(scope, receive, send)


async def answer(request: web.Request) -> web.Response:
    return web.Response(text=work(), headers={"connection": "close"})


async def web_application() -> web.Application:
    made = web.Application()
    made.add_routes([web.get("/work", answer)])
    return made


class AiohttpWorker(GunicornWebWorker):
    """As its users write it; the policy of this module makes the loop."""


class EarlyWorker(GunicornWebWorker):
    """Runs a loop that was made before the worker was forked."""

    def init_process(self) -> None:
        make, asyncio.new_event_loop = asyncio.new_event_loop, lambda: EARLY
        try:
            super().init_process()
        finally:
            asyncio.new_event_loop = make


def __getattr__(name: str) -> type:
    if name != "UvicornWorker":
        raise AttributeError(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from uvicorn.workers import UvicornWorker

    return type(name, (UvicornWorker,), {"CONFIG_KWARGS": {"loop": LOOP, "http": "auto"}})


def main(port: str, workers: str) -> None:
    from granian import Granian
    from granian.constants import Interfaces, Loops

    Granian(
        "tests.apps.workers:application",
        port=int(port),
        interface=Interfaces.ASGI,
        workers=int(workers),
        loop=Loops.asyncio,
    ).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
