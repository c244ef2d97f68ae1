"""A small HTTP server with a loop in each of several threads, all on one port.

    python examples/all_cores.py --port 8000
    curl http://127.0.0.1:8000/

Port 0, the default, takes a free one; the address is printed. Ctrl-C or SIGTERM ends it. Threads
compute at the same time in a Python without the global interpreter lock (3.13t and later); in one
with it the program runs as well, but no faster than on one loop.
"""

import argparse
import asyncio
import os
import signal
import socket
import threading

import zerio_asyncio


class Hello(asyncio.Protocol):
    """Answers each request, up to its blank line, with the name of its thread."""

    def connection_made(self, transport):
        self.transport = transport
        self.received = b""

    def data_received(self, data):
        *requests, self.received = (self.received + data).split(b"\r\n\r\n")
        for _ in requests:
            text = f"served by {threading.current_thread().name}\n".encode()
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text
            )


class Stop:
    """An event for all loops: asyncio's own belong to one loop each."""

    def __init__(self):
        self.lock = threading.Lock()
        self.waiting = []
        self.is_set = False

    async def wait(self):
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        with self.lock:
            if self.is_set:
                return
            self.waiting.append((loop, event))
        await event.wait()

    def set(self):
        with self.lock:
            self.is_set = True
            for loop, event in self.waiting:
                loop.call_soon_threadsafe(event.set)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    stop = Stop()

    async def serve(number):
        if number == 0:  # the main thread's: signals are heard there alone
            loop = asyncio.get_running_loop()
            for signal_number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(signal_number, stop.set)
            host, port = listener.socket.getsockname()
            print(f"listening on {host}:{port} ({arguments.threads} threads)", flush=True)
        async with await listener.create_server(Hello):
            await stop.wait()

    sock = socket.create_server((arguments.host, arguments.port))
    with zerio_asyncio.SharedListener(sock) as listener:
        zerio_asyncio.run_threads(serve, arguments.threads)


if __name__ == "__main__":
    main()
