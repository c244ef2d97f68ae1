"""An echo server with asyncio's streams, and a client for it.

    python examples/echo_streams.py server --port 8000
    python examples/echo_streams.py client hello world --port 8000

The server's port 0, the default, takes a free one; the address is printed. Ctrl-C or SIGTERM
ends the server; the client ends by itself.
"""

import argparse
import asyncio
import signal

import zerio_asyncio


async def echo(reader, writer):
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    except ConnectionError:
        pass  # the client left in the middle
    finally:
        writer.close()


async def serve(host, port):
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    async with await asyncio.start_server(echo, host, port) as server:
        host, port = server.sockets[0].getsockname()[:2]
        print(f"listening on {host}:{port} ({loop.provider})", flush=True)
        await stop.wait()


async def talk(host, port, words):
    reader, writer = await asyncio.open_connection(host, port)
    for word in words:
        writer.write(word.encode() + b"\n")
        print((await reader.readline()).decode().rstrip("\n"))
    writer.close()
    await writer.wait_closed()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("words", nargs="*", help="what the client sends, line by line")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.role == "server":
        zerio_asyncio.run(serve(arguments.host, arguments.port))
    else:
        zerio_asyncio.run(talk(arguments.host, arguments.port, arguments.words))


if __name__ == "__main__":
    main()
