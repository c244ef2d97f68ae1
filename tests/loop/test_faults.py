"""A protocol that raises: reported, its connection closed where asyncio closes it, others live.

Trap 8 of docs/design.md.
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from .marks import beyond_proactor, with_unix_sockets
from .support import SECONDS, BufferedRecorder, Recorder, connect, recorder_of, shut, spin


class Mistake(Exception):
    pass


def raising(recorder, name, raised=Mistake):
    def fail(*arguments):
        raise raised

    setattr(recorder, name, fail)
    return recorder


RECEIVE = {
    "protocol": "data_received",
    "buffered": "buffer_updated",
    "registered": "view_received",
}


async def bystander_lives(bystander):
    transport, recorder, peer = bystander
    await peer.send(b"alive?")
    assert await recorder.got(6) == b"alive?"
    transport.write(b"alive!")
    assert await peer.receive() == b"alive!"
    await shut(transport, recorder, peer)


@beyond_proactor
async def test_raising_in_the_receive_callback(loop, caught, protocol):
    bystander = await connect(lambda: recorder_of(protocol))
    transport, recorder, peer = await connect(
        lambda: raising(recorder_of(protocol), RECEIVE[protocol])
    )
    await peer.send(b"x")
    assert isinstance(await recorder.lost(), Mistake)
    context = caught.take_one(Mistake)
    assert "Fatal error" in context["message"]
    assert context["transport"] is transport
    assert context["protocol"] is recorder
    assert await peer.receive() == b""
    peer.close()
    await bystander_lives(bystander)


@beyond_proactor
async def test_raising_in_get_buffer(loop, caught):
    bystander = await connect(BufferedRecorder)
    transport, recorder, peer = await connect(lambda: raising(BufferedRecorder(), "get_buffer"))
    await peer.send(b"x")
    assert isinstance(await recorder.lost(), Mistake)
    assert "get_buffer" in caught.take_one(Mistake)["message"]
    peer.close()
    await bystander_lives(bystander)


@beyond_proactor
async def test_raising_in_eof_received(loop, caught, protocol):
    bystander = await connect(lambda: recorder_of(protocol))
    transport, recorder, peer = await connect(
        lambda: raising(recorder_of(protocol), "eof_received")
    )
    peer.end()
    assert isinstance(await recorder.lost(), Mistake)
    assert "eof_received" in caught.take_one(Mistake)["message"]
    peer.close()
    await bystander_lives(bystander)


async def test_raising_in_connection_lost(loop, caught, protocol):
    bystander = await connect(lambda: recorder_of(protocol))
    transport, recorder, peer = await connect(
        lambda: raising(recorder_of(protocol), "connection_lost")
    )
    transport.close()
    assert await peer.receive_all() == b""
    while not caught:
        await asyncio.sleep(0.001)
    caught.take_one(Mistake)
    peer.close()
    await bystander_lives(bystander)


async def test_raising_in_connection_made(loop, caught, protocol):
    """asyncio reports it as a failed callback and leaves the connection as it is."""
    bystander = await connect(lambda: recorder_of(protocol))
    recorder = recorder_of(protocol)
    remember = recorder.connection_made

    def connection_made(transport):
        remember(transport)
        raise Mistake

    recorder.connection_made = connection_made
    transport, _, peer = await connect(lambda: recorder)
    while not caught:
        await asyncio.sleep(0.001)
    caught.take_one(Mistake)
    await shut(transport, recorder, peer)
    await bystander_lives(bystander)


@pytest.mark.ours
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("family", ["tcp", "tls", pytest.param("unix", marks=with_unix_sockets)])
async def test_a_servers_factory_that_raises_is_told_of_and_loses_that_connection(
    loop, caught, contexts, tmp_path, family, debug
):
    """The standard loop tells in debug mode alone, and leaves the socket to the collector."""
    loop.set_debug(debug)
    made = []

    def factory():
        if not made:
            made.append(None)
            raise Mistake
        made.append(Recorder())
        return made[-1]

    if family == "unix":
        server = await loop.create_unix_server(factory, str(tmp_path / "here"))
    else:
        options = {"ssl": contexts[0]} if family == "tls" else {}
        server = await loop.create_server(factory, "127.0.0.1", 0, **options)

    def client():
        sock = socket.socket(server.sockets[0].family)
        sock.settimeout(SECONDS)
        sock.connect(server.sockets[0].getsockname())
        return sock

    with client() as first:
        assert await asyncio.to_thread(first.recv, 1) == b""
    told = caught.take_one(Mistake)
    assert told["message"] == "Error on transport creation for incoming connection"
    loop.set_debug(False)  # it would tell of the next client, that knows no TLS
    with client() as second:
        while len(made) < 2:
            await asyncio.sleep(0.001)
        if family != "tls":
            second.sendall(b"x")
            assert await made[1].got(1) == b"x"
            made[1].transport.abort()
            await made[1].lost()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_leaving_the_loop_from_a_receive_callback_keeps_loop_and_connections(loop, protocol, leave):
    held = {}

    async def begin():
        held["bystander"] = await connect(Recorder)
        held["leaver"] = await connect(
            lambda: raising(recorder_of(protocol), RECEIVE[protocol], leave)
        )
        await held["leaver"][2].send(b"x")
        await asyncio.sleep(10)

    async def end():
        await bystander_lives(held["bystander"])
        transport, recorder, peer = held["leaver"]
        transport.abort()
        await recorder.lost()
        peer.close()

    task = loop.create_task(begin())
    with pytest.raises(leave):
        loop.run_until_complete(task)
    assert not loop.is_running()
    task.cancel()
    loop.run_until_complete(end())


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_a_connection_goes_on_after_its_callback_left_the_loop(loop, protocol, leave):
    """The next receive must be posted although the callback never came back."""
    held = {}

    async def begin():
        held["end"] = _, recorder, peer = await connect(lambda: recorder_of(protocol))
        receive = getattr(recorder, RECEIVE[protocol])

        def once(*arguments):
            delattr(recorder, RECEIVE[protocol])
            receive(*arguments)
            raise leave

        setattr(recorder, RECEIVE[protocol], once)
        transport = recorder.transport
        transport.set_protocol(recorder)  # a bound method may have been kept
        peer.sock.sendall(b"first")
        await asyncio.sleep(10)

    async def go_on():
        transport, recorder, peer = held["end"]
        transport.set_protocol(recorder)
        assert await recorder.got(5) == b"first"
        peer.sock.sendall(b"second")
        assert await recorder.got(11) == b"firstsecond"
        await shut(transport, recorder, peer)

    task = loop.create_task(begin())
    with pytest.raises(leave):
        loop.run_until_complete(task)
    task.cancel()
    loop.run_until_complete(go_on())


@beyond_proactor
async def test_many_faults_at_once_leave_nothing_behind(loop, caught):
    made = [await connect(lambda: raising(Recorder(), "data_received")) for _ in range(20)]
    for _, _, peer in made:
        peer.sock.sendall(b"x")
    for _, recorder, peer in made:
        await recorder.lost()
        peer.close()
    assert len(caught.take()) == 20
    await spin()
