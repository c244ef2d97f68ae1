"""Listeners: who shares them, whom a connection is from, and numbers that come again."""

import os
import socket
import time

import pytest

from tests.rio.bare import SECONDS, reset
from tests.rio.marks import (
    with_accepts_of_the_gone,
    with_lowest_numbers,
    with_shared_listeners,
    with_unix_sockets,
)
from zerio_asyncio.rio import CompletionPort, Kind
from zerio_asyncio.rio._rio import lib


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=256) as made:
        yield made


def accepts(port, count):
    """The next ``count`` connections' events, and how many came with each wait."""
    events, waits = [], []
    end = time.monotonic() + SECONDS
    while len(events) < count:
        assert time.monotonic() < end, f"{len(events)} of {count} connections"
        found = port.wait(0.1)
        assert {(event.kind, event.status) for event in found} <= {(Kind.ACCEPT, 0)}
        events += found
        waits.append(len(found))
    return events, waits


def close(events):
    for event in events:
        event.take_socket().close()


class TestAlone:
    """Who alone accepts takes several connections in one wait; who may not be alone takes one."""

    def test_several_connections_in_one_wait(self, port, listener):
        clients = [socket.create_connection(listener.getsockname()) for _ in range(60)]
        port.accept(listener, 1)
        port.accept_alone(listener)
        waits = 0
        events = []
        while len(events) < 60:
            events += port.wait(5)
            waits += 1
        assert waits < 20
        for event in events:
            with event.take_socket() as server:
                assert event.peer == server.getpeername()
        assert {event.peer for event in events} == {client.getsockname() for client in clients}
        port.accept_stop(listener)
        for client in clients:
            client.close()

    @with_accepts_of_the_gone
    def test_one_connection_in_one_wait(self, port, listener):
        clients = [socket.create_connection(listener.getsockname()) for _ in range(10)]
        port.accept(listener, 1)
        port.accept_alone(listener)
        port.accept_alone(listener, False)
        for _ in clients:
            (event,) = port.wait(5)
            event.take_socket().close()
        port.accept_stop(listener)
        for client in clients:
            client.close()

    def test_no_listener_at_all(self, port, listener):
        with pytest.raises(OSError, match="accept_alone"):
            port.accept_alone(listener)


class TestPeer:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_the_event_says_whom_it_is_from(self, port, host):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as listener:
            port.accept(listener, 1)
            for _ in range(3):
                with socket.create_connection(listener.getsockname()[:2]) as client:
                    (event,), _ = accepts(port, 1)
                    assert event.peer == client.getsockname()
                    close([event])
            port.accept_stop(listener)

    @with_accepts_of_the_gone
    def test_a_client_that_has_gone_is_known_all_the_same(self, port, listener):
        names = []
        for _ in range(5):
            client = socket.create_connection(listener.getsockname())
            names.append(client.getsockname())
            reset(client)
        port.accept(listener, 1)
        events, _ = accepts(port, 5)
        assert [event.peer for event in events] == names
        for event in events:
            with event.take_socket() as server, pytest.raises(OSError, match="ot connected"):
                server.getpeername()
        port.accept_stop(listener)

    @with_unix_sockets
    def test_unix_clients_with_a_name_and_without(self, port, tmp_path):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "listener"))
            listener.listen()
            port.accept(listener, 1)
            for name in ("", str(tmp_path / "client"), f"\0zerio-{os.getpid()}-client"):
                with socket.socket(socket.AF_UNIX) as client:
                    if name:
                        client.bind(name)
                    client.connect(listener.getsockname())
                    (event,), _ = accepts(port, 1)
                    assert event.peer == client.getsockname()
                    with event.take_socket() as server:
                        assert event.peer == server.getpeername()
            port.accept_stop(listener)

    def test_every_address_of_a_burst_is_its_own(self, port, listener):
        clients = [socket.create_connection(listener.getsockname()) for _ in range(100)]
        port.accept(listener, 1)
        events, _ = accepts(port, 100)
        for event in events:
            with event.take_socket() as server:
                assert event.peer == server.getpeername()
        assert {event.peer for event in events} == {client.getsockname() for client in clients}
        port.accept_stop(listener)
        for client in clients:
            client.close()

    def test_addresses_stay_for_a_while(self, bare, listener):
        """Over the next wait, and until so many further connections as rio.h says."""
        from zerio_asyncio.rio._rio import ffi

        assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
        events = ffi.new("rio_port_event[1]")
        told = []
        for _ in range(lib.RIO_PEERS_KEPT + 1):
            client = socket.create_connection(listener.getsockname())
            bare.keep(client)
            end = time.monotonic() + SECONDS
            while bare.table.wait(bare.port, events, 1, 10**8) != 1:
                assert time.monotonic() < end
            bare.keep(socket.socket(fileno=events[0].value))
            peer = ffi.cast("rio_peer *", events[0].overlapped)
            told.append((peer, bytes(peer.address[0 : peer.length])))
        assert [bytes(peer.address[0 : peer.length]) for peer, _ in told] == [
            raw for _, raw in told
        ]
        assert len({raw for _, raw in told}) == len(told)
        assert bare.table.accept_stop(bare.port, listener.fileno()) == 0


@with_shared_listeners
class TestShared:
    @pytest.fixture
    def other(self, provider):
        with CompletionPort(provider) as made:
            yield made

    def test_a_port_that_does_not_wait_holds_nothing_back(self, port, other, listener):
        """The listener may be a blocking one: who comes too late must not block."""
        for each in (port, other):
            each.accept(listener, 1)
            assert each.wait(0) == []
        clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
        events, _ = accepts(other, 20)
        assert {event.peer for event in events} == {client.getsockname() for client in clients}
        assert port.wait(0.02) == []
        close(events)
        for client in clients:
            client.close()
        for each in (port, other):
            each.accept_stop(listener)

    def test_a_burst_is_shared_by_who_comes(self, port, other, listener):
        for each in (port, other):
            each.accept(listener, 1)
            each.wait(0)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
        shares = []
        for _ in range(10):
            for each in (port, other):
                events, waits = accepts(each, 1)
                shares.append((each, max(waits)))
                close(events)
        assert shares == [(port, 1), (other, 1)] * 10
        for client in clients:
            client.close()
        for each in (port, other):
            each.accept_stop(listener)

    def test_each_listener_gets_its_turn_in_a_wait(self, port):
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(40)]
        clients = []
        for key, listener in enumerate(listeners):
            port.accept(listener, key)
            clients += [socket.create_connection(listener.getsockname()) for _ in range(2)]
        events, _ = accepts(port, 80)
        assert sorted(event.key for event in events) == sorted(list(range(40)) * 2)
        close(events)
        for sock in [*listeners, *clients]:
            sock.close()

    def test_the_listener_blocks_nobody(self, port, listener):
        assert listener.getblocking()
        port.accept(listener, 1)
        assert not os.get_blocking(listener.fileno())


class TestNumbers:
    @with_lowest_numbers
    @pytest.mark.parametrize("heard", [False, True])
    @pytest.mark.parametrize("lives_on", [False, True], ids=["closed", "open elsewhere"])
    def test_a_new_listener_with_the_number_of_one_that_was_closed(self, port, heard, lives_on):
        old = socket.create_server(("127.0.0.1", 0))
        number, address = old.fileno(), old.getsockname()
        port.accept(old, 1)
        if heard:
            port.wait(0)
        twin = old.dup() if lives_on else None
        old.close()
        new = socket.create_server(("127.0.0.1", 0))
        assert new.fileno() == number
        port.accept(new, 2)
        with socket.create_connection(new.getsockname()) as client:
            (event,), _ = accepts(port, 1)
            assert (event.key, event.peer) == (2, client.getsockname())
            close([event])
        if twin is None:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
        else:
            with socket.create_connection(address):
                assert port.wait(0.02) == []
            twin.close()
        port.accept_stop(new)
        new.close()

    def test_a_second_call_changes_the_key(self, port, listener):
        for key in (1, 2, 3):
            port.accept(listener, key)
            with socket.create_connection(listener.getsockname()):
                (event,), _ = accepts(port, 1)
                assert event.key == key
                close([event])
        port.accept_stop(listener)

    def test_a_listener_may_be_watched_too(self, port, listener):
        port.accept(listener, 1)
        port.watch(listener, lib.RIO_WATCH_READ, 2)
        with socket.create_connection(listener.getsockname()):
            end = time.monotonic() + SECONDS
            kinds = {}
            while Kind.ACCEPT not in kinds:
                assert time.monotonic() < end
                kinds |= {event.kind: event for event in port.wait(0.1)}
            assert kinds[Kind.ACCEPT].key == 1
            close([kinds[Kind.ACCEPT]])
        port.watch(listener, 0)
        port.accept_stop(listener)
