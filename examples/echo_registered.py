"""An echo server as a RegisteredProtocol: it looks at the registered memory itself.

    python examples/echo_registered.py --port 8000
    printf 'hello\n' | nc -N 127.0.0.1 8000

No bytes object is made for what is received: view_received() gets a memoryview onto the slice
into which the system received. The view is good until view_received() returns; what is needed
longer must be copied. Port 0 takes a free one; Ctrl-C or SIGTERM ends it.
"""

import argparse
import asyncio
import signal

import zerio_asyncio


class Echo(zerio_asyncio.RegisteredProtocol):
    """Sends back what it sees; write() copies the view before it returns."""

    def connection_made(self, transport):
        self.transport = transport

    def view_received(self, view):
        self.transport.write(view)

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
