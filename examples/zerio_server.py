"""A server of messages: it takes orders from clients, and acknowledges each to its sender.

    python examples/zerio_server.py --port 7070
    python examples/zerio_client.py 127.0.0.1:7070 --orders 100000

An order is 24 bytes and an acknowledgement 16; whatever writes such messages behind their lengths,
in any language, can be a client: see docs/messaging.md for what is on the wire. Port 0, the
default, takes a free one; the address is printed. Ctrl-C or SIGTERM ends it.
"""

import argparse
import asyncio
import signal
import struct

import zerio_asyncio
from zerio_asyncio.messaging import Disconnected, serve

ORDER = struct.Struct("<qidi")  # time of sending in ns, instrument, price, quantity
ACK = struct.Struct("<qi4x")  # the order's time, instrument


class Orders:
    """Acknowledges and counts."""

    count = 0

    def on_message(self, peer, message):
        # The view is good during this call alone; what is unpacked from it stays.
        time_ns, instrument, _price, _quantity = ORDER.unpack(message)
        self.count += 1
        peer.send(ACK.pack(time_ns, instrument))

    def on_event(self, event):
        name = event.peer.id or "somebody"
        if isinstance(event, Disconnected):
            print(f"{name} is gone after {self.count} orders: {event.reason}", flush=True)
        else:
            print(f"{name} is here", flush=True)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    orders = Orders()
    choices = {"host": arguments.host, "on_event": orders.on_event}
    async with serve(arguments.port, orders.on_message, **choices) as server:
        address = f"{arguments.host}:{server.listening_port}"
        print(f"listening on {address} ({loop.provider})", flush=True)
        await stop.wait()


if __name__ == "__main__":
    zerio_asyncio.run(main())
