"""The rows of TLS: a generator that finds whatever is wrong, and every peer that can take part."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from zerio_asyncio.bench import pages, peers, tls, workloads
from zerio_asyncio.bench.generator import LoadError
from zerio_asyncio.bench.handshakes import Handshakes, HandshakesConfig
from zerio_asyncio.bench.load import Load, LoadConfig

from .support import descriptors, finish, load, server
from .test_load_generator import corrupt
from .test_measuring import run

LOOPS = ("asyncio", "uvloop", "uvloop-aiofastnet", "zerio-uring", "zerio-epoll")
LIMIT = "c-epoll"
BENCH = ("-m", "zerio_asyncio.bench")
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]

pytestmark = pytest.mark.skipif(tls.refusal() is not None, reason=f"no TLS: {tls.refusal()}")


@pytest.fixture(scope="module")
def certificate() -> Iterator[Path]:
    with tls.certificate() as path:
        yield path


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    return tls.server_context(certificate)


def shake(listener: socket.socket, **settings: object) -> dict[str, object]:
    address, port = listener.getsockname()
    chosen = {"connections": 3, "warmup_s": 0.0, "measure_s": 5.0, "handshakes_each": 4}
    chosen |= {"address": address, "port": port, **settings}
    with Handshakes(HandshakesConfig(**chosen)) as made:  # type: ignore[arg-type]
        made.connect()
        return made.run()


# ---- the generator ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [1, 1024, 16_384, 16_385, 600_000])
@pytest.mark.parametrize("depth", [1, 3])
def test_every_byte_comes_back(
    context: ssl.SSLContext, size: int, depth: int, version: ssl.TLSVersion
) -> None:
    context.minimum_version = context.maximum_version = version
    with server(context=context) as listener:
        result = load(listener, tls=True, size=size, depth=depth, requests_each=10, connections=3)
    assert result["requests"] == result["requests_all"] == 30


@pytest.mark.parametrize("position", [0, 1023, 1024, 5000])
def test_one_changed_bit_is_found(context: ssl.SSLContext, position: int) -> None:
    where = f"message {position // 1024}, byte {position % 1024}"
    with server(corrupt(position), context=context) as listener:
        with pytest.raises(LoadError, match=where):
            load(listener, tls=True, connections=1, requests_each=10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda data, seen: data + b"!", "more bytes came back"),
        (lambda data, seen: data[:-1], "silent"),
        (lambda data, seen: None, "closed the connection"),
    ],
)
def test_wrong_answers_are_found(context: ssl.SSLContext, wrong, message: str) -> None:
    with server(wrong, context=context) as listener, pytest.raises(LoadError, match=message):
        load(listener, tls=True, connections=1, requests_each=2, stall_s=0.5)


def test_a_server_that_speaks_no_tls_is_an_error() -> None:
    with server() as listener, pytest.raises(OSError, match="connect"):
        load(listener, tls=True)


def test_a_server_that_says_nothing_is_an_error() -> None:
    with server(lambda data, seen: b"") as listener, pytest.raises(OSError, match="connect"):
        load(listener, tls=True, stall_s=0.2)


def answering(page: bytes):
    return lambda data, seen: page * data.count(b"\r\n\r\n")


@pytest.mark.parametrize("depth", [1, 4])
def test_pages_are_counted(context: ssl.SSLContext, depth: int) -> None:
    with server(answering(pages.ANSWER), context=context) as listener:
        result = load(listener, tls=True, page=True, depth=depth, requests_each=20)
    assert result["requests"] == 40


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (pages.ANSWER.replace(b"World", b"world"), "came back for"),
        (pages.ANSWER.replace(b"200", b"500"), "message 0, byte 9"),
        (pages.ANSWER + b"!", "more bytes came back"),
    ],
)
def test_another_page_is_found(page: bytes, message: str) -> None:
    with server(answering(page)) as listener, pytest.raises(LoadError, match=message):
        load(listener, page=True, requests_each=5)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("resumed", [False, True])
def test_handshakes_are_counted(
    context: ssl.SSLContext, resumed: bool, version: ssl.TLSVersion
) -> None:
    context.minimum_version = context.maximum_version = version
    with server(context=context) as listener:
        result = shake(listener, resumed=resumed)
    assert result["requests"] == result["requests_all"] == 12
    stats = context.session_stats()
    assert stats["hits"] == (12 if resumed else 0)
    assert stats["accept_good"] == 13  # the first one is not counted


def test_a_session_that_is_not_resumed_is_found(context: ssl.SSLContext) -> None:
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    with server(context=context) as listener, pytest.raises(LoadError, match="session"):
        shake(listener, resumed=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (corrupt(3), "byte 3"),
        (lambda data, seen: data + b"!", "more bytes came back"),
        (lambda data, seen: data[:-1], "silent"),
        (lambda data, seen: None, "closed the connection"),
    ],
)
def test_a_wrong_message_after_a_handshake_is_found(
    context: ssl.SSLContext, wrong, message: str
) -> None:
    good = True

    def first_is_right(data: bytes, seen: int) -> bytes | None:
        nonlocal good
        good, was = False, good
        return data if was else wrong(data, seen)

    with server(first_is_right, context=context) as listener:
        with pytest.raises(LoadError, match=message):
            shake(listener, connections=1, stall_s=0.5)


def test_no_descriptor_is_kept(context: ssl.SSLContext) -> None:
    before = descriptors()
    with server(context=context) as listener:
        load(listener, tls=True, connections=10, requests_each=1)
        shake(listener)
    assert descriptors() == before


@pytest.mark.parametrize(
    "setting", [{"tls": True, "datagrams": True}, {"page": True, "datagrams": True}]
)
def test_datagrams_have_no_tls(setting: dict[str, bool]) -> None:
    with pytest.raises(ValueError, match="datagrams"):
        LoadConfig(**setting)


def test_without_a_library_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from zerio_asyncio.bench import generator

    class Without:
        tls_version = staticmethod(lambda: generator.ffi.NULL)

    monkeypatch.setattr(generator, "lib", Without)
    for made in (lambda: Load(LoadConfig(tls=True)), lambda: Handshakes(HandshakesConfig())):
        with pytest.raises(LoadError, match="no OpenSSL"):
            made()


# ---- the rows --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LOOPS, LIMIT])
@pytest.mark.parametrize("size", [1024, 65_536])
def test_tls_on_every_peer(name: str, size: int) -> None:
    (outcome,) = run(workloads.Workload("tls", size=size, connections=5), name).outcomes
    assert outcome.error is None
    assert outcome.ran == ("native" if name == LIMIT else "tls")
    assert outcome.samples[0]["cpu_us"] > 0
    assert outcome.samples[0]["requests_s"] > 0


@pytest.mark.parametrize("name", [*LOOPS, LIMIT])
@pytest.mark.parametrize("resumed", [False, True])
def test_handshakes_on_every_peer(name: str, resumed: bool) -> None:
    row = run(workloads.Workload("handshake", size=64, connections=2, resumed=resumed), name)
    (outcome,) = row.outcomes
    assert outcome.error is None
    assert row.title == f"handshake, {'resumed' if resumed else 'full'} × 2"
    assert outcome.samples[0]["cpu_us"] > 0


@pytest.mark.parametrize("name", LOOPS)
def test_pages_on_every_loop(name: str) -> None:
    if (refusal := tls.refusal() or pages.refusal("https")) is not None:
        pytest.skip(refusal)
    (outcome,) = run(workloads.Workload("https", connections=5), name).outcomes
    assert outcome.error is None
    assert outcome.ran == "https"
    assert outcome.samples[0]["requests_s"] > 0


@pytest.mark.parametrize("name", [*LOOPS, LIMIT])
def test_memory_of_idle_connections(name: str) -> None:
    (outcome,) = run(workloads.Workload("tls-idle", connections=50), name).outcomes
    assert outcome.error is None
    assert set(outcome.samples[0]) == {"idle_bytes", "warm_bytes", "closed_bytes", "start_bytes"}


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_the_limit_server_holds_what_is_not_taken(size: int) -> None:
    workload = workloads.Workload("tls", size=size, connections=5, depth=4)
    (outcome,) = run(workload, LIMIT).outcomes
    assert outcome.error is None
    assert outcome.samples[0]["requests_s"] > 0


def test_who_takes_part() -> None:
    everyone = [peers.Peer(name, name, native=name == LIMIT) for name in (*LOOPS, "rloop", LIMIT)]

    def names(mode: str) -> set[str]:
        return {peer.name for peer in workloads.peers_for(workloads.Workload(mode), everyone)}

    assert names("tls") == names("handshake") == {*LOOPS, LIMIT}, "rloop has no TLS"
    assert names("https") == set(LOOPS)
    assert names("protocol") == {*LOOPS, "rloop", LIMIT} - {"uvloop-aiofastnet"}
    assert {peer.name for peer in workloads.schedulers(everyone)} == names("protocol") - {LIMIT}


@pytest.mark.timeout(150)
def test_from_the_command_line(tmp_path: Path) -> None:
    target = tmp_path / "all.json"
    modes = [word for mode in ("tls", "handshake", "https") for word in ("--mode", mode)]
    arguments = ["--rounds", "1", "--seconds", "0.1", "--warmup", "0.05", "--connections", "3"]
    arguments += ["--peer", "asyncio", "--peer", LIMIT, "--json", str(target)]
    if pages.refusal("https") is not None:
        modes = modes[:4]
    status, out, err = finish(*BENCH, *modes, *arguments)
    assert (status, err) == (0, ""), out
    for words in ("tls, 1 KiB × 3", "handshake, full × 3", "handshake, resumed × 3", "conn/s"):
        assert words in out
    assert ("https, 13 B × 3" in out) == (len(modes) == 6)
    rows = json.loads(target.read_text())["rows"]
    assert [row["resumed"] for row in rows if row["mode"] == "handshake"] == [0, 1]


ELSEWHERE = """\
import sys
from zerio_asyncio.bench import system
system.HAS_TLS_ROWS = False
from zerio_asyncio.bench.command import main, _default_modes
if len(sys.argv) > 1:
    sys.exit(main(sys.argv[1:]))
modes, refused = _default_modes()
print(*modes)
print(*[f"{peer.name}: {peer.refusal}" for peer in refused], sep="\\n")
"""


def test_on_other_systems_the_rows_say_that_they_are_not_there() -> None:
    for mode in ("tls", "handshake", "https", "tls-idle"):
        status, _, err = finish("-c", ELSEWHERE, "--mode", mode)
        assert status == 2
        assert err.splitlines() == [f"bench: the mode {mode} cannot run here: they are for Linux"]
    status, out, _ = finish("-c", ELSEWHERE)
    assert status == 0
    first, *others = out.splitlines()
    assert "protocol" in first
    assert not {"tls", "handshake", "https"} & set(first.split())
    others = [line for line in others if ": install " not in line]  # those of HTTP
    assert others == [f"{name}: they are for Linux" for name in ("tls", "handshake", "https")]


# ---- the certificate -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["command", "package"])
def test_certificates_are_made_either_way(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "package":
        pytest.importorskip("cryptography")
        monkeypatch.setattr(shutil, "which", lambda name: None)
        monkeypatch.setattr(subprocess, "run", None)
    elif shutil.which("openssl") is None:
        pytest.skip("there is no command openssl")
    with tls.certificate() as path:
        tls.server_context(path)
        decoded = ssl._ssl._test_decode_cert(str(path))  # type: ignore[attr-defined]
        assert decoded["subject"] == ((("commonName", "localhost"),),)
        with server(context=tls.server_context(path)) as listener:
            assert load(listener, tls=True, requests_each=2)["requests"] == 4
    assert not path.parent.exists()


def test_servers_that_need_a_certificate_say_so() -> None:
    for mode in ("tls", "https"):
        for peer in ("asyncio", LIMIT)[: 1 + (mode == "tls")]:
            status, out, _ = finish(
                "-m", "zerio_asyncio.bench.servers", "--peer", peer, "--mode", mode
            )
            assert status == 1
            assert "--certificate is missing" in out
