"""Every block of docs/tutorial.md does what the page says, in the page's order, in an empty folder.

A Python block is saved under the last file name that the text before it gives. A shell block is
run, and prints what the text block behind it shows. A program that says that it listens goes on
until the page ends. What installs the package is the business of those who run the tests.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import pytest

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`(\w+\.py)`")
SECONDS = 30  # for one command


def steps(text: str) -> list[tuple[str, str, str]]:
    """Every block: its language, the name of its file or what it prints, and itself."""
    blocks = list(BLOCK.finditer(text))
    found = []
    for place, block in enumerate(blocks):
        language, body = block.groups()
        before = text[blocks[place - 1].end() if place else 0 : block.start()]
        if language == "python":
            found.append((language, FILE.findall(before)[-1], body))
        elif language == "sh":
            after = blocks[place + 1] if place + 1 < len(blocks) else None
            shown = after[2] if after is not None and after[1] == "text" else ""
            found.append((language, shown, body))
        else:
            assert language == "text"
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def test_the_page_has_what_it_promises():
    names = [
        name
        for language, name, _ in steps(PAGE.read_text(encoding="utf-8"))
        if language == "python"
    ]
    assert names == [
        "echo_server.py",
        "echo_client.py",
        "tls_server.py",
        "tls_client.py",
        "message_server.py",
        "message_client.py",
        "conftest.py",
        "test_echo.py",
    ]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the page is for a POSIX shell")
@pytest.mark.timeout(3 * SECONDS)
def test_every_block_does_what_the_page_says(tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    for port in set(re.findall(r"\b8\d{3}\b", text)):
        text = text.replace(port, str(free_port()))
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tools / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTEST_ADDOPTS": ""}
    work = tmp_path / "work"
    work.mkdir()
    ran = []
    with contextlib.ExitStack() as servers:
        for language, detail, body in steps(text):
            if language == "python":
                (work / detail).write_text(body)
            elif detail.startswith("listening"):
                servers.enter_context(listening(body, detail, work, environment))
            elif "pip install" not in body:
                ran.append(body)
                done = subprocess.run(
                    ["bash", "-euc", body],
                    cwd=work,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=SECONDS,
                    check=False,
                )
                assert done.returncode == 0, done.stdout + done.stderr
                assert detail.strip() in done.stdout
    assert len(ran) == 6


@contextlib.contextmanager
def listening(command: str, says: str, work: pathlib.Path, environment: dict[str, str]):
    """A server that runs until it is interrupted, which it survives quietly."""
    process = subprocess.Popen(
        ["bash", "-euc", f"exec {command}"],
        cwd=work,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == says, process.communicate(timeout=SECONDS)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, output, errors) == (0, "", "")
