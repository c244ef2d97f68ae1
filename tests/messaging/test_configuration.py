"""What is accepted, what is refused, and how it is told."""

from __future__ import annotations

import dataclasses

import pytest

import zerio_asyncio
from zerio_asyncio import ZerioClientConfiguration, ZerioServerConfiguration

BOTH = (ZerioServerConfiguration, ZerioClientConfiguration)


@pytest.mark.parametrize("side", BOTH)
def test_the_defaults_are_valid(side):
    config = side()
    assert config.framing_buffer_length == 64 * 1024
    assert config.unsent_max == 4 << 20


WRONG = [
    ("framing_buffer_length", 0),
    ("framing_buffer_length", 2**31),
    ("sending_buffer_count", 0),
    ("sending_buffer_length", 255),
    ("sending_buffer_length", 1001),
    ("sending_high_water", -1),
    ("sending_high_water", 5 << 20),
    ("sending_low_water", 300 << 10),
    ("slow_peer", "ignore"),
    ("max_send_batch_size", 0),
    ("max_conflated_send_request_count", -1),
    ("receiving_buffer_count", 0),
    ("receiving_buffer_length", 5000),
    ("wait_strategy", "doze"),
    ("handshake_timeout", 0),
    ("handshake_timeout", float("inf")),
    ("handshake_timeout", float("nan")),
]


@pytest.mark.parametrize("side", BOTH)
@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_value_out_of_its_range_is_named(side, name, value):
    with pytest.raises(ValueError, match=name):
        side(**{name: value})


@pytest.mark.parametrize(
    ("side", "name", "value"),
    [
        (ZerioServerConfiguration, "session_count", 0),
        (ZerioServerConfiguration, "unknown_peer", "what"),
        (ZerioServerConfiguration, "duplicate_peer", True),
        (ZerioClientConfiguration, "reconnect_delay_min", 0),
        (ZerioClientConfiguration, "reconnect_delay_max", 0.01),
    ],
)
def test_those_of_one_side_alone(side, name, value):
    with pytest.raises(ValueError, match=name):
        side(**{name: value})


@pytest.mark.parametrize(
    ("side", "name", "value"),
    [
        (ZerioServerConfiguration, "session_count", "many"),
        (ZerioServerConfiguration, "framing_buffer_length", 1.5),
        (ZerioServerConfiguration, "framing_buffer_length", True),
        (ZerioServerConfiguration, "handshake_timeout", "10"),
        (ZerioClientConfiguration, "reconnect", 1),
    ],
)
def test_values_of_a_wrong_type(side, name, value):
    with pytest.raises(TypeError, match=name):
        side(**{name: value})


def test_the_longest_message_must_fit_its_buffers():
    with pytest.raises(ValueError, match="framing_buffer_length"):
        ZerioServerConfiguration(sending_buffer_count=16, framing_buffer_length=64 * 1024)
    ZerioServerConfiguration(
        sending_buffer_count=17,
        framing_buffer_length=64 * 1024,
        sending_high_water=0,
        sending_low_water=0,
    )


def test_configurations_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ZerioServerConfiguration().session_count = 5


def test_the_loops_share():
    config = ZerioServerConfiguration(
        receiving_buffer_length=65536, max_send_batch_size=3, wait_strategy="hybrid(20)"
    )
    options = config.loop_options(provider="epoll")
    assert isinstance(options, zerio_asyncio.LoopOptions)
    assert options == zerio_asyncio.LoopOptions(
        slice_size=65536, send_depth=3, wait="hybrid(20)", provider="epoll"
    )
    assert config.loop_options(slice_size=4096).slice_size == 4096
    assert ZerioClientConfiguration().loop_options() == zerio_asyncio.LoopOptions()


@pytest.mark.parametrize(
    "options",
    [{"receiving_buffer_length": 4096}, {"max_send_batch_size": 2}, {"wait_strategy": "spin"}],
    ids=str,
)
def test_the_loop_must_be_as_asked_for(new_loop, options):
    async def start_both():
        server = zerio_asyncio.ZerioServer(0, config=ZerioServerConfiguration(**options))
        await server.start("server")
        client = zerio_asyncio.ZerioClient(
            ("127.0.0.1", server.listening_port), ZerioClientConfiguration(**options)
        )
        await client.start("client")
        await client.stop()
        await server.stop()

    (name,) = options
    with pytest.raises(RuntimeError, match=rf"{name}.*loop_options"):
        new_loop().run_until_complete(start_both())
    asked = dataclasses.asdict(ZerioServerConfiguration(**options).loop_options())
    del asked["provider"]
    new_loop(**asked).run_until_complete(start_both())


def test_each_side_has_its_own_kind():
    with pytest.raises(TypeError, match="ZerioServerConfiguration"):
        zerio_asyncio.ZerioServer(0, config=ZerioClientConfiguration())
    with pytest.raises(TypeError, match="ZerioClientConfiguration"):
        zerio_asyncio.ZerioClient(("localhost", 1), ZerioServerConfiguration())
    with pytest.raises(TypeError, match="message_received"):
        zerio_asyncio.ZerioServer(0, message_received=17)


@pytest.mark.parametrize("peer_id", ["", "é", "x" * 256, "\udcff"])
async def test_peer_ids_that_cannot_go_over_the_wire(loop, peer_id):
    with pytest.raises(ValueError, match="peer id"):
        await zerio_asyncio.ZerioServer(0).start(peer_id)
    with pytest.raises(ValueError, match="peer id"):
        await zerio_asyncio.ZerioClient(("127.0.0.1", 1)).start(peer_id)


async def test_a_peer_id_is_a_str(loop):
    with pytest.raises(TypeError, match="peer id"):
        await zerio_asyncio.ZerioServer(0).start(b"bytes")
