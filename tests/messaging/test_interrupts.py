"""KeyboardInterrupt and SystemExit in a handler leave the loop; run again, it goes on."""

from __future__ import annotations

import asyncio

import pytest

from .support import Server, connected


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_no_message_is_lost_by_leaving_the_loop(loop, leave):
    server = Server()
    got = []
    wanted = [b"%d" % number * (number % 40) for number in range(500)]

    def received(peer_id, message):
        got.append(bytes(message))
        server.changes.changed()
        if len(got) % 50 == 7:
            raise leave

    async def exchange():
        server.message_received = received
        await server.start("server")
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

        session.establish("plain", leaving, "plain")
        with pytest.raises(KeyboardInterrupt):
            session.view_received(memoryview(framed(b"one") + framed(b"two")))
        server.disconnect("plain")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (await server.reason_of("plain")).text == "disconnected"
        peer.close()
