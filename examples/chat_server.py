"""A chat room: every line goes to everybody else, with the name of who wrote it.

    python examples/chat_server.py --port 8000
    nc 127.0.0.1 8000        (in two terminals or more; the first line is your name)

A member who reads too slowly is dropped, so that one cannot hold up the room or fill the memory.
Port 0, the default, takes a free one; the address is printed. Ctrl-C or SIGTERM ends it.
"""

import argparse
import asyncio
import signal

import zerio_asyncio

UNSENT_MAX = 1024 * 1024  # bytes that may wait for one slow member: a few thousand lines


class Room:
    """Who is there, and what is said to them."""

    def __init__(self):
        self.members = {}

    def say(self, text, besides=None):
        line = text.encode() + b"\n"
        for name, writer in list(self.members.items()):
            if name == besides:
                continue
            if writer.transport.get_write_buffer_size() > UNSENT_MAX:
                writer.transport.abort()
            else:
                writer.write(line)

    async def join(self, reader, writer):
        writer.write(b"your name?\n")
        name = (await reader.readline()).decode(errors="replace").strip()
        if not name or name in self.members:
            writer.write(b"that name is taken or empty\n")
            writer.close()
            return
        self.members[name] = writer
        self.say(f"* {name} is here")
        try:
            while line := await reader.readline():
                self.say(f"{name}: {line.decode(errors='replace').rstrip()}", besides=name)
        except (ConnectionError, ValueError):
            pass  # gone in the middle, or a line beyond every measure
        finally:
            del self.members[name]
            self.say(f"* {name} has left")
            writer.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    room = Room()
    server = await asyncio.start_server(room.join, arguments.host, arguments.port)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"listening on {host}:{port} ({loop.provider})", flush=True)
    await stop.wait()
    server.close()
    room.say("* the room closes")
    for writer in list(room.members.values()):
        writer.close()


if __name__ == "__main__":
    zerio_asyncio.run(main())
