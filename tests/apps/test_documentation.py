"""The programs of docs/applications.md do what is said there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import NamedTuple

import aiohttp
import pytest

from .support import ROOT, SECONDS, Process, free_port

PAGE = ROOT / "docs" / "applications.md"


class Section(NamedTuple):
    title: str
    program: str
    prints: str | None
    command: str | None


def sections() -> list[Section]:
    found = []
    for part in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        blocks = {"python": None, "text": None, "sh": None}
        for language, block in re.findall(r"^```(\w+)\n(.*?)^```", part, re.DOTALL | re.MULTILINE):
            assert blocks[language] is None, "one block of a kind in a section"
            blocks[language] = block
        title = part.partition("\n")[0]
        found.append(Section(title, blocks["python"], blocks["text"], blocks["sh"]))
    return found


GATHERED = "uvicorn, its answers gathered"
PROGRAMS = [section for section in sections() if section.prints is not None]


def test_every_section_is_run():
    others = {section.title for section in sections()} - {program.title for program in PROGRAMS}
    assert others == {"uvicorn", GATHERED, "pytest-asyncio"}  # below
    assert len(PROGRAMS) > 5


@pytest.fixture(params=[pytest.param(section, id=section.title) for section in PROGRAMS])
def section(request) -> Section:
    """A program, with the ports of this machine."""
    section = request.param
    program = section.program
    for number, port in (
        ("8000", free_port),
        ("6379", lambda: request.getfixturevalue("redis_server").port),
        ("5432", lambda: request.getfixturevalue("postgres").port),
    ):
        if re.search(rf"\b{number}\b", program):
            program = re.sub(rf"\b{number}\b", str(port()), program)
    program = program.replace('"tester"', '"tester", database="postgres"')
    return section._replace(program=program)


@pytest.mark.parametrize("provider", ["uring", "epoll"])
def test_programs(section, provider, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(section.program)
    done = subprocess.run(
        [sys.executable, str(path)],
        # gRPC's own threads log what they hear from each other while they stop, on every loop.
        env=dict(os.environ, ZERIO_PROVIDER=provider, GRPC_VERBOSITY="ERROR"),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == section.prints
    assert done.stderr == ""


def named(title: str) -> Section:
    return next(section for section in sections() if section.title == title)


@pytest.mark.ours
@pytest.mark.parametrize("title", ["uvicorn", GATHERED])
async def test_uvicorn(loop, kind, tmp_path, title):
    section = named(title)
    (tmp_path / "loops.py").write_text(named(GATHERED).program)
    (tmp_path / "app.py").write_text(named("uvicorn").program)
    command = [sys.executable, "-m", *section.command.split(), "--port", "0"]
    server = Process(command, kind, cwd=tmp_path)
    try:
        port = (await server.printed(r"running on http://127\.0\.0\.1:(\d+)"))[1]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}") as response:
                assert await response.text() == "RioEventLoop"
        server.signal(signal.SIGTERM)
        assert await server.ended() in (0, -signal.SIGTERM)
    finally:
        server.close()


TEST = """
import asyncio
import zerio_asyncio

async def test_loop():  # other plugins may derive from it
    assert isinstance(asyncio.get_running_loop(), zerio_asyncio.RioEventLoop)
"""


def test_pytest_asyncio(tmp_path):
    (tmp_path / "conftest.py").write_text(named("pytest-asyncio").program)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    (tmp_path / "test_it.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-v", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
