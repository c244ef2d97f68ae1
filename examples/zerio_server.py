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

ORDER = struct.Struct("<qidi")  # time of sending in ns, instrument, price, quantity
ACK = struct.Struct("<qi4x")  # the order's time, instrument


class OrderServer(zerio_asyncio.ZerioServer):
    """The style of a subclass: the events are methods."""

    orders = 0

    def client_connected(self, peer_id):
        print(f"{peer_id} is here", flush=True)

    def client_disconnected(self, peer_id, reason):
        print(f"{peer_id or 'somebody'} is gone after {self.orders} orders: {reason}", flush=True)

    def message_received(self, peer_id, message):
        # The view is good during this call alone; what is unpacked from it stays.
        time_ns, instrument, _price, _quantity = ORDER.unpack(message)
        self.orders += 1
        self.send(peer_id, ACK.pack(time_ns, instrument))


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    server = OrderServer(arguments.port, arguments.host)
    await server.start("orders")
    print(f"listening on {arguments.host}:{server.listening_port} ({loop.provider})", flush=True)
    await stop.wait()
    await server.stop()


if __name__ == "__main__":
    zerio_asyncio.run(main())
