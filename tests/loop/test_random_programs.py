"""Random programs of writes, pauses and sizes: every byte arrives, once, in order."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .support import connect, recorder_of, shut

SIZES = st.one_of(
    st.integers(0, 64),
    st.sampled_from([4095, 4096, 4097, 16383, 16384, 16385, 65536, 70_000]),
    st.integers(0, 300_000),
)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), SIZES),
        st.tuples(st.just("write mutable"), SIZES),
        st.tuples(st.just("writelines"), st.lists(st.integers(0, 5000), max_size=5)),
        st.tuples(st.just("peer sends"), SIZES),
        st.tuples(st.sampled_from(["pause", "resume", "turn", "limits"]), st.integers(0, 3)),
    ),
    max_size=25,
)

BOUNDED = settings(
    max_examples=25,
    deadline=None,
    # A failure here is mostly a hang; making it small would take as many time-outs as steps.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    # The loop is the same for all examples on purpose: what one leaves behind, the next meets.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Pattern:
    """An endless sequence of bytes in which every position can be told from its neighbours."""

    def __init__(self, salt: int) -> None:
        self.position = 0
        self.period = bytes((salt + n * n + n // 251) % 256 for n in range(65_521))

    def take(self, size: int) -> bytes:
        out = bytearray()
        while len(out) < size:
            start = self.position % len(self.period)
            part = self.period[start : start + size - len(out)]
            self.position += len(part)
            out += part
        return bytes(out)


def write(transport, outgoing: Pattern, step: str, argument) -> bytes:
    if step == "write":
        data = outgoing.take(argument)
        transport.write(data)
        return data
    if step == "write mutable":
        data = outgoing.take(argument)
        buffer = bytearray(data)
        transport.write(buffer)
        buffer[:] = b"!" * len(buffer)
        return data
    parts = [outgoing.take(size) for size in argument]
    transport.writelines(parts)
    return b"".join(parts)


async def run_program(protocol: str, steps) -> None:
    transport, recorder, peer = await connect(lambda: recorder_of(protocol))
    outgoing, incoming = Pattern(1), Pattern(2)
    written, sent = bytearray(), bytearray()
    receiving = asyncio.ensure_future(peer.receive_all())
    sending: list[asyncio.Future] = []
    for step, argument in steps:
        if step.startswith("write"):
            written += write(transport, outgoing, step, argument)
        elif step == "peer sends":
            data = incoming.take(argument)
            sent += data
            previous = sending[-1:]
            sending.append(asyncio.ensure_future(send_after(previous, peer, data)))
        elif step == "pause":
            transport.pause_reading()
        elif step == "resume":
            transport.resume_reading()
        elif step == "limits":
            transport.set_write_buffer_limits(high=argument * 1000)
        else:
            for _ in range(argument):
                await asyncio.sleep(0)
    transport.resume_reading()
    assert await recorder.got(len(sent)) == sent
    await asyncio.gather(*sending)
    transport.write_eof()
    assert await receiving == written
    pauses = recorder.calls.count("pause_writing")
    assert pauses - recorder.calls.count("resume_writing") in (0, 1)
    await shut(transport, recorder, peer)


async def send_after(previous, peer, data) -> None:
    await asyncio.gather(*previous)
    await peer.send(data)


@BOUNDED
@given(steps=STEPS)
def test_every_byte_arrives_in_order(loop, kind, protocol, steps):
    if kind == "std":
        # The standard loop of 3.12 and 3.13 keeps empty parts of writelines, and sends nothing
        # again and again.
        steps = [step for step in steps if step[0] != "writelines" or (all(step[1]) and step[1])]
    loop.run_until_complete(asyncio.wait_for(run_program(protocol, steps), 10))
