"""``python -m asyncio ps`` and ``pstree`` (3.14) show the tasks of a process on any loop."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from .support import SECONDS

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio.tools is new in 3.14")

PROGRAM = """
    import asyncio
    import sys
    from tests.loop.support import make_loop

    async def waits():
        await asyncio.sleep(60)

    async def main():
        async with asyncio.TaskGroup() as group:
            for name in ("first of two", "second of two"):
                group.create_task(waits(), name=name)
            await asyncio.sleep(0)
            print("ready", flush=True)

    with asyncio.Runner(loop_factory=lambda: make_loop(sys.argv[1])) as runner:
        runner.run(main())
"""


@pytest.mark.parametrize("command", ["ps", "pstree"])
def test_tasks_are_shown(kind, command):
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM), kind]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout.readline().strip() == b"ready"
            shown = subprocess.run(
                [sys.executable, "-m", "asyncio", command, str(process.pid)],
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
        finally:
            process.kill()
    if shown.returncode and "ermission" in shown.stdout + shown.stderr:
        pytest.skip("the system lets nobody look into another process")
    assert shown.returncode == 0, shown.stderr
    for name in ("first of two", "second of two", "waits", "main"):
        assert name in shown.stdout
