"""Choosing a provider, and what happens when the system forbids one.

The refusals are real: a seccomp filter answers io_uring_setup as container runtimes do.
"""

import errno
import logging
import os
import platform

import pytest

from tests.rio.isolated import isolated
from tests.rio.seccomp import IO_URING_SETUP, forbid
from zerio_asyncio.rio import CompletionPort, Provider, available, by_name, known, pick
from zerio_asyncio.rio.ports import open_port

LINUX = platform.system() == "Linux"
pytestmark = pytest.mark.skipif(not LINUX, reason="seccomp is Linux'")


@pytest.fixture(autouse=True)
def _no_choice_from_outside(monkeypatch):
    monkeypatch.delenv("ZERIO_PROVIDER", raising=False)


def test_linux_has_both_best_first():
    assert [provider.name for provider in known()] == ["uring", "epoll"]


def test_epoll_works_everywhere_on_linux():
    assert by_name("epoll") in available()


def test_providers_are_themselves():
    assert all(isinstance(provider, Provider) for provider in known())
    assert by_name("epoll") is by_name("epoll")
    assert repr(by_name("epoll")) == "<Provider epoll>"


def test_an_argument_decides(monkeypatch):
    monkeypatch.setenv("ZERIO_PROVIDER", "nonesuch")
    choice = pick("epoll")
    assert choice.provider.name == "epoll"
    assert choice.reason == "asked for"
    assert choice.refused == []


def test_the_environment_decides_without_an_argument(monkeypatch):
    monkeypatch.setenv("ZERIO_PROVIDER", "epoll")
    choice = pick()
    assert choice.provider.name == "epoll"
    assert "ZERIO_PROVIDER" in choice.reason


def test_an_empty_environment_is_none(monkeypatch):
    monkeypatch.setenv("ZERIO_PROVIDER", "")
    assert pick().provider is available()[0]


def test_the_best_that_works_is_the_default():
    assert pick().provider is available()[0]


@pytest.mark.parametrize("name", ["nonesuch", "EPOLL", "", " epoll"])
def test_an_unknown_name_lists_those_that_exist(name):
    with pytest.raises(ValueError, match="'uring', 'epoll'"):
        pick(name)


def test_an_unknown_name_in_the_environment(monkeypatch):
    monkeypatch.setenv("ZERIO_PROVIDER", "iouring")
    with pytest.raises(ValueError, match="'iouring'.*'uring', 'epoll'"):
        pick()


def test_one_debug_line_says_which_and_why(caplog):
    with caplog.at_level(logging.DEBUG, logger="zerio_asyncio"):
        pick("epoll")
    assert caplog.messages == ["provider epoll: asked for"]
    assert caplog.records[0].levelno == logging.DEBUG


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
def test_where_io_uring_is_forbidden_epoll_is_taken(error):
    isolated(fall_back, error)


def fall_back(error):
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logging.getLogger("zerio_asyncio").addHandler(handler)
    logging.getLogger("zerio_asyncio").setLevel(logging.DEBUG)
    forbid(IO_URING_SETUP, error)
    assert [provider.name for provider in available()] == ["epoll"]
    refusal = by_name("uring").probe()
    assert refusal.errno == error
    choice = pick()
    assert choice.provider.name == "epoll"
    assert choice.refused == [("uring", refusal.strerror)]
    assert len(records) == 1
    assert "epoll" in records[0]
    assert refusal.strerror in records[0]
    with CompletionPort() as port:
        assert port.provider.name == "epoll"
        port.post(1)
        assert [event.key for event in port.wait(1)] == [1]


def test_what_was_forbidden_after_it_had_worked_gives_way():
    isolated(forbidden_later)


def forbidden_later():
    choice, port = open_port()
    port.close()
    assert choice.provider.name == "uring"
    forbid(IO_URING_SETUP, errno.EPERM)
    choice, port = open_port()
    with port:
        assert choice.provider.name == "epoll"
        assert [name for name, _ in choice.refused] == ["uring"]
    try:
        open_port("uring")
    except OSError as refusal:
        assert refusal.errno == errno.EPERM
        assert "'uring', asked for, does not work here" in refusal.strerror
    else:
        raise AssertionError("uring was not refused")


def test_one_probe_serves_many_ports(monkeypatch):
    asked = []
    probe = Provider.probe
    monkeypatch.setattr(Provider, "probe", lambda self: asked.append(self) or probe(self))
    for _ in range(3):
        open_port()[1].close()
    assert len(asked) <= len(known())
    asked.clear()
    for _ in range(3):
        open_port()[1].close()
    assert asked == []


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
def test_a_named_provider_is_never_replaced(error):
    isolated(refuse, error)


def refuse(error):
    forbid(IO_URING_SETUP, error)
    for ask in (lambda: pick("uring"), lambda: CompletionPort("uring")):
        try:
            ask()
        except OSError as refusal:
            assert refusal.errno == error
            assert "'uring'" in refusal.strerror
            assert by_name("uring").probe().strerror in refusal.strerror
        else:
            raise AssertionError("uring was not refused")
    os.environ["ZERIO_PROVIDER"] = "uring"
    try:
        pick()
    except OSError as refusal:
        assert "ZERIO_PROVIDER" in refusal.strerror
    else:
        raise AssertionError("uring was not refused")


def test_a_refusal_names_cause_and_cure():
    isolated(explain)


def explain():
    forbid(IO_URING_SETUP, errno.EPERM)
    text = by_name("uring").probe().strerror
    assert any(word in text for word in ("seccomp", "container", "io_uring_disabled")), text
    assert len(text) < 512


def test_a_port_of_a_refused_provider_is_refused_too():
    """Probing is advice; making the port says the same when it is asked directly."""
    isolated(refuse_create)


def refuse_create():
    from zerio_asyncio.rio._rio import ffi, lib

    forbid(IO_URING_SETUP, errno.EPERM)
    assert by_name("uring").c.port.create(ffi.NULL) == ffi.NULL
    assert lib.rio_last_error() != 0


def test_a_reason_is_cut_to_its_room(provider):
    from zerio_asyncio.rio._rio import ffi

    for size in (0, 1, 8):
        room = ffi.new("char[16]", b"\xee" * 16)
        provider.c.probe(room, size)
        assert bytes(ffi.buffer(room))[size:] == b"\xee" * (16 - size)
