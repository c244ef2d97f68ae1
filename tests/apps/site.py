"""An ASGI application without a framework, for the servers that take one."""

from __future__ import annotations

import asyncio
import collections
import hashlib
import json

LARGE_PARTS = 256
PART = bytes(range(256)) * 256  # 64 KiB

calls: collections.Counter[str] = collections.Counter()


def gathering_loop():
    import zerio_asyncio  # here: other servers' processes have no need of it

    return zerio_asyncio.new_event_loop(zerio_asyncio.LoopOptions(gather=True))


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await websocket(receive, send)
    else:
        calls[scope["path"]] += 1
        await PAGES[scope["path"]](receive, send)


async def lifespan(receive, send):
    while True:
        message = await receive()
        kind = message["type"]
        print(kind, flush=True)
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


async def body_of(receive):
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def begin(send, *headers):
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})


async def finish(send, body):
    await begin(send, (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.body", "body": body})


async def loop_name(receive, send):
    loop = asyncio.get_running_loop()
    name = f"{type(loop).__module__}.{type(loop).__qualname__}"
    answer = {"loop": name, "provider": getattr(loop, "provider", "std")}
    await finish(send, json.dumps(answer).encode())


async def echo(receive, send):
    await finish(send, b"".join([part async for part in body_of(receive)]))


async def digest(receive, send):
    found = hashlib.sha256()
    async for part in body_of(receive):
        found.update(part)
    await finish(send, found.hexdigest().encode())


async def large(receive, send):
    await begin(send)
    for _ in range(LARGE_PARTS):
        await send({"type": "http.response.body", "body": PART, "more_body": True})
    await send({"type": "http.response.body"})


async def endless(receive, send):
    await begin(send)
    gone = asyncio.create_task(receive_disconnect(receive))
    while not gone.done():
        try:
            await send({"type": "http.response.body", "body": PART, "more_body": True})
        except OSError:  # what ASGI tells servers to raise
            break
        await asyncio.sleep(0)
    await gone
    print("the client of /endless left", flush=True)


async def receive_disconnect(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def slow(receive, send):
    print("/slow begins", flush=True)
    await asyncio.sleep(0.5)
    await finish(send, b"at last")


async def wait(receive, send):
    await receive_disconnect(receive)


async def websocket(receive, send):
    """Echoes; the text ``close`` ends with a code."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("websocket left with", message["code"], flush=True)
            return
        if message.get("text") == "close":
            await send({"type": "websocket.close", "code": 4001, "reason": "as you wish"})
            return
        data = message.get("bytes")
        answer = {"text": message["text"].upper()} if data is None else {"bytes": data}
        await send({"type": "websocket.send", **answer})


PAGES = {
    "/loop": loop_name,
    "/echo": echo,
    "/digest": digest,
    "/large": large,
    "/endless": endless,
    "/slow": slow,
    "/wait": wait,
}
