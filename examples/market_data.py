"""Market data: a server sends prices to all who watch; each watcher says what it wants to see.

    python examples/market_data.py serve --port 7071
    python examples/market_data.py watch 127.0.0.1:7071 EURUSD GBPUSD --ticks 10

A watcher that cannot keep up is disconnected when its sending buffers are full, so that it neither
holds up the others nor fills the memory; it comes back by itself and goes on with the prices of
then. Ctrl-C or SIGTERM ends the server.
"""

import argparse
import asyncio
import itertools
import os
import random
import signal
import struct

import zerio_asyncio

TICK = struct.Struct("<8sdq")  # symbol, price, number of the tick
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "USDCHF")


class Feed:
    """Who watches what, and what the prices are."""

    def __init__(self, host, port):
        self.watchers = {symbol: set() for symbol in SYMBOLS}
        self.prices = dict.fromkeys(SYMBOLS, 1.0)
        self.server = zerio_asyncio.ZerioServer(
            port,
            host,
            message_received=self.subscribe,
            client_disconnected=self.forget,
        )

    def subscribe(self, peer_id, message):
        watchers = self.watchers.get(str(message, "ascii", "replace"))
        if watchers is not None:
            watchers.add(peer_id)

    def forget(self, peer_id, reason):
        for watchers in self.watchers.values():
            watchers.discard(peer_id)

    async def run(self, ticks_a_second):
        for number in itertools.count():
            symbol = random.choice(SYMBOLS)
            self.prices[symbol] *= 1 + random.gauss(0, 1e-4)
            tick = TICK.pack(symbol.encode(), self.prices[symbol], number)
            for peer_id in tuple(self.watchers[symbol]):
                self.server.send(peer_id, tick)
            await asyncio.sleep(1 / ticks_a_second)


async def serve(arguments):
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    feed = Feed(arguments.host, arguments.port)
    await feed.server.start("market-data")
    address = f"{arguments.host}:{feed.server.listening_port}"
    print(f"listening on {address} ({loop.provider})", flush=True)
    running = asyncio.ensure_future(feed.run(arguments.rate))
    await stop.wait()
    running.cancel()
    await feed.server.stop()


async def watch(arguments):
    host, _, port = arguments.server.rpartition(":")

    class Watcher(zerio_asyncio.ZerioClient):
        def connected(self):
            for symbol in arguments.symbols:
                self.send(symbol.encode("ascii"))

        def disconnected(self, reason):
            if reason.cause != "local":  # not by the end of this program
                print(f"disconnected: {reason}", flush=True)

    config = zerio_asyncio.ZerioClientConfiguration(reconnect=True)
    async with Watcher((host, int(port)), config) as watcher:
        await watcher.start(arguments.peer_id)
        seen = 0
        async for message in watcher:
            symbol, price, number = TICK.unpack(message)
            print(f"{number} {symbol.rstrip(bytes(1)).decode()} {price:.5f}", flush=True)
            seen += 1
            if seen == arguments.ticks:
                break


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    serving = commands.add_parser("serve")
    serving.add_argument("--host", default="127.0.0.1")
    serving.add_argument("--port", type=int, default=0)
    serving.add_argument("--rate", type=float, default=100.0, help="ticks a second")
    serving.set_defaults(command=serve)
    watching = commands.add_parser("watch")
    watching.add_argument("server", metavar="HOST:PORT")
    watching.add_argument("symbols", nargs="+", metavar="SYMBOL")
    watching.add_argument("--ticks", type=int, default=-1, help="how many to show; all of them")
    watching.add_argument("--peer-id", default=f"watcher-{os.getpid()}")
    watching.set_defaults(command=watch)
    arguments = parser.parse_args()
    zerio_asyncio.run(arguments.command(arguments))


if __name__ == "__main__":
    main()
