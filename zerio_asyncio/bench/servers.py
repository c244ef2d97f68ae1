"""One server in its own process, on its own core, for the benchmark to load.

``python -m zerio_asyncio.bench.servers --peer uvloop --mode protocol --core 0`` prints one JSON
line with its port and process number once it accepts connections, and serves until SIGTERM, or
until its parent ends. Message servers answer every line on their standard input with a line that
says what they have done and used so far.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerio_asyncio.bench import messaging, pages, peers, system, tls
from zerio_asyncio.bench._native import lib
from zerio_asyncio.bench.echo import DATAGRAM, MODES, DatagramEcho, Server, bind_datagrams, listen
from zerio_asyncio.bench.system import pin, pin_thread, raise_descriptor_limit

if TYPE_CHECKING:
    import socket


THREADS = "threads"
"""Mode of the server with a loop in each of several threads."""

TLS = "tls"
"""Mode of a `protocol` over TLS."""

MODES_OF_SERVERS = (*MODES, DATAGRAM, *messaging.MODES, THREADS, TLS, *pages.MODES)


def _bind(mode: str, host: str) -> socket.socket:
    if mode == DATAGRAM:
        return bind_datagrams(host, 0)
    return listen(host, 0, shared=mode == THREADS)


def _announce(name: Any, ran: str, provider: str | None) -> None:
    line = {
        "address": name[0],
        "port": name[1],
        "pid": os.getpid(),
        "ran": ran,
        "provider": provider,
    }
    print(json.dumps(line), flush=True)


def serve_native(
    listener: socket.socket, mode: str, spin: bool, certificate: Path | None = None
) -> int:
    """Run the C limit; returns only on a fatal error."""
    listener.setblocking(False)
    _announce(listener.getsockname(), "native", None)
    if mode == DATAGRAM:
        return -lib.limit_serve_datagrams(listener.fileno(), spin)
    if mode == TLS:
        return -lib.tls_limit_serve(listener.fileno(), os.fsencode(_needed(certificate)))
    if mode not in messaging.MODES:
        return -lib.limit_serve(listener.fileno(), spin)
    one_way = mode == messaging.ONE_WAY
    return -lib.frames_serve(
        listener.fileno(),
        spin,
        one_way,
        system.descriptor(sys.stdin),
        system.descriptor(sys.stdout),
    )


def _needed(certificate: Path | None) -> Path:
    if certificate is None:
        raise ValueError("--certificate is missing: a file with a key and its certificate")
    return certificate


def _answer(account: messaging.Account) -> None:
    while os.read(sys.stdin.fileno(), 1):
        print(json.dumps(account.read()), flush=True)


def serve_messages(peer: str, mode: str, size: int, listener: socket.socket) -> int:
    """Run a message server on a peer's loop until the process is told to end."""
    loop = peers.new_loop(peer)
    server = messaging.server(mode, size, listener, peers.is_ours(peer))
    name = loop.run_until_complete(server.start())
    account = messaging.Account(server.counter)
    # A thread, because a loop may be so busy with its connections that it does not get to this
    # descriptor for long (uvloop: seconds, rloop: never, measured). It sleeps while nobody asks.
    threading.Thread(target=_answer, args=(account,), daemon=True).start()
    _announce(name, server.ran, peers.own_provider(loop))
    loop.run_forever()
    return 0


def serve_pages(
    peer: str, mode: str, listener: socket.socket, certificate: Path | None = None
) -> int:
    """Run a web server on a peer's loop until the process is told to end."""
    if mode == pages.HTTPS:
        _needed(certificate)
    loop = peers.new_loop(peer)
    name = listener.getsockname()
    provider = peers.own_provider(loop)
    pages.serve(mode, loop, listener, lambda: _announce(name, mode, provider), certificate)
    return 0


def serve_loop(
    peer: str, mode: str, listener: socket.socket, certificate: Path | None = None
) -> int:
    """Run an echo server on a peer's loop until the process is told to end."""
    loop = peers.new_loop(peer)
    name = listener.getsockname()  # now: some loops take the descriptor out of the socket
    ran = mode
    if mode == DATAGRAM:
        loop.run_until_complete(loop.create_datagram_endpoint(DatagramEcho, sock=listener))
    else:
        own = system.LISTENS_FIRST or mode == "sock"
        how = "protocol" if mode == TLS else mode
        context = tls.server_context(_needed(certificate)) if mode == TLS else None
        where: dict[str, Any] = {"listener": listener} if own else {"place": name[:2]}
        server = Server(how, **where, context=context)
        if not own:
            listener.close()  # its port is free; the loop makes a listener of its own there
        loop.run_until_complete(server.start())
        ran = mode if mode == TLS else server.ran
    _announce(name, ran, peers.own_provider(loop))
    loop.run_forever()
    return 0


def serve_threads(peer: str, count: int, cores: list[int], listener: socket.socket) -> int:
    """Run an echo server on a peer's loops, one per thread, until told to end.

    Each has its own listener on the one port, and the system distributes the connections by a hash:
    that gives every loop its share, however it handles bursts.
    """
    host, port = listener.getsockname()[:2]
    listeners = [listener, *(listen(host, port, shared=True) for _ in range(count - 1))]
    ready = threading.Barrier(count)

    def serve(number: int, own: socket.socket) -> None:
        if cores:
            pin_thread(cores[number % len(cores)])
        loop = peers.new_loop(peer)
        loop.run_until_complete(Server("protocol", own).start())
        ready.wait()
        if number == 0:
            # Now: importing a module that requires the GIL brings it back.
            gil = getattr(sys, "_is_gil_enabled", lambda: True)()
            ran = f"GIL {'on' if gil else 'off'}"
            _announce((host, port), ran, peers.own_provider(loop))
        loop.run_forever()

    for number in range(1, count):
        threading.Thread(target=serve, args=(number, listeners[number]), daemon=True).start()
    serve(0, listener)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Serve; the exit status is 0 unless the server could not start."""
    parser = argparse.ArgumentParser(prog="python -m zerio_asyncio.bench.servers")
    parser.add_argument("--peer", choices=peers.NAMES, default="asyncio")
    parser.add_argument("--mode", choices=MODES_OF_SERVERS, default="protocol")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--connections", type=int, default=1000, help="descriptors to allow for")
    parser.add_argument("--size", type=int, default=64, help="bytes of the longest message")
    parser.add_argument("--certificate", type=Path, help="tls, https: its key and itself, PEM")
    parser.add_argument("--loops", type=int, default=1, help="threads: so many, with a loop each")
    parser.add_argument(
        "--core", type=int, action="append", default=[], help="pin the server to this CPU, or these"
    )
    options = parser.parse_args(arguments)
    # The default action: a measured loop must not pay for a handler, and needs none.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    lib.process_die_with_parent(os.getppid())
    pin(*options.core)
    try:
        raise_descriptor_limit(options.connections)
        with contextlib.closing(_bind(options.mode, options.host)) as listener:
            if options.peer in (peers.LIMIT, peers.LIMIT_SPINNING):
                spin = options.peer == peers.LIMIT_SPINNING
                return serve_native(listener, options.mode, spin, options.certificate)
            if options.mode == THREADS:
                return serve_threads(options.peer, options.loops, options.core, listener)
            if options.mode in messaging.MODES:
                return serve_messages(options.peer, options.mode, options.size, listener)
            if options.mode in pages.MODES:
                return serve_pages(options.peer, options.mode, listener, options.certificate)
            return serve_loop(options.peer, options.mode, listener, options.certificate)
    except (ImportError, OSError, ValueError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
