"""Winsock codes as OSError, and addresses."""

import errno
import os
import pickle
import socket

import pytest

from tests.rio.marks import with_unix_sockets
from zerio_asyncio.rio import RioError, addresses, code_name, winsock_error
from zerio_asyncio.rio._rio import lib
from zerio_asyncio.rio.errors import os_error

WINDOWS = os.name == "nt"

EXPECTED = {
    995: (errno.EINVAL if WINDOWS else errno.ECANCELED, OSError),  # to Python on Windows
    10004: (errno.EINTR, InterruptedError),
    10009: (errno.EBADF, OSError),
    10013: (errno.EACCES, PermissionError),
    10014: (errno.EFAULT, OSError),
    10022: (errno.EINVAL, OSError),
    10024: (errno.EMFILE, OSError),
    10035: (errno.EWOULDBLOCK, BlockingIOError),
    10037: (errno.EALREADY, BlockingIOError),
    10038: (errno.ENOTSOCK, OSError),
    10040: (errno.EMSGSIZE, OSError),
    10045: (errno.EOPNOTSUPP, OSError),
    10048: (errno.EADDRINUSE, OSError),
    10050: (errno.ENETDOWN, OSError),
    10053: (errno.ECONNABORTED, ConnectionAbortedError),
    10054: (errno.ECONNRESET, ConnectionResetError),
    10055: (errno.ENOBUFS, OSError),
    10057: (errno.ENOTCONN, OSError),
    10058: (errno.ESHUTDOWN, BrokenPipeError),
    10060: (errno.ETIMEDOUT, TimeoutError),
    10061: (errno.ECONNREFUSED, ConnectionRefusedError),
    10065: (errno.EHOSTUNREACH, OSError),
}


@pytest.mark.parametrize("code", EXPECTED)
def test_each_code_is_the_right_kind_of_error(code):
    number, kind = EXPECTED[code]
    error = winsock_error(code, "RIOSend")
    assert error.errno == number
    assert isinstance(error, kind)
    assert isinstance(error, RioError)
    assert error.winsock == code
    assert code_name(code) in str(error)
    assert "RIOSend" in str(error)
    if kind is OSError:
        assert type(error) is RioError


@pytest.mark.parametrize("code", EXPECTED)
def test_the_plain_error_is_what_the_socket_module_raises(code):
    number, kind = EXPECTED[code]
    error = os_error(code)
    assert type(error) is kind
    assert error.errno == number
    assert error.strerror
    assert "unknown" not in error.strerror.lower()
    if WINDOWS:
        assert error.winerror == code


@pytest.mark.skipif(not WINDOWS, reason="only Windows' own calls give its codes")
def test_the_socket_module_agrees():
    with socket.socket() as sock, pytest.raises(OSError, match="10057") as caught:
        sock.getpeername()
    ours, theirs = os_error(10057), caught.value
    assert type(ours) is type(theirs)
    assert (ours.errno, ours.winerror, ours.strerror) == (
        theirs.errno,
        theirs.winerror,
        theirs.strerror,
    )


def test_every_code_of_the_header_has_a_name_and_an_errno():
    names = [n for n in dir(lib) if n.startswith("RIO_E") and getattr(lib, n) > 10000]
    assert len(names) > 30
    for name in names:
        code = getattr(lib, name)
        assert code_name(code) == "WSA" + name.removeprefix("RIO_")
        assert lib.rio_errno(code) > 0


def test_the_map_and_its_inverse_agree():
    assert lib.rio_errno(995) == errno.ECANCELED
    for code in EXPECTED:
        assert lib.rio_code_of_errno(lib.rio_errno(code)) == code


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOMEM, 10055),
        (errno.EPERM, 10013),
        (errno.ENFILE, 10024),
        (errno.EWOULDBLOCK, 10035),
    ],
)
def test_errnos_without_a_code_of_their_own_have_a_near_one(number, code):
    assert lib.rio_code_of_errno(number) == code


@pytest.mark.parametrize("code", [1, 9999, 20000, -5, 2**31 - 1])
def test_unknown_codes_are_input_output_errors(code):
    error = winsock_error(code)
    assert error.errno == (errno.EINVAL if WINDOWS else errno.EIO)
    assert error.winsock == code
    assert str(code) in str(error)


@pytest.mark.parametrize("code", [10054, 10055, 1])
def test_errors_are_pickled_with_their_code(code):
    error = winsock_error(code, "RIOReceive")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.args == error.args
    assert again.winsock == code


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("127.0.0.1", 80)),
        (socket.AF_INET, ("0.0.0.0", 0)),
        (socket.AF_INET, ("255.255.255.255", 65535)),
        (socket.AF_INET6, ("::1", 443, 0, 0)),
        (socket.AF_INET6, ("fe80::1", 1, 5, 2)),
    ],
)
def test_addresses_come_back(family, address):
    raw = addresses.pack(family, address)
    assert len(raw) <= addresses.ADDRESS_SIZE
    assert addresses.unpack(raw.ljust(addresses.ADDRESS_SIZE, b"\0")) == address


def test_short_forms():
    full = addresses.pack(socket.AF_INET6, ("::1", 5, 0, 0))
    assert addresses.pack(socket.AF_INET6, ("::1", 5)) == full


@with_unix_sockets
def test_paths():
    family = socket.AF_UNIX.to_bytes(2, "little")
    assert addresses.pack(socket.AF_UNIX, "/tmp/x") == family + b"/tmp/x\0"
    assert addresses.pack(socket.AF_UNIX, b"\0name") == family + b"\0name"


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("localhost", 80)),
        (socket.AF_INET, ("::1", 80)),
        (socket.AF_INET6, ("127.0.0.1", 80)),
        (socket.AF_INET, ("127.0.0.1", -1)),
        (socket.AF_INET, ("127.0.0.1", 65536)),
        (12345, ("127.0.0.1", 80)),
    ],
)
def test_addresses_that_are_none(family, address):
    with pytest.raises(ValueError, match="address|port|path"):
        addresses.pack(family, address)


@with_unix_sockets
def test_a_path_that_is_too_long():
    with pytest.raises(ValueError, match="path"):
        addresses.pack(socket.AF_UNIX, "x" * 108)


def test_an_unknown_family_is_not_guessed():
    with pytest.raises(ValueError, match="family 0"):
        addresses.unpack(bytes(28))
