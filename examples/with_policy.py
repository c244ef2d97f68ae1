"""Our loop under a program that calls asyncio.run() itself and knows nothing of us.

    python examples/with_policy.py

The policy is for Python up to 3.13; asyncio deprecates policies in 3.14 and drops them in 3.16,
and with_runner.py shows what stays. zerio_asyncio.install() is the same in one call.
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
