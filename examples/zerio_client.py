"""A client of messages: it sends orders, awaits their acknowledgements, tells how long they took.

    python examples/zerio_server.py --port 7070
    python examples/zerio_client.py 127.0.0.1:7070 --orders 100000

The orders of one burst leave together; the next burst leaves when all are acknowledged.
"""

import argparse
import asyncio
import os
import statistics
import struct
import time

import zerio_asyncio
from zerio_asyncio.messaging import ConnectionClosed, Disconnected, connect

ORDER = struct.Struct("<qidi")  # time of sending in ns, instrument, price, quantity
ACK = struct.Struct("<qi4x")  # the order's time, instrument


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server", metavar="HOST:PORT")
    parser.add_argument("--peer-id", default=f"client-{os.getpid()}")
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--burst", type=int, default=10)
    arguments = parser.parse_args()
    host, _, port = arguments.server.rpartition(":")

    loop = asyncio.get_running_loop()
    times_ns = []
    missing = 0
    acknowledged = None

    def on_message(message):
        nonlocal missing
        time_ns, _instrument = ACK.unpack(message)
        times_ns.append(time.monotonic_ns() - time_ns)
        missing -= 1
        if missing == 0:
            acknowledged.set_result(None)

    def on_event(event):
        if isinstance(event, Disconnected) and acknowledged is not None and not acknowledged.done():
            acknowledged.set_exception(ConnectionClosed(event.reason))

    address = (host, int(port))
    async with connect(address, arguments.peer_id, on_message, on_event=on_event) as client:
        for first in range(0, arguments.orders, arguments.burst):
            missing = min(arguments.burst, arguments.orders - first)
            acknowledged = loop.create_future()
            for number in range(first, first + missing):
                client.send(ORDER.pack(time.monotonic_ns(), number % 500, 100.25, 10))
            await acknowledged
    times_us = sorted(time_ns / 1000 for time_ns in times_ns)
    median = statistics.median(times_us)
    slow = times_us[int(len(times_us) * 0.99)]
    print(f"{len(times_us)} orders acknowledged: median {median:.0f} µs, 99% {slow:.0f} µs")


if __name__ == "__main__":
    zerio_asyncio.run(main())
