"""What is accepted, what is refused, and how it is told."""

from __future__ import annotations

import dataclasses

import pytest

import zerio_asyncio
from zerio_asyncio.messaging import (
    Reconnect,
    ZerioClientConfiguration,
    ZerioServerConfiguration,
    connect,
    serve,
)

BOTH = (ZerioServerConfiguration, ZerioClientConfiguration)


@pytest.mark.parametrize("side", BOTH)
def test_the_defaults_are_valid(side):
    config = side()
    assert config.max_message_size == 64 * 1024
    assert config.unsent_max == 4 << 20
    assert side(max_message_size=16 << 20).unsent_max == 64 << 20


WRONG = [
    ("max_message_size", 0),
    ("max_message_size", 2**31),
    ("unsent_max", 0),
    ("unsent_max", 65536),
    ("slow_peer", "ignore"),
    ("keepalive", 0),
    ("keepalive", 0.5),
    ("keepalive", 4000),
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
        (ZerioServerConfiguration, "peers_max", 0),
        (ZerioServerConfiguration, "unsent_total_max", 1 << 20),
        (ZerioServerConfiguration, "duplicate_peer", True),
        (Reconnect, "delay_min", 0),
        (Reconnect, "delay_max", 0.01),
        (Reconnect, "attempts", 0),
    ],
)
def test_those_of_one_side_alone(side, name, value):
    with pytest.raises(ValueError, match=name):
        side(**{name: value})


@pytest.mark.parametrize(
    ("side", "name", "value"),
    [
        (ZerioServerConfiguration, "peers_max", "many"),
        (ZerioServerConfiguration, "max_message_size", 1.5),
        (ZerioServerConfiguration, "max_message_size", True),
        (ZerioServerConfiguration, "handshake_timeout", "10"),
        (ZerioClientConfiguration, "reconnect", 1),
        (ZerioClientConfiguration, "extensions", "yes"),
        (ZerioServerConfiguration, "keepalive", "long"),
    ],
)
def test_values_of_a_wrong_type(side, name, value):
    with pytest.raises(TypeError, match=name):
        side(**{name: value})


def test_the_longest_message_must_fit_what_may_wait():
    with pytest.raises(ValueError, match="max_message_size"):
        ZerioServerConfiguration(unsent_max=64 * 1024, max_message_size=64 * 1024)
    ZerioServerConfiguration(unsent_max=64 * 1024 + 64, max_message_size=64 * 1024)


def test_configurations_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ZerioServerConfiguration().peers_max = 5


def test_choices_as_arguments():
    config = ZerioServerConfiguration(peers_max=5, keepalive=7)
    server = serve(0, config=config, keepalive=None)
    assert server.config == ZerioServerConfiguration(peers_max=5, keepalive=None)
    with pytest.raises(TypeError, match=r"no choice 'keep_alive'; there are: .*keepalive"):
        serve(0, keep_alive=1)
    with pytest.raises(ValueError, match="handshake_timeout"):
        connect(("127.0.0.1", 1), "me", handshake_timeout=-1)


def test_each_side_has_its_own_kind():
    with pytest.raises(TypeError, match="ZerioServerConfiguration"):
        serve(0, config=ZerioClientConfiguration())
    with pytest.raises(TypeError, match="ZerioClientConfiguration"):
        connect(("localhost", 1), "me", config=ZerioServerConfiguration())


@pytest.mark.parametrize("name", ["on_message", "on_event", "on_request"])
def test_handlers_can_be_called(name):
    for make in (lambda **h: serve(0, **h), lambda **h: connect(("127.0.0.1", 1), "me", **h)):
        with pytest.raises(TypeError, match=name):
            make(**{name: 17})
        with pytest.raises(TypeError, match=name):
            setattr(make(), name, 17)


def test_events_are_not_awaited():
    async def on_event(event):
        raise AssertionError

    with pytest.raises(TypeError, match="not awaited"):
        serve(0, on_event=on_event)


def test_methods_that_nobody_calls_are_refused():
    class Former(zerio_asyncio.ZerioServer):
        def message_received(self, peer_id, message):
            raise AssertionError

    with pytest.raises(TypeError, match="on_message"):
        Former(0)


@pytest.mark.parametrize("peer_id", ["", "é", "x" * 256, "\udcff", "me\0zerio/1"])
def test_peer_ids_that_cannot_go_over_the_wire(peer_id):
    with pytest.raises(ValueError, match="peer id"):
        connect(("127.0.0.1", 1), peer_id)


def test_a_peer_id_is_a_str():
    with pytest.raises(TypeError, match="peer id"):
        connect(("127.0.0.1", 1), b"bytes")


@pytest.mark.parametrize(
    "address", ["localhost", "localhost:7070", 7070, ("localhost",), ("localhost", "7070"),
                ("localhost", 0), (b"localhost", 7070), None]
)  # fmt: skip
def test_an_address_that_is_none(address):
    with pytest.raises(TypeError, match=r"such as \('127.0.0.1', 7070\)"):
        connect(address, "me")


@pytest.mark.parametrize("port", ["7070", -1, 65536, None, True])
def test_a_port_that_is_none(port):
    with pytest.raises(TypeError, match="port"):
        serve(port)


@pytest.mark.parametrize("concurrency", [0, -1, "many", None])
def test_how_many_handlers_run(concurrency):
    with pytest.raises(ValueError, match="concurrency"):
        serve(0, concurrency=concurrency)
