"""Flow control: the limits, and the calls that go with them."""

from __future__ import annotations

import asyncio

import pytest

from .support import Recorder, connect, recorder_of, shut, spin

MIB = 1 << 20


async def test_default_limits(loop):
    transport, recorder, peer = await connect(Recorder)
    assert transport.get_write_buffer_limits() == (16384, 65536)
    assert transport.get_write_buffer_size() == 0
    await shut(transport, recorder, peer)


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({"high": 100}, (25, 100)),
        ({"low": 100}, (100, 400)),
        ({"high": 100, "low": 50}, (50, 100)),
        ({"high": 0}, (0, 0)),
        ({"high": 10, "low": 10}, (10, 10)),
        ({}, (16384, 65536)),
    ],
)
async def test_limits_follow_from_what_is_given(loop, given, limits):
    transport, recorder, peer = await connect(Recorder)
    transport.set_write_buffer_limits(**given)
    assert transport.get_write_buffer_limits() == limits
    await shut(transport, recorder, peer)


@pytest.mark.parametrize("given", [{"high": 5, "low": 10}, {"high": -1}, {"low": -1, "high": 5}])
async def test_impossible_limits_are_a_value_error(loop, given):
    transport, recorder, peer = await connect(Recorder)
    with pytest.raises(ValueError, match="must be"):
        transport.set_write_buffer_limits(**given)
    assert transport.get_write_buffer_limits() == (16384, 65536)
    await shut(transport, recorder, peer)


async def test_writing_pauses_above_the_high_mark_and_resumes_below_the_low(loop, protocol):
    transport, recorder, peer = await connect(lambda: recorder_of(protocol))
    size = 20 * MIB
    transport.write(b"x" * size)
    assert recorder.calls[-1] == "pause_writing"
    assert 65536 < transport.get_write_buffer_size() <= size
    await peer.receive_exactly(size)
    await recorder.until(lambda: recorder.calls[-1] == "resume_writing")
    assert transport.get_write_buffer_size() <= 16384
    assert recorder.calls == ["connection_made", "pause_writing", "resume_writing"]
    await shut(transport, recorder, peer)


async def test_pause_writing_is_called_once_however_much_is_written(loop):
    transport, recorder, peer = await connect(Recorder)
    for _ in range(40):
        transport.write(b"x" * MIB)
    assert recorder.calls.count("pause_writing") == 1
    await peer.receive_exactly(40 * MIB)
    await recorder.until(lambda: "resume_writing" in recorder.calls)
    await shut(transport, recorder, peer)


async def test_a_high_mark_of_zero_pauses_at_the_first_byte_that_waits(loop):
    transport, recorder, peer = await connect(Recorder)
    transport.set_write_buffer_limits(high=0)
    transport.write(b"x" * (20 * MIB))
    assert recorder.calls[-1] == "pause_writing"
    await peer.receive_exactly(20 * MIB)
    await recorder.until(lambda: recorder.calls[-1] == "resume_writing")
    assert transport.get_write_buffer_size() == 0
    await shut(transport, recorder, peer)


async def test_the_buffer_size_counts_every_byte_until_it_is_sent(loop):
    transport, recorder, peer = await connect(Recorder)
    transport.set_write_buffer_limits(high=100 * MIB)
    transport.write(b"x" * (20 * MIB))
    waiting = transport.get_write_buffer_size()
    assert 0 < waiting <= 20 * MIB
    transport.write(b"y" * MIB)
    assert transport.get_write_buffer_size() >= waiting
    await peer.receive_exactly(21 * MIB)
    while transport.get_write_buffer_size():
        await asyncio.sleep(0.001)
    assert "pause_writing" not in recorder.calls
    await shut(transport, recorder, peer)


async def test_writing_inside_resume_writing_pauses_again(loop):
    rounds = 3

    class Pump(Recorder):
        written = 0

        def fill(self):
            """Write until it is too much; how much that is, only the kernel knows."""
            pauses = self.calls.count("pause_writing")
            while self.calls.count("pause_writing") == pauses:
                self.transport.write(b"x" * MIB)
                self.written += MIB

        def resume_writing(self):
            super().resume_writing()
            if self.calls.count("pause_writing") < rounds:
                self.fill()

    transport, recorder, peer = await connect(Pump)
    recorder.fill()
    received = 0
    while recorder.calls.count("resume_writing") < rounds or received < recorder.written:
        if received < recorder.written:
            received += len(await peer.receive(MIB))
        else:
            await asyncio.sleep(0.001)
    assert recorder.calls[1:] == ["pause_writing", "resume_writing"] * rounds
    await shut(transport, recorder, peer)


async def test_closing_inside_pause_writing_still_flushes(loop):
    """Trap 15: after close() inside pause_writing, resume_writing may come; data must go out."""

    class Closing(Recorder):
        def pause_writing(self):
            super().pause_writing()
            self.transport.close()

    transport, recorder, peer = await connect(Closing)
    data = bytes(range(256)) * 40_000
    transport.write(data)
    assert await peer.receive_all() == data
    assert await recorder.lost() is None
    assert recorder.calls[-1] == "connection_lost"
    peer.close()


async def test_aborting_inside_pause_writing(loop):
    class Aborting(Recorder):
        def pause_writing(self):
            super().pause_writing()
            self.transport.abort()

    transport, recorder, peer = await connect(Aborting)
    transport.write(b"x" * (20 * MIB))
    assert await recorder.lost() is None
    peer.close()


@pytest.mark.parametrize("callback", ["pause_writing", "resume_writing"])
async def test_a_flow_control_callback_that_raises_is_reported(loop, caught, callback):
    class Broken(Recorder):
        pass

    def fail(self):
        raise LookupError(callback)

    setattr(Broken, callback, fail)
    transport, recorder, peer = await connect(Broken)
    transport.write(b"x" * (20 * MIB))
    await peer.receive_exactly(20 * MIB)
    while not caught:
        await asyncio.sleep(0.001)
    context = caught.take_one(LookupError)
    assert callback in context["message"]
    assert context["transport"] is transport
    assert context["protocol"] is recorder
    await shut(transport, recorder, peer)


async def test_changing_the_limits_acts_at_once(loop):
    transport, recorder, peer = await connect(Recorder)
    transport.set_write_buffer_limits(high=100 * MIB)
    transport.write(b"x" * (20 * MIB))
    assert "pause_writing" not in recorder.calls
    transport.set_write_buffer_limits(high=1000)
    assert recorder.calls[-1] == "pause_writing"
    await peer.receive_exactly(20 * MIB)
    await recorder.until(lambda: recorder.calls[-1] == "resume_writing")
    await shut(transport, recorder, peer)


async def test_a_slow_reader_holds_the_writer_back(loop):
    """Streams' drain() must wait: the buffers in between are bounded."""
    transport, recorder, peer = await connect(Recorder)
    written = 0
    while "pause_writing" not in recorder.calls:
        transport.write(b"x" * 4096)
        written += 4096
        await spin(1)
    assert written < 64 * MIB
    await peer.receive_exactly(written)
    await recorder.until(lambda: recorder.calls[-1] == "resume_writing")
    await shut(transport, recorder, peer)
