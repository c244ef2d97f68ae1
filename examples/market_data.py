"""Market data: a server publishes prices; each watcher subscribes to what it wants to see.

    python examples/market_data.py serve --port 7071
    python examples/market_data.py watch 127.0.0.1:7071 EURUSD GBPUSD --ticks 10
    python examples/market_data.py watch 127.0.0.1:7071 '*'

A watcher that cannot keep up misses prices, but never the latest of each symbol; it neither holds
up the others nor fills the memory. Try one with --pause 0.5. A watcher comes back by itself when
the server does. Ctrl-C or SIGTERM ends the server.
"""

import argparse
import asyncio
import itertools
import os
import random
import signal
import struct

import zerio_asyncio
from zerio_asyncio.messaging import DisconnectCause, Disconnected, connect, serve

TICK = struct.Struct("<8sdq")  # symbol, price, number of the tick
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "USDCHF")


class Feed:
    """The prices, and the server that publishes them."""

    def __init__(self, host, port):
        self.prices = dict.fromkeys(SYMBOLS, 1.0)
        self.server = serve(
            port,
            host=host,
            on_event=self.learn,
            slow_peer="latest",
            max_message_size=1024,
            unsent_max=256 * 1024,  # of which a sixteenth may be prices of the past
        )

    def learn(self, event):
        if isinstance(event, Disconnected) and event.peer.dropped:
            print(f"{event.peer.id} missed {event.peer.dropped} prices", flush=True)

    async def run(self, ticks_a_second):
        burst = max(1, round(ticks_a_second / 1000))  # no system sleeps well below a millisecond
        for number in itertools.count(1):
            symbol = random.choice(SYMBOLS)
            self.prices[symbol] *= 1 + random.gauss(0, 1e-4)
            tick = TICK.pack(symbol.encode(), self.prices[symbol], number)
            self.server.publish(f"prices.{symbol}", tick)
            if number % burst == 0:
                await asyncio.sleep(burst / ticks_a_second)


async def publish(arguments):
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    feed = Feed(arguments.host, arguments.port)
    async with feed.server as server:
        address = f"{arguments.host}:{server.listening_port}"
        print(f"listening on {address} ({loop.provider})", flush=True)
        running = asyncio.ensure_future(feed.run(arguments.rate))
        await stop.wait()
        running.cancel()


async def watch(arguments):
    host, _, port = arguments.server.rpartition(":")

    def on_event(event):
        if isinstance(event, Disconnected) and event.reason.cause is not DisconnectCause.LOCAL:
            print(f"disconnected: {event.reason}", flush=True)

    async with connect(
        (host, int(port)), arguments.peer_id, on_event=on_event, reconnect=True, extensions=True
    ) as watcher:
        for symbol in arguments.symbols:
            watcher.subscribe(f"prices.{symbol}")
        seen = 0
        async for message in watcher:
            symbol, price, number = TICK.unpack(message)
            print(f"{number} {symbol.rstrip(bytes(1)).decode()} {price:.5f}", flush=True)
            seen += 1
            if seen == arguments.ticks:
                break
            await asyncio.sleep(arguments.pause)


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    serving = commands.add_parser("serve")
    serving.add_argument("--host", default="127.0.0.1")
    serving.add_argument("--port", type=int, default=0)
    serving.add_argument("--rate", type=float, default=100.0, help="ticks a second")
    serving.set_defaults(command=publish)
    watching = commands.add_parser("watch")
    watching.add_argument("server", metavar="HOST:PORT")
    watching.add_argument("symbols", nargs="+", metavar="SYMBOL")
    watching.add_argument("--ticks", type=int, default=-1, help="how many to show; all of them")
    watching.add_argument("--pause", type=float, default=0.0, help="seconds after each")
    watching.add_argument("--peer-id", default=f"watcher-{os.getpid()}")
    watching.set_defaults(command=watch)
    arguments = parser.parse_args()
    zerio_asyncio.run(arguments.command(arguments))


if __name__ == "__main__":
    main()
