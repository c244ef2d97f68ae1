"""How long messages take to a server and back: a ZerioClient here, a ZerioServer in a process.

    python examples/zerio_latency.py
    python examples/zerio_latency.py --size 1024 --messages 100000 --wait spin

Both sides are Python; `python -m zerio_asyncio bench --mode messaging-latency` measures with
clients in C, which add less of their own.
"""

import argparse
import asyncio
import sys
import time

import zerio_asyncio
from zerio_asyncio.messaging import Disconnected

PERCENTILES = (50, 90, 99, 99.9)


async def serve():
    """Echo on a free port, which goes to the output, until the input ends."""

    def echo(peer, message):
        peer.send(message)

    async with zerio_asyncio.serve(0, echo) as server:
        print(server.listening_port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class PingPong:
    """Sends a message when the one before is back, and keeps the times in ns."""

    def __init__(self, address):
        self.client = zerio_asyncio.connect(
            address, "client", self.message_received, on_event=self.told
        )

    def begin(self, message, count):
        self.message, self.count, self.times = message, count, []
        self.done = asyncio.get_running_loop().create_future()
        self.send_next()
        return self.done

    def send_next(self):
        self.sent_ns = time.perf_counter_ns()
        self.client.send(self.message)

    def message_received(self, message):
        self.times.append(time.perf_counter_ns() - self.sent_ns)
        if len(self.times) < self.count:
            self.send_next()
        else:
            self.done.set_result(sorted(self.times))

    def told(self, event):
        if isinstance(event, Disconnected) and not self.done.done():
            self.done.set_exception(ConnectionError(str(event.reason)))


async def measure(options):
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    command = (sys.executable, __file__, "--serve", "--wait", options.wait)
    process = await asyncio.create_subprocess_exec(*command, **pipes)
    try:
        port = int(await process.stdout.readline())
        ping_pong = PingPong(("127.0.0.1", port))
        async with ping_pong.client:
            await ping_pong.begin(bytes(options.size), max(1, options.messages // 10))  # to warm up
            return await ping_pong.begin(bytes(options.size), options.messages)
    finally:
        process.stdin.close()  # the server ends, and is waited for
        await process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=64, help="bytes of a message")
    parser.add_argument("--wait", default="block", help="block, spin or hybrid(µs)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    loop_options = zerio_asyncio.LoopOptions(wait=options.wait)
    if options.serve:
        zerio_asyncio.run(serve(), options=loop_options)
        return
    times = zerio_asyncio.run(measure(options), options=loop_options)
    print(f"{len(times)} round trips of {options.size} bytes, waiting by {options.wait}")
    for percentile in PERCENTILES:
        place = min(len(times) - 1, int(len(times) * percentile / 100))
        print(f"p{percentile:<5g} {times[place] / 1000:10.1f} µs")
    print(f"max    {times[-1] / 1000:10.1f} µs")


if __name__ == "__main__":
    main()
