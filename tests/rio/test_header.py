"""What Python sees is what rio.h says: names, values, layouts."""

import re
from pathlib import Path

import zerio_asyncio.rio
from zerio_asyncio.rio._rio import ffi, lib
from zerio_asyncio.rio.build import declarations

HEADER = (Path(zerio_asyncio.rio.__file__).parent / "rio.h").read_text()

MICROSOFT = {
    "RIO_MAX_CQ_SIZE": 0x08000000,
    "RIO_CORRUPT_CQ": 0xFFFFFFFF,
    "RIO_MSG_DONT_NOTIFY": 1,
    "RIO_MSG_DEFER": 2,
    "RIO_MSG_WAITALL": 4,
    "RIO_MSG_COMMIT_ONLY": 8,
    "RIO_EVENT_COMPLETION": 1,
    "RIO_IOCP_COMPLETION": 2,
}


def test_every_constant_of_the_header_is_bound():
    names = re.findall(r"^#define (RIO_\w+)[ \t]+\S", HEADER, re.MULTILINE)
    names = [name for name in names if name != "RIO_CALL"]
    assert len(names) > 50
    for name in names:
        assert hasattr(lib, name), name


def test_every_function_of_the_header_is_bound():
    names = re.findall(r"^[\w *]+[ *](rio_\w+)\([^)]*\);", HEADER, re.MULTILINE)
    assert sorted(names) == [
        "rio_code_of_errno",
        "rio_errno",
        "rio_last_error",
        "rio_providers",
    ]
    for name in names:
        assert callable(getattr(lib, name))


def test_values_are_microsofts():
    for name, value in MICROSOFT.items():
        assert getattr(lib, name) == value, name


def test_the_table_has_microsofts_order():
    fields = [name for name, _ in ffi.typeof("RIO_EXTENSION_FUNCTION_TABLE").fields]
    assert fields == [
        "cbSize",
        "RIOReceive",
        "RIOReceiveEx",
        "RIOSend",
        "RIOSendEx",
        "RIOCloseCompletionQueue",
        "RIOCreateCompletionQueue",
        "RIOCreateRequestQueue",
        "RIODequeueCompletion",
        "RIODeregisterBuffer",
        "RIONotify",
        "RIORegisterBuffer",
        "RIOResizeCompletionQueue",
        "RIOResizeRequestQueue",
    ]


def test_layouts_of_64_bit_windows():
    sizes = {
        "RIO_BUF": 16,
        "RIORESULT": 24,
        "RIO_NOTIFICATION_COMPLETION": 32,
        "RIO_EXTENSION_FUNCTION_TABLE": 112,
        "RIO_SOCKADDR_INET": 28,
        "rio_port_event": 32,
    }
    for name, size in sizes.items():
        assert ffi.sizeof(name) == size, name
    assert ffi.offsetof("RIO_NOTIFICATION_COMPLETION", "u") == 8
    assert ffi.offsetof("RIORESULT", "RequestContext") == 16


def test_the_declarations_hold_nothing_of_the_preprocessor_but_constants():
    text = declarations(HEADER)
    for line in text.splitlines():
        assert not line.startswith("#") or re.fullmatch(r"#define \w+ \.\.\.", line), line
    assert "RIO_CALL" not in text
    assert "RIO_LAYOUT" not in text
    assert "__stdcall *RIONotify" in declarations(HEADER, "__stdcall")
