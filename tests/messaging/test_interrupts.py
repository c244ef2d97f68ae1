"""KeyboardInterrupt and SystemExit in a handler leave the loop; run again, it goes on."""

from __future__ import annotations

import asyncio
import socket

import pytest

from zerio_asyncio import RegisteredProtocol
from zerio_asyncio.messaging.framing import MessageWriter

from .support import Server, connected


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_no_message_is_lost_by_leaving_the_loop(loop, leave):
    server = Server()
    got = []
    wanted = [b"%d" % number * (number % 40) for number in range(500)]

    def received(peer, message):
        got.append(bytes(message))
        server.changes.changed()
        if len(got) % 50 == 7:
            raise leave

    async def exchange():
        server.on_message = received
        await server.start()
        async with connected(server) as client:
            for message in wanted:
                client.send(message)
            await server.until(lambda: len(got) == len(wanted))
            assert server.peers == ("peer",)
        await server.stop()

    task = loop.create_task(exchange())
    left = 0
    while not task.done():
        try:
            loop.run_until_complete(task)
        except leave:
            left += 1
    task.result()
    assert got == wanted
    assert left == 10


async def test_the_rest_of_an_aborted_connection_is_forgotten(loop):
    """Whoever leaves the loop may end the connection before it runs again."""
    from .support import framed, plain, serving

    async with serving() as server, plain(server) as peer:
        session = server._sessions["plain"]

        def leaving(peer_id, message):
            raise KeyboardInterrupt

        session.establish("plain", leaving, "plain", False)
        with pytest.raises(KeyboardInterrupt):
            session.view_received(memoryview(framed(b"one") + framed(b"two")))
        server.disconnect("plain")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (await server.reason_of("plain")).text == "disconnected"
        peer.close()


def test_the_rest_goes_out_after_resume_writing_was_left(loop):
    """Messages gathered during a delivery, of which the system takes a part when it is over."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(5)
    sent, got = b"", b""

    class Answering(RegisteredProtocol):
        left = 0

        def connection_made(self, transport):
            self.transport = transport
            self.writer = MessageWriter(transport, print, 1 << 20, 1 << 30)

        def view_received(self, view):
            nonlocal sent, got
            while self.transport.get_write_buffer_size() < 150_000:
                message = b"%6d " % len(sent) * 140
                self.writer.send(message)
                sent += len(message).to_bytes(4, "little") + message
            got += theirs.recv(80_000)

        def resume_writing(self):
            self.left += 1
            if self.left == 1:
                raise KeyboardInterrupt

    transport, protocol = loop.run_until_complete(loop.create_unix_connection(Answering, sock=ours))
    transport.set_write_buffer_limits(high=100_000, low=100_000)
    theirs.send(b"go")
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(10))

    def receive():
        nonlocal got
        while len(got) < len(sent):
            got += theirs.recv(80_000)

    loop.run_until_complete(asyncio.wait_for(loop.run_in_executor(None, receive), 30))
    assert got == sent
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    theirs.close()
