"""asyncio's own Runner with our loop in it; nothing else of the program changes.

    python examples/with_runner.py

Needs Python 3.11, where asyncio.Runner came. From 3.12 on asyncio.run() takes loop_factory, too.
"""

import asyncio

import zerio_asyncio


async def work(name, seconds):
    await asyncio.sleep(seconds)
    return f"{name} on {type(asyncio.get_running_loop()).__name__}"


async def main():
    for result in await asyncio.gather(work("first", 0.02), work("second", 0.01)):
        print(result)


if __name__ == "__main__":
    options = zerio_asyncio.LoopOptions(slice_size=64 * 1024)
    with asyncio.Runner(loop_factory=lambda: zerio_asyncio.new_event_loop(options)) as runner:
        runner.run(main())
        print("provider:", runner.get_loop().provider)
