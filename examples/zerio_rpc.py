"""Requests with timeouts: a server that computes, and a client that does not wait for ever.

    python examples/zerio_rpc.py serve --port 7073
    python examples/zerio_rpc.py ask 127.0.0.1:7073 "add 2 3" "sleep 5" "add 2 x" --timeout 1

The questions are asked at once and answered as they are done. What the client no longer waits for
is cancelled at the server. Ctrl-C or SIGTERM ends the server.
"""

import argparse
import asyncio
import os
import signal

import zerio_asyncio
from zerio_asyncio.messaging import RequestError, connect, serve


async def answer(request):
    words = request.message.decode().split()
    match words:
        case ["add", first, second]:
            return str(int(first) + int(second)).encode()
        case ["sleep", seconds]:
            try:
                await asyncio.sleep(float(seconds))
            except asyncio.CancelledError:
                print(f"{request.peer.id} no longer waits for: {' '.join(words)}", flush=True)
                raise
            return b"slept"
        case _:
            request.refuse("add A B, or sleep SECONDS")
            return None


async def host(arguments):
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.set_exception_handler(lambda _, context: print(context["message"], flush=True))
    async with serve(arguments.port, on_request=answer, concurrency=100) as server:
        print(f"listening on 127.0.0.1:{server.listening_port}", flush=True)
        await stop.wait()


async def ask(arguments):
    host, _, port = arguments.server.rpartition(":")

    async def one(question):
        try:
            reply = await client.request(question.encode(), timeout=arguments.timeout)
            return reply.decode()
        except asyncio.TimeoutError:
            return "no answer in time"
        except RequestError as error:
            return f"refused: {error}"

    address = (host, int(port))
    async with connect(address, f"client-{os.getpid()}", extensions=True) as client:
        answers = await asyncio.gather(*map(one, arguments.questions))
    for question, text in zip(arguments.questions, answers, strict=True):
        print(f"{question}: {text}")


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    hosting = commands.add_parser("serve")
    hosting.add_argument("--port", type=int, default=0)
    hosting.set_defaults(command=host)
    asking = commands.add_parser("ask")
    asking.add_argument("server", metavar="HOST:PORT")
    asking.add_argument("questions", nargs="+", metavar="QUESTION")
    asking.add_argument("--timeout", type=float, default=1.0, help="seconds for each")
    asking.set_defaults(command=ask)
    arguments = parser.parse_args()
    zerio_asyncio.run(arguments.command(arguments))


if __name__ == "__main__":
    main()
