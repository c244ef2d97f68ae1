"""A chat room of messages: what one says, all others hear.

    python examples/zerio_chat.py serve --port 7072
    python examples/zerio_chat.py join 127.0.0.1:7072 Ann        (in two terminals or more)

A member who reads too slowly misses lines, and holds up nobody. Ctrl-C or SIGTERM ends the server,
the end of the input a member.
"""

import argparse
import asyncio
import signal
import sys

import zerio_asyncio
from zerio_asyncio.messaging import Connected, DisconnectCause, Disconnected, connect, serve


async def host(arguments):
    def say(text, exclude=()):
        server.broadcast(text.encode(), exclude=exclude)

    def on_message(peer, message):
        say(f"{peer.id}: {str(message, 'utf-8', 'replace')}", exclude=[peer.id])

    def on_event(event):
        if isinstance(event, Connected):
            say(f"* {event.peer.id} is here")
        elif isinstance(event, Disconnected) and event.peer.id is not None:
            say(f"* {event.peer.id} has left")

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    choices = {"on_event": on_event, "slow_peer": "drop-newest", "duplicate_peer": "refuse"}
    async with serve(arguments.port, on_message, **choices) as server:
        print(f"listening on 127.0.0.1:{server.listening_port}", flush=True)
        await stop.wait()


async def join(arguments):
    host, _, port = arguments.server.rpartition(":")
    ended = asyncio.Event()

    def on_message(message):
        print(str(message, "utf-8"), flush=True)

    def on_event(event):
        if isinstance(event, Disconnected):
            if event.reason.cause is not DisconnectCause.LOCAL:
                print(f"* the room is closed: {event.reason}", flush=True)
            ended.set()

    async def talk():
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            client.send(line.rstrip("\n").encode())

    async with connect((host, int(port)), arguments.name, on_message, on_event=on_event) as client:
        talking = asyncio.ensure_future(talk())
        ending = asyncio.ensure_future(ended.wait())
        await asyncio.wait([talking, ending], return_when=asyncio.FIRST_COMPLETED)
        talking.cancel()
        ending.cancel()


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    hosting = commands.add_parser("serve")
    hosting.add_argument("--port", type=int, default=0)
    hosting.set_defaults(command=host)
    joining = commands.add_parser("join")
    joining.add_argument("server", metavar="HOST:PORT")
    joining.add_argument("name")
    joining.set_defaults(command=join)
    arguments = parser.parse_args()
    zerio_asyncio.run(arguments.command(arguments))


if __name__ == "__main__":
    main()
