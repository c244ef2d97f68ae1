"""An installed package works: what wheels and source archives are tried with, without pytest.

    python tests/smoke.py

Run it from elsewhere than the source tree, so that the installed package is what is imported.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading

import zerio_asyncio
from zerio_asyncio.rio import available

BYTES = 1 << 20
SECONDS = 20


async def echo_stream() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    sent = bytes(range(256)) * (BYTES // 256)
    writer.write(sent)
    assert await reader.readexactly(BYTES) == sent
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.got.set_result(data)


async def send_datagram() -> None:
    loop = asyncio.get_running_loop()
    there, protocol = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
    here, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=there.get_extra_info("sockname")
    )
    here.sendto(b"datagram")
    assert await protocol.got == b"datagram"
    here.close()
    there.close()


async def watch_socket() -> None:
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    ready = asyncio.Event()
    loop.add_reader(one, ready.set)
    other.send(b"x")
    await ready.wait()
    loop.remove_reader(one)
    one.close()
    other.close()


async def other_threads_and_processes() -> None:
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(woken.set))
    thread.start()
    await woken.wait()
    thread.join()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print('child')", stdout=subprocess.PIPE
    )
    output, _ = await child.communicate()
    assert output.strip() == b"child"
    assert child.returncode == 0


async def everything() -> None:
    for part in echo_stream, send_datagram, watch_socket, other_threads_and_processes:
        await asyncio.wait_for(part(), SECONDS)


def main() -> None:
    names = [provider.name for provider in available()]
    assert names, "no provider works here: python -m zerio_asyncio info tells why"
    for name in names:
        options = zerio_asyncio.LoopOptions(provider=name)
        zerio_asyncio.run(everything(), options=options)
        print(f"{zerio_asyncio.__file__}: {name} works")


if __name__ == "__main__":
    main()
