"""set_protocol midway, between every two kinds of protocol."""

from __future__ import annotations

import asyncio

import pytest

from .marks import beyond_proactor
from .support import PROTOCOLS, Recorder, connect, recorder_of, shut


@pytest.mark.parametrize("after", PROTOCOLS)
async def test_switching_midway_loses_nothing(loop, kind, protocol, after):
    if kind == "std" and after == "registered":
        return  # the standard loop has no such protocol
    transport, first, peer = await connect(lambda: recorder_of(protocol))
    assert transport.get_protocol() is first
    await peer.send(b"first")
    await first.got(5)
    second = recorder_of(after)
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    await peer.send(b"second")
    assert await second.got(6) == b"second"
    assert first.received == b"first"
    peer.close()
    await second.lost()
    assert second.calls == ["data_received", "eof_received", "connection_lost"]
    assert first.calls == ["connection_made", "data_received"]


async def test_switching_inside_data_received_gives_the_rest_to_the_new_one(loop, protocol):
    first = recorder_of(protocol)
    second = Recorder()
    remember = first.note

    def note(call):
        remember(call)
        if call == "data_received":
            first.transport.set_protocol(second)

    first.note = note
    transport, _, peer = await connect(lambda: first)
    data = bytes(range(256)) * 2000
    sending = asyncio.ensure_future(peer.send(data))
    await second.until(lambda: len(first.received) + len(second.received) == len(data))
    await sending
    assert first.received
    assert bytes(first.received + second.received) == data
    await shut(transport, second, peer)


@beyond_proactor
async def test_switching_while_paused(loop, protocol):
    transport, first, peer = await connect(Recorder)
    transport.pause_reading()
    await peer.send(b"for the second")
    await asyncio.sleep(0.005)
    second = recorder_of(protocol)
    transport.set_protocol(second)
    transport.resume_reading()
    assert await second.got(14) == b"for the second"
    assert first.received == b""
    await shut(transport, second, peer)


async def test_flow_control_calls_go_to_the_new_protocol(loop, protocol):
    transport, first, peer = await connect(Recorder)
    second = recorder_of(protocol)
    transport.set_protocol(second)
    transport.write(b"x" * 20_000_000)
    assert second.calls == ["pause_writing"]
    await peer.receive_exactly(20_000_000)
    await second.until(lambda: "resume_writing" in second.calls)
    assert first.calls == ["connection_made"]
    await shut(transport, second, peer)


async def test_switching_while_closing_moves_connection_lost(loop):
    transport, first, peer = await connect(Recorder)
    transport.close()
    second = Recorder()
    transport.set_protocol(second)
    await second.lost()
    assert "connection_lost" not in first.calls
    peer.close()


@pytest.mark.ours  # the standard loop resumes the new one, which TLS takes for an error
async def test_who_was_paused_is_resumed_also_after_a_switch(loop, protocol):
    transport, first, peer = await connect(Recorder)
    transport.write(b"x" * 20_000_000)
    assert first.calls == ["connection_made", "pause_writing"]
    second = recorder_of(protocol)
    transport.set_protocol(second)
    await peer.receive_exactly(20_000_000)
    await first.until(lambda: "resume_writing" in first.calls)
    assert second.calls == []
    transport.write(b"x" * 20_000_000)
    assert second.calls == ["pause_writing"]
    await peer.receive_exactly(20_000_000)
    await second.until(lambda: "resume_writing" in second.calls)
    assert first.calls == ["connection_made", "pause_writing", "resume_writing"]
    await shut(transport, second, peer)
