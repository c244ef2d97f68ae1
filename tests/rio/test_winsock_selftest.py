"""`winsock` is offered only where Windows' own table does what it should: the self-test, once.

Runs where fake_rio.py of tests/wine has put a table that works in the place of Windows' own. Here
single functions of it are exchanged for broken ones; each test has a process of its own, because
the self-test is done once for a table.
"""

import ctypes
import json
import logging
import os
import sys

import pytest

from tests.rio.isolated import FAKE, isolated
from zerio_asyncio import cli
from zerio_asyncio.rio import CompletionPort, by_name, pick

pytestmark = pytest.mark.skipif(
    FAKE not in sys.modules, reason="breaks the table of tests/wine/fake_rio.c"
)

ENTRIES = (
    "RIOReceive", "RIOReceiveEx", "RIOSend", "RIOSendEx", "RIOCloseCompletionQueue",
    "RIOCreateCompletionQueue", "RIOCreateRequestQueue", "RIODequeueCompletion",
    "RIODeregisterBuffer", "RIONotify", "RIORegisterBuffer", "RIOResizeCompletionQueue",
    "RIOResizeRequestQueue",
)  # fmt: skip

POINTER, DWORD = ctypes.c_void_p, ctypes.c_uint32
TYPES = {  # result and arguments of those that are exchanged
    "RIOSend": (ctypes.c_int, POINTER, POINTER, DWORD, DWORD, POINTER),
    "RIOReceive": (ctypes.c_int, POINTER, POINTER, DWORD, DWORD, POINTER),
    "RIOCreateCompletionQueue": (ctypes.c_size_t, DWORD, POINTER),
    "RIODequeueCompletion": (DWORD, POINTER, POINTER, DWORD),
    "RIONotify": (ctypes.c_int, POINTER),
    "RIORegisterBuffer": (ctypes.c_size_t, POINTER, DWORD),
}
INVALID_BUFFER = 0xFFFFFFFF

BROKEN = {
    "no memory": ("RIORegisterBuffer", lambda *_: INVALID_BUFFER, "registering a buffer"),
    "no queue": ("RIOCreateCompletionQueue", lambda *_: 0, "making a completion queue"),
    "no sends": ("RIOSend", lambda *_: 0, "a byte each way"),
    "lost sends": ("RIOSend", lambda *_: 1, "a byte each way: the wait for a result did not end"),
    "no receives": ("RIOReceive", lambda *_: 0, "a byte each way"),
    "no results": ("RIODequeueCompletion", lambda *_: 0, "a byte each way"),
    "no notification": ("RIONotify", lambda *_: 10022, "a byte each way (Winsock error 10022)"),
}

kept = []  # what C points at


def exchange(entry, function):
    """Have the provider take the fake's table with this entry of ours in it."""
    fake = sys.modules[FAKE]
    number = ENTRIES.index(entry)
    kind = ctypes.WINFUNCTYPE(*TYPES[entry])
    broken = kind(function)
    ioctl_kind = ctypes.WINFUNCTYPE(
        ctypes.c_int, POINTER, DWORD, POINTER, DWORD, POINTER, DWORD, POINTER, POINTER, POINTER
    )
    theirs = ioctl_kind(("fake_ioctl", fake._fake))

    def ask(*arguments):
        answer = theirs(*arguments)
        table = ctypes.cast(arguments[4], ctypes.POINTER(POINTER))
        table[1 + number] = ctypes.cast(broken, POINTER).value
        return answer

    asking = ioctl_kind(ask)
    kept.extend([broken, asking])
    fake._replace(ctypes.cast(asking, POINTER), fake._pointer(fake._fake.fake_socket))


def choose():
    """What a loop takes, why not better, and what is logged."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("zerio_asyncio")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    os.environ.pop("ZERIO_PROVIDER", None)
    choice = pick()
    print(json.dumps([choice.provider.name, choice.refused, records]))


def break_it(name):
    entry, function, _ = BROKEN[name]
    exchange(entry, function)
    choose()


def become(mode):
    sys.modules[FAKE].become(mode)
    choose()


def refusal(said):
    name, refused, records = json.loads(said)
    assert name == "overlapped"
    assert [better for better, _ in refused] == ["winsock"]
    reason = refused[0][1]
    assert reason.startswith("Windows' Registered I/O failed its self-test at ")
    assert len(records) == 1
    assert reason in records[0]
    return reason


@pytest.mark.parametrize("name", BROKEN)
def test_a_step_that_fails_names_itself_and_overlapped_is_taken(name):
    assert f"self-test at {BROKEN[name][2]}" in refusal(isolated(break_it, name))


@pytest.mark.parametrize(
    ("mode", "step"),
    [
        ("REFUSES_QUEUES", "making request queues"),
        ("CORRUPTED", "a byte each way: the completion queue is corrupt"),
    ],
)
def test_what_the_fake_can_be_told_is_found(mode, step):
    fake = sys.modules[FAKE]
    assert f"self-test at {step}" in refusal(isolated(become, getattr(fake, mode)))


def test_where_all_is_well_winsock_is_taken():
    assert json.loads(isolated(choose))[:2] == ["winsock", []]


def once():
    fake = sys.modules[FAKE]
    fake.record(True)
    winsock = by_name("winsock")
    assert winsock.probe() is None
    first = [call.split()[0] for call in fake.calls()]
    assert first.count("RIOCreateRequestQueue") == 2
    assert winsock.probe() is None
    CompletionPort("winsock").close()
    assert "RIOCreateRequestQueue" not in " ".join(fake.calls())
    assert fake.violations() == []


def test_it_is_done_once_and_breaks_no_rule():
    isolated(once)


def asked_for_by_name():
    exchange(*BROKEN["no memory"][:2])
    try:
        CompletionPort("winsock")
    except OSError as error:
        assert "'winsock', asked for" in error.strerror
        assert "registering a buffer" in error.strerror
    else:
        raise AssertionError("it was not refused")
    assert by_name("winsock").probe() is not None, "once is enough"
    os.environ.pop("ZERIO_PROVIDER", None)
    assert cli.main(["info"]) == 0


def test_who_asks_for_it_by_name_hears_which_step_failed():
    said = isolated(asked_for_by_name)
    assert "provider: overlapped" in said
    assert "winsock: refused: Windows' Registered I/O failed its self-test" in said
