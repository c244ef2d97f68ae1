"""An echo server on Registered I/O itself, without asyncio.

    python examples/rio_echo.py --port 7777            # then, elsewhere: nc 127.0.0.1 7777
    python examples/rio_echo.py --port 0 --provider epoll

It shows the whole life of a connection: accept, a request queue, a slice of registered memory that
receives and is then sent back, the end of the stream, retirement. It prints its address, and ends
on Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import errno
import signal
import socket
import time

from zerio_asyncio.rio import (
    BufferPool,
    CompletionPort,
    CompletionQueue,
    Event,
    Kind,
    RequestQueue,
    Result,
    RioError,
)

SLICE = 16 * 1024  # bytes: the most that one turn of a connection echoes
ACCEPT_AGAIN = 0.1  # seconds to wait when the system had no descriptor left


class Connection:
    """One client: its socket, its requests, and the one slice that goes back and forth."""

    def __init__(self, server: EchoServer, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.requests = server.request_queue(sock, self)
        self.slice = server.pool.take()
        self.requests.receive(self.slice, "receive")

    def completed(self, result: Result) -> None:
        """Take one result: what was received goes back, what was sent makes room."""
        finished = result.status or (result.context == "receive" and not result.transferred)
        if finished or self.requests.closed:
            self.close()
        elif result.context == "receive":
            self.requests.send(self.slice.part(0, result.transferred), "send")
        else:
            self.requests.receive(self.slice, "receive")

    def close(self) -> None:
        """Give everything back. There is one request at a time, and its result has come."""
        self.requests.close()
        self.sock.close()
        self.server.pool.give(self.slice)
        self.server.connections.discard(self)


class EchoServer:
    """A port, one completion queue for all connections, and a pool of slices."""

    def __init__(self, host: str, port: int, provider: str | None) -> None:
        self.port = CompletionPort(provider)
        self.results = CompletionQueue(256, self.port)
        self.pool = BufferPool(self.port.provider, SLICE)
        self.connections: set[Connection] = set()
        self.stopping = False
        self.accept_at: float | None = None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, port), family=family, backlog=512)
        self.listener.setblocking(False)
        self.port.accept(self.listener)

    def request_queue(self, sock: socket.socket, connection: Connection) -> RequestQueue:
        """One receive or send at a time; the completion queue grows with its users."""
        try:
            return RequestQueue(sock, self.results, context=connection)
        except RioError as refusal:
            if refusal.errno != errno.ENOBUFS:
                raise
            self.results.resize(self.results.size * 2)
            return RequestQueue(sock, self.results, context=connection)

    def run(self) -> None:
        """Serve until `stop`: drain, arm, sleep."""
        while not self.stopping:
            self.drain()
            self.results.notify()
            timeout = None
            if self.accept_at is not None:
                timeout = max(0.0, self.accept_at - time.monotonic())
            for event in self.port.wait(timeout):
                if event.kind is Kind.ACCEPT:
                    self.accepted(event)
            if self.accept_at is not None and time.monotonic() >= self.accept_at:
                self.accept_at = None
                self.port.accept(self.listener)

    def drain(self) -> None:
        """Handle the results that are there."""
        for result in self.results.dequeue(256):
            result.socket_context.completed(result)

    def accepted(self, event: Event) -> None:
        """Greet a client, or wait a little when the system is exhausted."""
        if event.error is None:
            self.connections.add(Connection(self, event.take_socket()))
        else:
            self.accept_at = time.monotonic() + ACCEPT_AGAIN

    def stop(self) -> None:
        """Ask `run` to end; for a signal handler."""
        self.stopping = True
        self.port.post()

    def close(self) -> None:
        """Retire every socket, fetch the last results, and only then take the port down."""
        self.port.accept_stop(self.listener)
        self.listener.close()
        for connection in self.connections:
            connection.requests.close()
        while self.connections:
            self.port.wait(0.01)
            self.drain()
        self.pool.close()
        self.results.close()
        self.port.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="numeric address (%(default)s)")
    parser.add_argument("--port", type=int, default=7777, help="0 takes a free one (%(default)s)")
    parser.add_argument("--provider", help="uring or epoll; without it, the best that works")
    arguments = parser.parse_args()
    server = EchoServer(arguments.host, arguments.port, arguments.provider)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    host, port = server.listener.getsockname()[:2]
    print(f"echo on {host}:{port}, provider {server.port.provider.name}", flush=True)
    server.run()
    server.close()


if __name__ == "__main__":
    main()
