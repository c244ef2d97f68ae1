"""accept and connect on the port."""

import errno
import os
import socket
import time

import pytest

from tests.rio.bare import SECONDS, Bare, reset
from tests.rio.isolated import isolated
from tests.rio.marks import with_descriptor_limit, with_unix_sockets
from zerio_asyncio.rio import Kind, addresses, by_name
from zerio_asyncio.rio._rio import ffi, lib

ACCEPT, CONNECT = lib.RIO_PORT_ACCEPT, lib.RIO_PORT_CONNECT


@pytest.fixture
def listener(bare):
    with socket.create_server(("127.0.0.1", 0), backlog=256) as made:
        made.setblocking(False)
        yield made
        if bare.port and made.fileno() >= 0:
            bare.table.accept_stop(bare.port, made.fileno())


def accepted(bare, count, key=1):
    """The descriptors of ``count`` ACCEPT events, as sockets."""
    found = []
    end = time.monotonic() + SECONDS
    while len(found) < count:
        assert time.monotonic() < end, f"{len(found)} of {count} connections"
        for kind, status, event_key, value in bare.wait(0.1):
            assert (kind, status, event_key) == (ACCEPT, 0, key)
            found.append(socket.socket(fileno=value))
    bare.keep(*found)
    return found


class TestAccept:
    def test_each_connection_is_one_event(self, bare, listener):
        assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
        for _ in range(3):
            with socket.create_connection(listener.getsockname()) as client:
                (server,) = accepted(bare, 1)
                assert server.getpeername() == client.getsockname()

    def test_the_descriptor_is_not_blocking_and_not_inherited(self, bare, listener):
        assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
        with socket.create_connection(listener.getsockname()):
            (server,) = accepted(bare, 1)
            assert not server.get_inheritable()
            with pytest.raises(BlockingIOError):
                server.recv(1)

    def test_a_burst_that_came_before(self, bare, listener):
        clients = [socket.create_connection(listener.getsockname()) for _ in range(150)]
        bare.keep(*clients)
        assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
        servers = accepted(bare, 150)
        names = {server.getpeername() for server in servers}
        assert names == {client.getsockname() for client in clients}

    def test_a_burst_while_waiting(self, bare, listener):
        assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
        bare.wait(0)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(150)]
        bare.keep(*clients)
        assert len(accepted(bare, 150)) == 150
        bare.quiet(0.02)

    def test_an_accepted_socket_works_with_requests(self, bare, listener):
        assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
        with socket.create_connection(listener.getsockname()) as client:
            (server,) = accepted(bare, 1)
            queue, region = bare.queue(), bare.region()
            requests = bare.requests(server, queue)
            assert bare.receive(requests, region.buf(0, 10), 1) == 0
            client.sendall(b"hello")
            assert bare.collect(queue, 1) == [(0, 5, 0, 1)]

    @pytest.mark.parametrize("before", [True, False])
    def test_after_stop_no_event_comes_and_what_was_taken_is_closed(self, bare, listener, before):
        assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
        bare.wait(0)
        clients = []
        if before:
            clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
        assert bare.table.accept_stop(bare.port, listener.fileno()) == 0
        bare.quiet(0.03)
        listener.close()
        for client in clients:
            client.settimeout(5)
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                pass
            client.close()

    def test_stop_again_and_stop_of_nothing(self, bare, listener):
        assert bare.table.accept_stop(bare.port, listener.fileno()) == 0
        assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
        assert bare.table.accept_stop(bare.port, listener.fileno()) == 0
        assert bare.table.accept_stop(bare.port, listener.fileno()) == 0

    def test_accepting_may_be_taken_up_again(self, bare, listener):
        for key in range(1, 6):
            assert bare.table.accept(bare.port, listener.fileno(), key) == 0
            bare.wait(0)
            with socket.create_connection(listener.getsockname()):
                accepted(bare, 1, key)
            assert bare.table.accept_stop(bare.port, listener.fileno()) == 0

    def test_two_listeners_have_their_keys(self, bare, listener):
        with socket.create_server(("127.0.0.1", 0)) as other:
            assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
            assert bare.table.accept(bare.port, other.fileno(), 2) == 0
            with socket.create_connection(other.getsockname()):
                accepted(bare, 1, 2)
            with socket.create_connection(listener.getsockname()):
                accepted(bare, 1, 1)
            assert bare.table.accept_stop(bare.port, other.fileno()) == 0

    @with_unix_sockets
    def test_unix_listeners(self, bare, tmp_path):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            listener.listen()
            assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / "s"))
                (server,) = accepted(bare, 1)
                client.sendall(b"x")
                assert server.recv(1) == b"x"
            assert bare.table.accept_stop(bare.port, listener.fileno()) == 0

    def test_a_client_that_vanished_does_not_stop_the_listener(self, bare, listener):
        for _ in range(20):
            reset(socket.create_connection(listener.getsockname()))
        assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
        bare.wait(0)
        for _ in range(20):
            reset(socket.create_connection(listener.getsockname()))
        with socket.create_connection(listener.getsockname()) as client:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                for kind, status, _, value in bare.wait(0.1):
                    assert (kind, status) == (ACCEPT, 0)
                    server = socket.socket(fileno=value)
                    bare.keep(server)
                    try:
                        if server.getpeername() == client.getsockname():
                            return
                    except OSError:
                        continue
        pytest.fail("the last client was not accepted")

    def test_what_does_not_listen(self, bare):
        ours, _ = bare.pair()
        code = bare.table.accept(bare.port, ours.fileno(), 1)
        if code == 0:  # then the one event tells
            kind, status, key, value = bare.until(ACCEPT)
            assert (kind, key, value) == (ACCEPT, 1, lib.RIO_INVALID_SOCKET)
            code = status
        assert code in {lib.RIO_EINVAL, lib.RIO_EOPNOTSUPP}
        bare.quiet(0.02)
        for number in (987_654, lib.RIO_INVALID_SOCKET):
            refused = bare.table.accept(bare.port, number, 1)
            assert refused in {lib.RIO_ENOTSOCK, lib.RIO_EBADF}

    @with_descriptor_limit
    @pytest.mark.parametrize("armed", [False, True], ids=["then asked", "while accepting"])
    def test_exhaustion_is_told_once_and_passes(self, provider, armed):
        isolated(exhaust, provider.name, armed)

    def test_the_class_makes_sockets(self, port):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port.accept(listener, 4)
            with socket.create_connection(listener.getsockname()) as client:
                (event,) = port.wait(5)
                assert (event.kind, event.key) == (Kind.ACCEPT, 4)
                with event.take_socket() as server:
                    assert not server.getblocking()
                    assert server.getpeername() == client.getsockname()
                    assert server.family == socket.AF_INET
            port.accept_stop(listener)


def exhaust(name, armed):
    """No descriptor left: one error event, no busy loop, others unharmed; later it goes on."""
    bare = Bare(by_name(name))
    listener = socket.create_server(("127.0.0.1", 0), backlog=16)
    requests, queue, _, peer = bare.connection()
    region = bare.region()
    clients = [socket.socket() for _ in range(3)]
    warm = socket.socketpair()  # what the port opens lazily it has opened by now
    assert bare.table.watch(bare.port, warm[0].fileno(), 1, 1) == 0
    bare.wait(0)
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(number) for number in os.listdir("/proc/self/fd"))
    # Before accepting begins: io_uring looks at the limit when a request is made, not when it runs.
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
    if armed:
        assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
        with socket.create_connection(listener.getsockname()):
            accepted(bare, 1)[0].close()
    holes = []  # numbers below the limit that would still be free
    while True:
        try:
            holes.append(os.dup(0))
        except OSError as error:
            assert error.errno == errno.EMFILE
            break
    for client in clients:
        client.connect(listener.getsockname())
    if not armed:
        assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
    kind, status, key, value = bare.until(ACCEPT)
    assert (kind, status, key) == (ACCEPT, lib.RIO_EMFILE, 1), status
    assert value == lib.RIO_INVALID_SOCKET
    for _ in range(3):  # asked again, still without room: told once for each time, not more
        assert bare.table.accept(bare.port, listener.fileno(), 1) == 0
        assert bare.until(ACCEPT)[1] == lib.RIO_EMFILE
    bare.quiet(0.05)
    before = bare.statistics().waits
    assert bare.wait(0.05) == []  # it sleeps, it does not spin
    assert bare.statistics().waits == before + 1
    assert bare.receive(requests, region.buf(0, 8), 1) == 0
    peer.sendall(b"alive")
    assert bare.collect(queue, 1) == [(0, 5, 0, 1)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for number in holes:
        os.close(number)
    assert bare.table.accept(bare.port, listener.fileno(), 2) == 0
    servers = accepted(bare, 3, 2)
    assert {s.getpeername() for s in servers} == {c.getsockname() for c in clients}
    assert bare.table.accept_stop(bare.port, listener.fileno()) == 0
    bare.close()


def connect(bare, sock, address, key=1):
    raw = addresses.pack(sock.family, address)
    return bare.table.connect(bare.port, sock.fileno(), raw, len(raw), key)


@pytest.fixture
def sock(bare):
    made = socket.socket()
    made.setblocking(False)
    bare.keep(made)
    return made


class TestConnect:
    def test_success_is_one_event(self, bare, sock, listener):
        assert connect(bare, sock, listener.getsockname(), 5) == 0
        assert bare.until(CONNECT)[:3] == (CONNECT, 0, 5)
        assert sock.getpeername() == listener.getsockname()
        bare.quiet(0.02)

    def test_a_connected_socket_works_with_requests(self, bare, sock, listener):
        assert connect(bare, sock, listener.getsockname()) == 0
        bare.until(CONNECT)
        queue, region = bare.queue(), bare.region()
        requests = bare.requests(sock, queue)
        region.memory[:5] = b"hello"
        assert bare.send(requests, region.buf(0, 5), 1) == 0
        assert bare.collect(queue, 1) == [(0, 5, 0, 1)]
        listener.settimeout(5)
        server, _ = listener.accept()
        with server:
            assert server.recv(10) == b"hello"

    def test_refusal_is_a_status(self, bare, sock):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            address = gone.getsockname()
        code = connect(bare, sock, address)
        status = code or bare.until(CONNECT)[1]
        assert status == lib.RIO_ECONNREFUSED
        bare.quiet(0.02)

    def test_ipv6(self, bare):
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
            made = socket.socket(socket.AF_INET6)
            made.setblocking(False)
            bare.keep(made)
            assert connect(bare, made, listener.getsockname()) == 0
            assert bare.until(CONNECT)[1] == 0
            assert made.getpeername() == listener.getsockname()

    @with_unix_sockets
    def test_unix(self, bare, tmp_path):
        local = socket.socket(socket.AF_UNIX)
        local.bind(str(tmp_path / "s"))
        local.listen()
        abstract = socket.socket(socket.AF_UNIX)
        abstract.bind(f"\0zerio-{os.getpid()}-{tmp_path.name}")
        abstract.listen()
        bare.keep(local, abstract)
        for listener in (local, abstract):
            made = socket.socket(listener.family)
            made.setblocking(False)
            bare.keep(made)
            assert connect(bare, made, listener.getsockname()) == 0
            assert bare.until(CONNECT)[1] == 0
            assert made.getpeername() == listener.getsockname()

    @with_unix_sockets
    def test_a_missing_unix_path(self, bare, tmp_path):
        made = socket.socket(socket.AF_UNIX)
        made.setblocking(False)
        bare.keep(made)
        code = connect(bare, made, str(tmp_path / "missing"))
        status = code or bare.until(CONNECT)[1]
        assert lib.rio_errno(status) in {errno.ENOENT, errno.EIO, errno.ECONNREFUSED}

    def test_many_at_once_have_their_keys(self, bare, listener):
        socks = [socket.socket() for _ in range(50)]
        bare.keep(*socks)
        for key, made in enumerate(socks):
            made.setblocking(False)
            assert connect(bare, made, listener.getsockname(), key) == 0
        keys = set()
        end = time.monotonic() + SECONDS
        while len(keys) < 50:
            assert time.monotonic() < end
            for kind, status, key, _ in bare.wait(0.1):
                assert (kind, status) == (CONNECT, 0)
                assert key not in keys
                keys.add(key)

    def test_a_stopped_connect_gives_no_event(self, bare):
        """Stopped before and after it could have ended; the socket is ours to close."""
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            for turn in range(20):
                made = socket.socket()
                made.setblocking(False)
                assert connect(bare, made, listener.getsockname()) == 0
                if turn % 2:
                    time.sleep(0.001)
                assert bare.table.connect_stop(bare.port, made.fileno()) == 0
                made.close()
                assert bare.wait(0) == []
        bare.quiet(0.02)

    def test_a_pending_connect_is_stopped(self, bare):
        """A full backlog answers nobody, so the connect hangs until it is stopped."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            fill = [socket.socket() for _ in range(8)]
            bare.keep(*fill)
            for made in fill:
                made.setblocking(False)
                made.connect_ex(listener.getsockname())
            made = socket.socket()
            made.setblocking(False)
            assert connect(bare, made, listener.getsockname()) == 0
            bare.quiet(0.03)
            assert bare.table.connect_stop(bare.port, made.fileno()) == 0
            made.close()
            bare.quiet(0.03)

    def test_stop_of_nothing(self, bare, sock):
        assert bare.table.connect_stop(bare.port, sock.fileno()) == 0
        assert bare.table.connect_stop(bare.port, 987_654) == 0

    def test_the_address_is_copied(self, bare, sock, listener):
        raw = ffi.new("char[]", addresses.pack(socket.AF_INET, listener.getsockname()))
        assert bare.table.connect(bare.port, sock.fileno(), raw, 16, 1) == 0
        ffi.memmove(raw, b"\xff" * 16, 16)
        assert bare.until(CONNECT)[1] == 0

    def test_refused_arguments(self, bare, sock):
        raw = addresses.pack(socket.AF_INET, ("127.0.0.1", 9))
        call = bare.table.connect
        assert call(bare.port, 987_654, raw, len(raw), 1) in {lib.RIO_ENOTSOCK, lib.RIO_EBADF}
        assert call(bare.port, sock.fileno(), raw, 1 << 20, 1) in {lib.RIO_EINVAL, lib.RIO_EFAULT}
        assert call(bare.port, sock.fileno(), ffi.NULL, 16, 1) in {lib.RIO_EINVAL, lib.RIO_EFAULT}
        bare.quiet(0.02)

    def test_connecting_twice(self, bare, sock, listener):
        assert connect(bare, sock, listener.getsockname()) == 0
        assert bare.until(CONNECT)[1] == 0
        code = connect(bare, sock, listener.getsockname())
        status = code or bare.until(CONNECT)[1]
        assert status == lib.RIO_EISCONN

    def test_the_class_packs_addresses(self, port, listener):
        with socket.socket() as made:
            made.setblocking(False)
            port.connect(made, listener.getsockname(), 8)
            (event,) = port.wait(5)
            assert (event.kind, event.key, event.error) == (Kind.CONNECT, 8, None)
            with pytest.raises(ValueError, match="not a numeric address"):
                port.connect(made, ("localhost.invalid", 1))
            with pytest.raises(ValueError, match="port must be"):
                port.connect(made, ("127.0.0.1", 65536))
