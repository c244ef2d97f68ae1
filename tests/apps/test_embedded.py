"""hypercorn and granian, which serve inside of a loop that the program has made."""

from __future__ import annotations

import signal

import pytest

from . import visitors
from .support import free_port, process, until_it_accepts


@pytest.mark.parametrize(
    ("server", "ready"),
    [("hypercorn", "Running on http"), ("granian", "Listening at: http")],
    ids=["hypercorn", "granian"],
)
async def test_requests_and_websockets(loop, kind, server, ready):
    port = free_port()
    async with process(["tests.apps.embedded", server, kind, str(port)], kind) as running:
        await running.printed(ready)
        await until_it_accepts(port)
        await visitors.visit(f"http://127.0.0.1:{port}", kind)
        await running.printed("the client of /endless left")
        await visitors.talk(f"ws://127.0.0.1:{port}")
        await visitors.break_off(f"ws://127.0.0.1:{port}")
        await running.printed("websocket left with")
        running.signal(signal.SIGTERM)
        assert await running.ended() == 0, running.output()
        assert "lifespan.shutdown" in running.output()
        assert "closed" in running.output()
        assert "Traceback" not in running.output()
