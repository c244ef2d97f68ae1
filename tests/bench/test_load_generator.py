"""The generator finds every way in which an echo can be wrong, and keeps to its limits."""

import contextlib
import socket
import struct
import threading
import time

import pytest

from zerio_asyncio.bench.generator import LoadError
from zerio_asyncio.bench.load import LoadConfig

from .support import PATIENCE, descriptors, load, server


def corrupt(position: int):
    """Flip one bit of the byte at this position of each connection's stream."""

    def answer(data: bytes, seen: int) -> bytes:
        at = position - seen
        if not 0 <= at < len(data):
            return data
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return answer


@pytest.mark.parametrize("size", [1, 2, 1000, 1024, 4096])
@pytest.mark.parametrize("depth", [1, 3, 40])
def test_counts_what_the_quota_asks(size: int, depth: int) -> None:
    with server() as listener:
        result = load(listener, size=size, depth=depth, requests_each=50, connections=3)
    assert result["requests"] == result["requests_all"] == 150


def test_large_messages_take_several_sends_and_receives() -> None:
    with server() as listener:
        result = load(listener, size=3_000_001, depth=2, requests_each=5)
    assert result["requests"] == 10


@pytest.mark.parametrize(
    ("position", "where"),
    [
        (0, "message 0, byte 0"),
        (1023, "message 0, byte 1023"),
        (1024, "message 1, byte 0"),
        (5000, "message 4, byte 904"),
    ],
)
def test_one_changed_bit_is_found(position: int, where: str) -> None:
    with server(corrupt(position)) as listener, pytest.raises(LoadError, match=where):
        load(listener, connections=1, requests_each=10)


def test_a_changed_bit_deep_in_a_large_message_is_found() -> None:
    # Inside the window one large message in four is compared whole.
    size = 65536
    with server(corrupt(4 * size + 40_000)) as listener:
        with pytest.raises(LoadError, match="message 4, byte 40000"):
            load(listener, connections=1, size=size, requests_each=10)


def test_answers_in_the_wrong_order_are_found() -> None:
    held: list[bytes] = []

    def swap(data: bytes, seen: int) -> bytes:
        held.append(data)
        half = len(data) // 2
        return data[half:] + data[:half]

    with server(swap) as listener, pytest.raises(LoadError, match="came back for"):
        load(listener, connections=1, requests_each=10)


def test_another_connections_bytes_are_found() -> None:
    seen_first: list[bytes] = []

    def mix(data: bytes, seen: int) -> bytes:
        if not seen and len(data) == 512:
            seen_first.append(data)
        return seen_first[0] if seen_first else data

    with server(mix) as listener, pytest.raises(LoadError, match="came back for"):
        load(listener, connections=2, size=512, requests_each=2)


def test_too_many_bytes_are_found() -> None:
    with server(lambda data, seen: data + b"!") as listener:
        with pytest.raises(LoadError, match="more bytes came back"):
            load(listener, connections=1, requests_each=2)


def test_missing_bytes_are_silence() -> None:
    with server(lambda data, seen: data[:-1]) as listener:
        with pytest.raises(LoadError, match="silent"):
            load(listener, connections=1, requests_each=2, stall_s=0.2)


def test_a_closed_connection_is_found() -> None:
    with server(lambda data, seen: None) as listener:
        with pytest.raises(LoadError, match="closed the connection"):
            load(listener, connections=1, requests_each=2)


def test_a_reset_connection_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        from zerio_asyncio.bench.load import Load

        address, port = listener.getsockname()
        config = LoadConfig(address=address, port=port, connections=1, warmup_s=0)
        with Load(config) as run:
            run.connect()
            connection, _ = listener.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            with pytest.raises(LoadError, match="reset"):
                run.run()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        load_port(port)


def load_port(port: int) -> None:
    from zerio_asyncio.bench.load import Load

    with Load(LoadConfig(port=port, connections=1)) as run:
        run.connect()


def test_the_window_ends_by_time_and_everything_is_verified() -> None:
    with server() as listener:
        begin = time.monotonic()
        result = load(listener, warmup_s=0.1, measure_s=0.2)
        took = time.monotonic() - begin
    assert 0 < result["requests"] < result["requests_all"]  # type: ignore[operator]
    assert result["wall_s"] >= 0.2  # type: ignore[operator]
    assert took >= 0.3


def test_cpu_time_of_a_server_is_read() -> None:
    import os

    with server() as listener:
        # The server's threads are in this very process, and the generator is too.
        result = load(listener, warmup_s=0.1, measure_s=0.3, server_pid=os.getpid())
    assert result["load_cpu_s"] > 0  # type: ignore[operator]
    assert result["server_cpu_s"] > 0  # type: ignore[operator]


def test_a_server_that_has_ended_is_an_error() -> None:
    with server() as listener, pytest.raises(LoadError):
        load(listener, server_pid=2**22 + 1, requests_each=1)  # above the kernel's greatest pid


def test_unix_sockets(tmp_path) -> None:
    with server(path=str(tmp_path / "echo")) as listener:
        assert load(listener, requests_each=20)["requests"] == 40


def test_ipv6() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        from zerio_asyncio.bench.load import Load

        port = listener.getsockname()[1]
        with Load(LoadConfig(address="::1", port=port, connections=1)) as run:
            run.connect()
            listener.accept()[0].close()


@pytest.mark.parametrize("address", ["localhost", "", "/" + "x" * 200])
def test_addresses_are_numeric_or_short_paths(address: str) -> None:
    from zerio_asyncio.bench.load import Load

    with Load(LoadConfig(address=address, port=1, connections=1)) as run:
        with pytest.raises(OSError, match="connect"):
            run.connect()


@pytest.mark.parametrize(
    "setting",
    [
        {"connections": 0},
        {"connections": 1_000_000},
        {"size": 0},
        {"depth": 0},
        {"depth": 1025},
        {"port": 65536},
        {"measure_s": 0},
        {"warmup_s": -1},
        {"requests_each": 1, "warmup_s": 1},
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        LoadConfig(**setting)  # type: ignore[arg-type]


def test_no_descriptor_is_kept() -> None:
    before = descriptors()
    with server() as listener:
        load(listener, connections=10, requests_each=1)
    assert descriptors() == before


@contextlib.contextmanager
def datagram_server(answer):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        ended = threading.Event()
        sock.settimeout(0.05)

        def serve() -> None:
            number = 0
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    data, address = sock.recvfrom(65536)
                    back = answer(data, number)
                    number += 1
                    if back is not None:
                        sock.sendto(back, address)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock
        finally:
            ended.set()
            thread.join(PATIENCE)


@pytest.mark.parametrize("size", [1, 1000, 65507])
def test_datagrams_are_counted(size: int) -> None:
    with datagram_server(lambda data, number: data) as sock:
        result = load(sock, size=size, datagrams=True, requests_each=30)
    assert result["requests"] == result["requests_all"] == 60


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda data, number: bytes([data[0] ^ 1]) + data[1:], "byte 0: "),
        (lambda data, number: data[:-1], "another size"),
        (lambda data, number: data + b"x", "another size"),
        (lambda data, number: data if number != 3 else None, "silent"),
    ],
)
def test_wrong_and_lost_datagrams_are_found(wrong, message: str) -> None:
    with datagram_server(wrong) as sock, pytest.raises(LoadError, match=message):
        load(sock, size=100, datagrams=True, requests_each=10, stall_s=0.2, connections=1)


def test_a_datagram_has_its_limit() -> None:
    with pytest.raises(ValueError, match="size must be 1 to 65507"):
        LoadConfig(size=65508, datagrams=True)
