"""How a program runs on our loop: a factory, run, install, a policy."""

from __future__ import annotations

import asyncio
import sys
import warnings
from asyncio import coroutines, events, runners
from typing import TYPE_CHECKING, Any, TypeVar

from zerio_asyncio.loop import RioEventLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from zerio_asyncio.loop.options import LoopOptions

T = TypeVar("T")


def new_event_loop(options: LoopOptions | None = None) -> RioEventLoop:
    """Make an event loop: a factory for ``asyncio.Runner(loop_factory=...)`` and the like."""
    return RioEventLoop(options)


def run(
    main: Coroutine[Any, Any, T],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    debug: bool | None = None,
    options: LoopOptions | None = None,
) -> T:
    """Run a coroutine as ``asyncio.run`` does, on our loop.

    ``options`` are passed to the loop. ``loop_factory`` makes another loop instead; ``ValueError``
    if both are given. ``RuntimeError`` if a loop is running in this thread, ``ValueError`` if
    ``main`` is not a coroutine.
    """
    if events._get_running_loop() is not None:
        raise RuntimeError("run() cannot be called from a running event loop")
    if loop_factory is None:
        loop_factory = lambda: new_event_loop(options)  # noqa: E731
    elif options is not None:
        raise ValueError("options are for the loop that run() makes, not for a loop_factory's")
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=loop_factory, debug=debug) as runner:
            return runner.run(main)
    return _run_3_10(main, loop_factory, debug)


def _run_3_10(
    main: Coroutine[Any, Any, T],
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    debug: bool | None,
) -> T:
    """Do what asyncio.run of 3.10 does (it takes no factory) on a loop from the factory."""
    if not coroutines.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    loop = loop_factory()
    try:
        events.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            runners._cancel_all_tasks(loop)  # type: ignore[attr-defined]
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            events.set_event_loop(None)
            loop.close()


def __getattr__(name: str) -> Any:
    # Policies go away in Python 3.16, and merely naming them warns from 3.14 on: only those who ask
    # for one see them.
    if name == "EventLoopPolicy":
        policy = _make_policy()
        globals()[name] = policy
        return policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _make_policy() -> type:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        base: Any = asyncio.DefaultEventLoopPolicy

    class EventLoopPolicy(base):  # type: ignore[misc]
        """Makes our loop wherever asyncio makes one; ``options`` are passed to each loop."""

        def __init__(self, options: LoopOptions | None = None) -> None:
            super().__init__()
            self._options = options

        def _loop_factory(self) -> RioEventLoop:
            return new_event_loop(self._options)

    EventLoopPolicy.__module__ = "zerio_asyncio"
    EventLoopPolicy.__qualname__ = "EventLoopPolicy"
    return EventLoopPolicy


def install() -> None:
    """Set our policy in asyncio. From Python 3.12 on prefer ``run`` or a loop factory.

    Warns with ``DeprecationWarning`` on 3.12 and later, because asyncio is dropping policies.
    """
    if sys.version_info >= (3, 12):
        warnings.warn(
            "zerio_asyncio.install() is deprecated: use zerio_asyncio.run() or "
            "asyncio.Runner(loop_factory=zerio_asyncio.new_event_loop)",
            DeprecationWarning,
            stacklevel=2,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(__getattr__("EventLoopPolicy")())
