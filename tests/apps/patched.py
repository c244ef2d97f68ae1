"""Programs for which libraries change asyncio: each in a process of its own, printing what it saw.

python -m tests.apps.patched NAME LOOP
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from typing import Any

from ..loop.support import make_loop


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def echoes(count: int) -> int:
    """Questions to a server of the same loop; how many bytes were answered."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answered = 0
    for number in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * (1000 * number))
        writer.write_eof()
        answered += len(await reader.read())
        writer.close()
        await writer.wait_closed()
    server.close()
    return answered


async def slowly(value: Any) -> Any:
    await asyncio.sleep(0.001)
    return value


# ------------------------------------------------------------------------- runs inside of runs


def nested(loop: Any) -> Any:
    """A coroutine that runs others to their ends, two deep, while a task goes on."""

    async def main() -> list[Any]:
        ticks = []

        async def ticker() -> None:
            while True:
                ticks.append(1)
                await asyncio.sleep(0.001)

        async def middle() -> Any:
            return loop.run_until_complete(slowly("two deep"))

        task = loop.create_task(ticker())
        seen = [loop.run_until_complete(slowly(number)) for number in range(5)]
        seen.append(loop.run_until_complete(middle()))
        seen.append(loop.run_until_complete(echoes(5)))
        seen.append(
            loop.run_until_complete(asyncio.gather(*(slowly(number) for number in range(3))))
        )
        seen.append(loop.run_until_complete(loop.run_in_executor(None, len, "thread")))
        try:
            loop.run_until_complete(asyncio.wait_for(asyncio.sleep(60), 0.01))
        except asyncio.TimeoutError:
            seen.append("timeout")
        process = loop.run_until_complete(
            asyncio.create_subprocess_exec("echo", "child", stdout=asyncio.subprocess.PIPE)
        )
        seen.append(loop.run_until_complete(process.communicate())[0].decode())
        seen.append(len(ticks) > 5)
        task.cancel()
        return seen

    return main()


def nest(name: str, kind: str) -> list[Any]:
    library = importlib.import_module(name)
    loop = make_loop(kind)
    asyncio.set_event_loop(loop)
    library.apply(loop)
    seen = [loop.run_until_complete(nested(loop)), loop.run_until_complete(echoes(3))]
    loop.close()
    return seen


def nest_while_running(name: str, kind: str) -> list[Any]:
    """As in a notebook: the loop runs already."""
    library = importlib.import_module(name)
    loop = make_loop(kind)
    asyncio.set_event_loop(loop)

    async def main() -> Any:
        library.apply(loop)
        return await nested(loop)

    seen = [loop.run_until_complete(main()), loop.run_until_complete(echoes(3))]
    loop.close()
    return seen


# ------------------------------------------------------------------------------------- clocks


def freezegun(kind: str) -> list[Any]:
    import freezegun as library

    loop = make_loop(kind)
    seen: list[Any] = []

    async def real() -> None:
        """Time stands still, but not for the loop."""
        with library.freeze_time("2030-01-01", real_asyncio=True):
            before = time.time()
            await asyncio.sleep(0.01)
            seen.append(time.time() - before)

    async def frozen() -> None:
        """It stands still for the loop, too, and is moved by hand."""
        fired: list[int] = []
        with library.freeze_time("2030-01-01") as moved:
            handle = loop.call_later(3600, fired.append, 1)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seen.append(list(fired))
            moved.tick(3601)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seen.append(list(fired))
            handle.cancel()

    asyncio.set_event_loop_policy(policy(kind))
    loop.run_until_complete(real())
    loop.run_until_complete(frozen())
    loop.run_until_complete(asyncio.sleep(0.001))
    seen.append(loop.run_until_complete(echoes(3)))
    loop.close()
    return seen


def looptime(kind: str) -> list[Any]:
    """A day of sleep, at once."""
    from looptime import patch_event_loop

    loop = patch_event_loop(make_loop(kind), start=0, noop_cycles=2)
    start = time.monotonic()

    async def main() -> list[Any]:
        await asyncio.sleep(24 * 3600)
        seen: list[Any] = [loop.time()]
        try:
            await asyncio.wait_for(loop.create_future(), 3600)
        except asyncio.TimeoutError:
            seen.append(loop.time())
        seen.append(await asyncio.gather(*(asyncio.sleep(n, n) for n in (300, 200, 100))))
        seen.append(loop.time())
        return seen

    seen = loop.run_until_complete(main())
    seen.append(time.monotonic() - start < 3600)
    loop.close()
    return seen


# ----------------------------------------------------------------------------------- monitors


def aiodebug(kind: str) -> list[Any]:
    from aiodebug import log_slow_callbacks

    slow: list[str] = []
    log_slow_callbacks.enable(0.02, on_slow_callback=lambda name, took: slow.append(name))
    loop = make_loop(kind)

    async def blocks() -> None:
        time.sleep(0.03)  # that is what a monitor is for

    async def main() -> None:
        await asyncio.gather(blocks(), slowly(1), echoes(3))
        loop.call_soon(time.sleep, 0.03)
        loop.call_later(0.001, time.sleep, 0.03)
        await asyncio.sleep(0.05)

    loop.run_until_complete(main())
    loop.close()
    return [
        sum("blocks" in name for name in slow) == 1,
        sum("sleep" in name and "Timer" not in name for name in slow) >= 1,
        sum("TimerHandle" in name for name in slow) == 1,
    ]


# ----------------------------------------------------------------------------------- notebooks


def kernel(name: str, kind: str) -> list[Any]:
    """A kernel on the loop; its cells nest runs as notebooks do."""
    from jupyter_client.manager import KernelManager

    # Not over TCP: its ports are chosen before they are bound, and may be taken by then.
    manager = KernelManager(transport="ipc")
    command = [sys.executable, "-m", "tests.apps.patched", "serve_kernel", kind]
    manager.kernel_spec.argv[:] = [*command, "-f", "{connection_file}"]
    manager.start_kernel(cwd=os.getcwd())
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        return [
            run_cell(client, "import asyncio; type(asyncio.get_running_loop()).__name__")
            if kind == "std"
            else run_cell(client, "import asyncio; asyncio.get_running_loop().provider"),
            run_cell(client, f"import {name}; {name}.apply()"),
            run_cell(client, "loop = asyncio.get_running_loop()"),
            run_cell(client, "loop.run_until_complete(asyncio.sleep(0.01, 'nested'))"),
            run_cell(client, "asyncio.run(asyncio.sleep(0.01, 'run'))"),
            run_cell(client, "await asyncio.sleep(0.01, 'awaited')"),
            run_cell(
                client, "from tests.apps.patched import echoes; loop.run_until_complete(echoes(3))"
            ),
        ]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run_cell(client: Any, code: str) -> Any:
    """What a cell shows, or its error."""
    shown: list[Any] = []
    answer = client.execute_interactive(code, timeout=60, output_hook=shown.append)
    content = answer["content"]
    if content["status"] != "ok":
        return f"{content['ename']}: {content['evalue']}"
    for message in shown:
        if message["msg_type"] == "execute_result":
            return message["content"]["data"]["text/plain"]
    return None


def policy(kind: str) -> Any:
    if kind == "std":
        return asyncio.DefaultEventLoopPolicy()
    import zerio_asyncio

    return zerio_asyncio.EventLoopPolicy(zerio_asyncio.LoopOptions(provider=kind))


def serve_kernel(kind: str) -> None:
    from ipykernel.kernelapp import launch_new_instance

    asyncio.set_event_loop_policy(policy(kind))
    del sys.argv[1:3]
    launch_new_instance()


PROGRAMS = {
    "nest_asyncio": lambda kind: nest("nest_asyncio", kind),
    "nest_asyncio2": lambda kind: nest("nest_asyncio2", kind),
    "nest_asyncio, running": lambda kind: nest_while_running("nest_asyncio", kind),
    "nest_asyncio2, running": lambda kind: nest_while_running("nest_asyncio2", kind),
    "freezegun": freezegun,
    "looptime": looptime,
    "aiodebug": aiodebug,
    "kernel, nest_asyncio": lambda kind: kernel("nest_asyncio", kind),
    "kernel, nest_asyncio2": lambda kind: kernel("nest_asyncio2", kind),
}

if __name__ == "__main__":
    if sys.argv[1] == "serve_kernel":
        serve_kernel(sys.argv[2])
    else:
        print(json.dumps(PROGRAMS[sys.argv[1]](sys.argv[2])))
