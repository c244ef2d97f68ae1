"""Clients in a process of their own, to be killed: each sends numbers and waits for their echo.

    python -m tests.messaging.kills PORT FIRST COUNT ROUND

Clients are named ``c0``, ``c1`` … A line ``name round number`` on the output says that the number
was acknowledged; it is written in one piece, so that a kill leaves no half of it.
"""

from __future__ import annotations

import asyncio
import os
import sys

import zerio_asyncio
from zerio_asyncio.messaging import NotConnectedError, Reconnect, connect

PAUSE = 0.02
"""Seconds between two messages of a client, so that kills meet all states."""


async def talk(port: int, name: str, round_of: int) -> None:
    """Send numbers for ever; what is not acknowledged in time is not sent again."""
    how = Reconnect(delay_min=0.01, delay_max=0.1)
    number = 0
    while True:
        try:
            async with connect(("127.0.0.1", port), name, reconnect=how) as client:
                while True:
                    text = f"{name} {round_of} {number}"
                    number += 1
                    try:
                        client.send(text.encode())
                        while await client.receive(timeout=2.0) != text.encode():
                            pass
                        os.write(1, f"{text}\n".encode())
                    except (NotConnectedError, asyncio.TimeoutError):
                        pass  # it may have arrived, or not
                    await asyncio.sleep(PAUSE)
        except OSError:
            await asyncio.sleep(PAUSE)  # the server is being restarted


async def main() -> None:
    """All clients of one process."""
    port, first, count, round_of = map(int, sys.argv[1:])
    names = [f"c{number}" for number in range(first, first + count)]
    await asyncio.gather(*(talk(port, name, round_of) for name in names))


if __name__ == "__main__":
    zerio_asyncio.run(main())
