"""Our loop under a program that calls asyncio.run() itself and knows nothing of us.

    python examples/with_policy.py

Policies go: asyncio warns of them from 3.14 on and drops them in 3.16. with_runner.py shows what
stays. zerio_asyncio.install() is the same in one call.
"""

import asyncio
import sys

import zerio_asyncio


async def main():
    print("running on", type(asyncio.get_running_loop()).__name__)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print('a subprocess, too')", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    print(output.decode().strip())


if __name__ == "__main__":
    asyncio.set_event_loop_policy(zerio_asyncio.EventLoopPolicy())
    asyncio.run(main())
