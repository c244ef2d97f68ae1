"""Runs ``site.application`` by a server that serves inside of a running loop.

python -m tests.apps.embedded hypercorn|granian LOOP PORT
"""

from __future__ import annotations

import asyncio
import signal
import sys

from ..loop.support import make_loop
from .site import application


async def hypercorn(port: int) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    await serve(application, config)


async def granian(port: int) -> None:
    from granian.constants import Interfaces
    from granian.server.embed import Server

    server = Server(application, port=port, interface=Interfaces.ASGI)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    await server.serve()


def main(name: str, kind: str, port: str) -> None:
    loop = make_loop(kind)
    loop.run_until_complete({"hypercorn": hypercorn, "granian": granian}[name](int(port)))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    print("closed", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
