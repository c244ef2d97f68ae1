"""socket_send and socket_receive: sockets that have no request queue."""

import errno
import socket
import threading

import pytest

from tests.rio.bare import SECONDS
from zerio_asyncio.rio._rio import ffi, lib

NOT_NOW = lib.RIO_NOT_NOW


@pytest.fixture
def calls(bare):
    if not bare.provider.acts_now:
        pytest.skip(f"{bare.provider.name} does nothing without a request")

    class Calls:
        def send(self, sock, data):
            number = sock if isinstance(sock, int) else sock.fileno()
            return bare.provider.c.socket_send(number, ffi.from_buffer(data), len(data))

        def receive(self, sock, size):
            number = sock if isinstance(sock, int) else sock.fileno()
            memory = bytearray(size)
            count = bare.provider.c.socket_receive(number, ffi.from_buffer(memory), size)
            return bytes(memory[:count]) if count >= 0 else count

    return Calls()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_bytes_and_the_end(bare, calls, kind):
    ours, peer = bare.pair(kind)
    assert calls.receive(ours, 10) == NOT_NOW
    assert calls.send(ours, b"hello") == 5
    assert peer.recv(10) == b"hello"
    peer.sendall(b"answer")
    wait_until_readable(ours)
    assert calls.receive(ours, 3) == b"ans"
    assert calls.receive(ours, 10) == b"wer"
    assert calls.receive(ours, 10) == NOT_NOW
    peer.close()
    wait_until_readable(ours)
    assert calls.receive(ours, 10) == b""


def wait_until_readable(sock):
    sock.settimeout(SECONDS)
    sock.recv(1, socket.MSG_PEEK)


def test_a_blocking_socket_is_not_waited_for(bare, calls):
    ours, _ = bare.pair("unix")
    ours.setblocking(True)
    done = threading.Event()
    answers = []

    def ask():
        answers.append(calls.receive(ours, 10))
        while (sent := calls.send(ours, b"x" * 65536)) >= 0:
            answers.append(sent)
        done.set()

    threading.Thread(target=ask, daemon=True).start()
    assert done.wait(SECONDS)
    assert answers[0] == NOT_NOW
    assert len(answers) > 1


def test_errors_are_the_systems_own(bare, calls):
    ours, peer = bare.pair("unix")
    ours.shutdown(socket.SHUT_WR)
    assert calls.send(ours, b"x") == -errno.EPIPE
    for number in (987_654, lib.RIO_INVALID_SOCKET):
        assert calls.send(number, b"x") == -errno.EBADF
        assert calls.receive(number, 1) == -errno.EBADF
    with open("/dev/null") as plain:
        assert calls.receive(plain.fileno(), 1) == -errno.ENOTSOCK
