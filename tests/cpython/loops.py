"""Makes one kind of loop the one that every test gets, and counts how often it was made.

CPython's tests come to their loops by ``asyncio.SelectorEventLoop()``, with or without a selector,
on Windows by ``asyncio.ProactorEventLoop()``, by ``asyncio.EventLoop``, and by the policy that is
there when none was set. All of these are replaced before a test module is imported. What a test
makes by hand from the standard library's private classes stays what it is.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
import warnings
from typing import Any

KINDS = ("zerio", "asyncio", "uvloop", "winloop")


class Made:
    """How many loops of the kind under judgement were made in this process."""

    count = 0


def install(kind: str, provider: str | None) -> None:
    """Have every test run on loops of ``kind``; ``provider`` is for ours alone."""
    base, policy, arguments = _ingredients(kind, provider)

    class Loop(base):
        def __init__(self, selector: Any = None) -> None:
            if selector is not None:
                selector.close()
            super().__init__(*arguments)
            Made.count += 1

    if kind in {"uvloop", "winloop"}:
        # The suite's clean-up after each test reads it, and this is no judgement on a loop.
        Loop._default_executor = None

    # Messages and reprs are as without us.
    Loop.__name__, Loop.__qualname__ = base.__name__, base.__qualname__
    Loop.__module__ = base.__module__

    class Policy(policy):
        _loop_factory = Loop

    Policy.__name__, Policy.__qualname__ = policy.__name__, policy.__qualname__

    asyncio.SelectorEventLoop = Loop
    if hasattr(asyncio, "ProactorEventLoop"):
        asyncio.ProactorEventLoop = Loop
    if hasattr(asyncio, "EventLoop"):
        asyncio.EventLoop = Loop
    if sys.version_info >= (3, 14):  # names that only warn; what they stand for is private
        for name in ("asyncio.unix_events", "asyncio.windows_events"):
            if name in sys.modules:
                sys.modules[name]._DefaultEventLoopPolicy = Policy
        asyncio.events._set_event_loop_policy(None)
    else:
        asyncio.DefaultEventLoopPolicy = Policy
        asyncio.set_event_loop_policy(None)


def _ingredients(kind: str, provider: str | None) -> tuple[type, type, tuple[Any, ...]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if kind == "zerio":
            import zerio_asyncio

            options = zerio_asyncio.LoopOptions(provider=provider)
            policy = type("EventLoopPolicy", (zerio_asyncio.EventLoopPolicy,), {})
            return zerio_asyncio.RioEventLoop, policy, (options,)
        if kind == "uvloop":
            import uvloop

            return uvloop.Loop, asyncio.DefaultEventLoopPolicy, ()
        if kind == "winloop":
            import winloop

            return winloop.Loop, asyncio.DefaultEventLoopPolicy, ()
        standard = getattr(asyncio, "ProactorEventLoop", asyncio.SelectorEventLoop)
        return standard, asyncio.DefaultEventLoopPolicy, ()


def version_of(kind: str) -> str:
    """The version of what ``kind`` comes from; empty for the standard library's."""
    if kind == "zerio":
        import zerio_asyncio

        return zerio_asyncio.__version__
    return "" if kind == "asyncio" else importlib.metadata.version(kind)
