"""``getaddrinfo`` of addresses: the answers of the socket module, whatever is asked."""

from __future__ import annotations

import asyncio
import itertools
import socket
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HOSTS = [
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "::1",
    "::",
    "2001:db8::1",
    "fe80::1",
    "::ffff:1.2.3.4",
    "::1.2.3.4",
    # Not as the system writes them, or no addresses at all.
    "127.1",
    "010.0.0.1",
    "1.2.3.256",
    " 127.0.0.1",
    "2001:DB8::1",
    "0:0:0:0:0:0:0:1",
    "fe80::1%1",
    "[::1]",
    "127.0.0.1\0",
    "",
    None,
    b"127.0.0.1",
    17,
]
PORTS = [
    None,
    0,
    1,
    80,
    65535,
    65536,
    -1,
    1 << 70,
    "80",
    "080",
    "http",
    "",
    "\u0663",
    b"80",
    1.5,
    True,
]
FAMILIES = [0, socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", 1), 12345]
TYPES = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, 12345]
PROTOCOLS = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP, 12345]
FLAGS = [
    getattr(socket, name, 0)
    for name in (
        "AI_PASSIVE",
        "AI_CANONNAME",
        "AI_NUMERICHOST",
        "AI_NUMERICSERV",
        "AI_V4MAPPED",
        "AI_ALL",
        "AI_ADDRCONFIG",
    )
]


def of_socket(*question):
    try:
        return socket.getaddrinfo(*question)
    except Exception as error:
        return type(error), error.args


async def of_loop(loop, host, port, family, kind, proto, flags):
    try:
        return await loop.getaddrinfo(
            host, port, family=family, type=kind, proto=proto, flags=flags
        )
    except Exception as error:
        return type(error), error.args


def is_quick(host, flags):
    """Whether the system need not ask a server of names."""
    return flags & socket.AI_NUMERICHOST or host in HOSTS[:11] or not isinstance(host, str)


# Of numbers alone, so that no test asks the world for a name.
NUMERIC = [host for host in HOSTS if is_quick(host, 0)]


async def test_every_family_type_protocol_and_flag(loop):
    combined = [0, FLAGS[1], FLAGS[4], FLAGS[0] | FLAGS[2] | FLAGS[3]]
    for question in itertools.product(
        ["127.0.0.1", "::1"], [80], FAMILIES[:3], TYPES[:4], PROTOCOLS[:3], combined
    ):
        assert await of_loop(loop, *question) == of_socket(*question), question


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    host=st.one_of(st.sampled_from(NUMERIC), st.ip_addresses().map(str)),
    port=st.one_of(st.sampled_from(PORTS), st.integers(0, 65535)),
    family=st.sampled_from(FAMILIES),
    kind=st.sampled_from(TYPES),
    proto=st.sampled_from(PROTOCOLS),
    flags=st.sets(st.sampled_from(FLAGS)).map(sum),
)
def test_whatever_is_asked(loop, host, port, family, kind, proto, flags):
    question = host, port, family, kind, proto, flags
    assert loop.run_until_complete(of_loop(loop, *question)) == of_socket(*question)


@pytest.mark.parametrize("host", [host for host in HOSTS if host not in NUMERIC])
async def test_what_is_no_address(loop, host):
    question = host, 80, 0, 0, 0, socket.AI_NUMERICHOST
    assert await of_loop(loop, *question) == of_socket(*question)


async def test_answers_are_the_callers_own(loop):
    first = await loop.getaddrinfo("127.0.0.1", 80)
    expected = list(first)
    first.clear()
    assert await loop.getaddrinfo("127.0.0.1", 80) == expected
    for family, kind, *_ in expected:
        assert isinstance(family, socket.AddressFamily)
        assert isinstance(kind, socket.SocketKind)


async def test_a_replaced_resolver_is_asked(loop, monkeypatch):
    await loop.getaddrinfo("127.0.0.1", 80)
    asked = []

    def resolve(*question):
        asked.append(question)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM) == []
    assert asked == [("127.0.0.1", 80, 0, socket.SOCK_STREAM, 0, 0)]


async def test_a_replaced_method_is_called(loop, monkeypatch):
    async def resolve(host, port, **options):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    assert (await loop.getaddrinfo("10.0.0.1", 80))[0][4] == ("127.0.0.1", 1)


async def test_the_audit_hears_of_each(loop):
    heard = []
    here = asyncio.current_task()

    def hook(event, arguments):
        if event == "socket.getaddrinfo" and here is not None:
            heard.append(arguments)

    sys.addaudithook(hook)
    for port in (7, 8):
        await loop.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
    here = None  # a hook stays for ever
    assert heard == [("127.0.0.1", port, 0, socket.SOCK_STREAM, 0) for port in (7, 8)]


def test_on_a_closed_loop(new_loop):
    loop = new_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.getaddrinfo("127.0.0.1", 80).send(None)


@pytest.mark.ours
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("port", [None, 80, "80"])
async def test_no_thread_is_asked(loop, host, port, monkeypatch):
    def run_in_executor(*_):
        raise AssertionError("a thread was asked")

    monkeypatch.setattr(loop, "run_in_executor", run_in_executor)
    loop.set_debug(False)  # debug mode tells how long a resolver took, so it asks one
    for kind in (0, socket.SOCK_STREAM, socket.SOCK_DGRAM):
        found = await loop.getaddrinfo(host, port, type=kind)
        assert found == socket.getaddrinfo(host, port, type=kind)
