"""Which system this is may be asked in a few places only; everything else speaks the RIO table."""

from __future__ import annotations

import re

from .sources import named, with_suffix

WORDS = re.compile(
    r"""sys\.platform|os\.name\b|["']win32["']|["']linux["']|_WIN32|__linux__|platform\.system"""
)

ALLOWED = (
    "zerio_asyncio/rio/linux/",
    "zerio_asyncio/rio/windows/",
    "zerio_asyncio/rio/build.py",
    "zerio_asyncio/bench/build.py",
    "zerio_asyncio/bench/system.py",
    "zerio_asyncio/bench/linux/",
    "zerio_asyncio/bench/windows/",
    "zerio_asyncio/loop/unix/",
    "zerio_asyncio/loop/windows/",
    "zerio_asyncio/loop/__init__.py",
    "setup.py",
)

REASONS = {
    "zerio_asyncio/rio/rio.h": "the calling convention of Registered I/O is Windows' own",
    "zerio_asyncio/rio/table/clock.h": "each system's clock, read where nothing else is needed",
    "zerio_asyncio/rio/table/pages.h": "each system's pages, the same",
    "zerio_asyncio/rio/table/errors.c": "names of errno have other values on Windows",
    "zerio_asyncio/rio/buffers.py": "how mmap is asked for memory that a fork copies",
    "zerio_asyncio/rio/errors.py": "where the text of a Winsock code is",
    "zerio_asyncio/cli.py": "`info` prints the name of the system, and decides nothing by it",
    "tests/loop/support.py": "which standard loop is the oracle, and which providers there are",
    "tests/examples/test_examples.py": "a program is ended there by other means",
    "tests/rio/": "the providers differ by system, and the suite must know which to expect",
    "tests/wine/": "it builds for Windows on another system",
    "tests/tidy/test_imports.py": "each platform has modules that only load there",
    "tests/tidy/test_portable_c.py": "it looks at what Windows compiles, on any system",
    "tests/tidy/test_platform_words.py": "names the words it looks for",
    "tests/tidy/test_names.py": "names the folders of C sources",
    "tests/tidy/graph.py": "names the folders of C sources",
}


def test_platform_words_stand_where_they_may():
    wrong = []
    for path in with_suffix(".py", ".pyx", ".pxd", ".c", ".h"):
        name = named(path)
        if name.startswith((*ALLOWED, *REASONS)):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if WORDS.search(line):
                wrong.append(f"{name}:{number}: {line.strip()}")
    assert wrong == []


def test_every_exception_is_needed():
    paths = with_suffix(".py", ".c", ".h")
    for prefix in REASONS:
        texts = [path.read_text() for path in paths if named(path).startswith(prefix)]
        if texts:  # a part that is not there yet needs no exception yet
            assert any(WORDS.search(text) for text in texts), f"{prefix} asks no platform any more"
