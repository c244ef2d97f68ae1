"""How soon a loss is noticed: the other side is killed, hangs, restarts, or its cable is pulled.

    python -m tests.messaging.losses --keepalive 3

The other side is a process of its own. For the cable it is in a network namespace, whose link is
taken down: that needs root, and Linux. The figures of docs/messaging.md are made by this.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

import zerio_asyncio
from zerio_asyncio.messaging import Connected, Disconnected, Reconnect, connect, serve

WAYS = ("killed", "hung", "restarted", "cable, idle", "cable, sending")

OURS, THEIRS = "10.213.77.1", "10.213.77.2"
"""Addresses of the two ends of the cable."""


class Ends:
    """Remembers when connections began and ended."""

    def __init__(self):
        self.times = asyncio.Queue()

    def learn(self, event):
        if isinstance(event, (Connected, Disconnected)):
            self.times.put_nowait((type(event), time.monotonic(), event))

    async def next(self, kind):
        while True:
            seen, when, event = await self.times.get()
            if seen is kind:
                return when, event


async def other(*arguments, space=None):
    """The other side as a process; returns when it has said that it is there."""
    into = ["ip", "netns", "exec", space] if space else []
    process = await asyncio.create_subprocess_exec(
        *into,
        *(sys.executable, "-m", "tests.messaging.losses", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
    )
    line = await process.stdout.readline()
    assert line, "the other side did not begin"
    return process, int(line)


async def end(process):
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGCONT)
        process.kill()
    await process.communicate()


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def cable():
    """A namespace, and a cable to it; gives the name of the one and of our end of the other."""
    space, near, far = (f"{name}{os.getpid()}" for name in ("zerio", "zn", "zf"))
    ip("netns", "add", space)
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", space)
        ip("addr", "add", f"{OURS}/30", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", space, "addr", "add", f"{THEIRS}/30", "dev", far)
        ip("-n", space, "link", "set", far, "up")
        yield space, near
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", near)
        ip("netns", "del", space)


async def lose_client(way, keepalive):
    """Seconds until a server knew, and the event that told it."""
    ends = Ends()
    with contextlib.ExitStack() as stack:
        pulled = way.startswith("cable")
        space, link = stack.enter_context(cable()) if pulled else (None, None)
        server = serve(
            0,
            lambda *_: None,
            host=OURS if pulled else "127.0.0.1",
            on_event=ends.learn,
            keepalive=keepalive,
        )
        async with server:
            address = server._address[0], server.listening_port
            more = ["--pings"] if way == "hung" else []
            process, _ = await other(
                "client", *address, "--keepalive", keepalive, *more, space=space
            )
            sending = asyncio.ensure_future(send(server)) if "sending" in way else None
            try:
                await ends.next(Connected)
                await asyncio.sleep(0.2)
                began = time.monotonic()
                if pulled:
                    ip("link", "set", link, "down")
                else:
                    process.send_signal(signal.SIGKILL if way == "killed" else signal.SIGSTOP)
                ended, event = await ends.next(Disconnected)
            finally:
                if sending is not None:
                    sending.cancel()
                await end(process)
    return ended - began, event


async def send(server):
    while True:
        server.broadcast(bytes(100))
        await asyncio.sleep(0.02)


async def restart_server(keepalive):
    """Seconds until a client knew, until it was back after the new start, and the first event."""
    ends = Ends()
    process, port = await other("server", "127.0.0.1", 0)
    how = Reconnect(delay_min=0.05, delay_max=0.1)
    try:
        address = "127.0.0.1", port
        async with connect(address, "me", on_event=ends.learn, reconnect=how, keepalive=keepalive):
            await ends.next(Connected)
            began = time.monotonic()
            await end(process)
            ended, event = await ends.next(Disconnected)
            process, _ = await other("server", "127.0.0.1", port)
            again = time.monotonic()
            back, _ = await ends.next(Connected)
    finally:
        await end(process)
    return ended - began, max(0.0, back - again), event


async def be_other(arguments):
    """The other side: there until it is killed."""
    if arguments.what == "server":
        async with serve(arguments.port, lambda *_: None) as server:
            print(server.listening_port, flush=True)
            await asyncio.Event().wait()
    address = arguments.host, arguments.port
    choices = {"extensions": arguments.pings, "keepalive": arguments.keepalive}
    async with connect(address, "other", lambda _: None, **choices):
        print(0, flush=True)
        await asyncio.Event().wait()


async def show(keepalive):
    for way in WAYS:
        if way == "restarted":
            seconds, back, event = await restart_server(keepalive)
            print(f"{way:15} {seconds:5.2f} s, back after {back:.2f} s more: {event.reason}")
            continue
        seconds, event = await lose_client(way, keepalive)
        print(f"{way:15} {seconds:5.2f} s: {event.reason}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", default="show", choices=("show", "client", "server"))
    parser.add_argument("host", nargs="?", default="127.0.0.1")
    parser.add_argument("port", nargs="?", type=int, default=0)
    parser.add_argument("--keepalive", type=float, default=3.0)
    parser.add_argument("--pings", action="store_true", help="of the client, with extensions")
    arguments = parser.parse_args()
    work = show(arguments.keepalive) if arguments.what == "show" else be_other(arguments)
    zerio_asyncio.run(work)


if __name__ == "__main__":
    main()
