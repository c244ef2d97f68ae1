"""An echo server as an asyncio.Protocol: what most servers are.

    python examples/echo_protocol.py --port 8000
    printf 'hello\n' | nc -N 127.0.0.1 8000

Port 0, the default, takes a free one; the address is printed. Ctrl-C or SIGTERM ends it.
"""

import argparse
import asyncio
import signal

import zerio_asyncio


class Echo(asyncio.Protocol):
    """Sends back what it receives, and stops reading while the client does not keep up."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

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
