"""An echo server as an asyncio.BufferedProtocol: it brings its own buffer to receive into.

    python examples/echo_buffered.py --port 8000
    printf 'hello\n' | nc -N 127.0.0.1 8000

Port 0, the default, takes a free one; the address is printed. Ctrl-C or SIGTERM ends it.
"""

import argparse
import asyncio
import signal

import zerio_asyncio


class Echo(asyncio.BufferedProtocol):
    """Receives into one buffer for its whole life; write() copies what it is given."""

    def __init__(self):
        self.buffer = memoryview(bytearray(64 * 1024))

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.transport.write(self.buffer[:nbytes])

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    server = await loop.create_server(Echo, arguments.host, arguments.port)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        print(f"listening on {host}:{port} ({loop.provider})", flush=True)
        await stop.wait()


if __name__ == "__main__":
    zerio_asyncio.run(main())
