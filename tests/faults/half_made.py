"""Does with a compiled class what nobody should, each in a process of its own.

``python -m tests.faults.half_made StreamTransport uring`` prints a line for each: what was done, a
tab, and what came of it: ``raised TypeError``, ``went``, ``SIGSEGV``.
"""

from __future__ import annotations

import contextlib
import copy
import faulthandler
import gc
import os
import pickle
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from .specimens import LIVE, Ground, classes

LIMIT = 10
"""Seconds of one deed: a hang is ended by SIGALRM."""

STATES: tuple[Any, ...] = (None, (), {}, (0,) * 20, ([1],) * 4, (0, 100_000, b"abc" * 3, [100_000]))

HOOKS = ("__setstate_cython__", "__setstate__")

PLAIN = frozenset(dir(object)) - {"__init__", "__repr__", "__hash__", "__eq__", "__lt__"}
COPYING = frozenset(
    {"__reduce__", "__reduce_ex__", "__reduce_cython__", "__setstate_cython__", "__setstate__"}
)


def arguments(thing: Any) -> Iterator[tuple[Any, ...]]:
    """What methods are called with: nothing, and a few things of each kind."""
    one, other = socket.socketpair()
    one.setblocking(False)
    message = memoryview(b"\0\0\0\0\1\0\0\0x")
    yield from (
        (), (None,), (thing,), (1,), (b"x",), (message,), (int,), (Future(),), (one, 10),
        (one, b"x"), (b"x", ("127.0.0.1", 9)), (1, int), (int, 10), (thing, b"x"),
        (one.fileno(), 1), (int, (), thing), (1.0, int, (), thing), (None, one, None),
        (0, 0, None, 8, 8, int, int),
    )  # fmt: skip
    one.close()
    other.close()


def call(function: Any, *values: Any) -> Any:
    """Call it, and begin what it began."""
    result = function(*values)
    if hasattr(result, "send") and hasattr(result, "close"):
        with contextlib.suppress(StopIteration):
            result.send(None)
        result.close()
    return result


def use(thing: Any, name: str) -> None:
    """Read an attribute, and call it, if it can be, with all kinds of things."""
    attribute = getattr(thing, name)
    if callable(attribute):
        for values in arguments(thing):
            with contextlib.suppress(Exception):
                call(attribute, *values)
        for method in (repr, hash, str):
            with contextlib.suppress(Exception):
                method(thing)


def names(cls: type) -> list[str]:
    return sorted(set(dir(cls)) - PLAIN - COPYING)


Deed = Callable[[], object]


def bare(cls: type) -> Iterator[tuple[str, Deed]]:
    """After ``__new__`` alone."""
    make = cls.__new__
    yield "bare: __new__", lambda: make(cls)
    yield "bare: memoryview", lambda: bytes(memoryview(make(cls)))
    yield "bare: collect", lambda: (make(cls), gc.collect())
    for name in names(cls):
        yield f"bare: {name}", lambda name=name: use(make(cls), name)
        yield f"bare: without {name}", lambda name=name: without(make(cls), name)


def without(thing: Any, name: str) -> None:
    """Delete an attribute that can be, then use the others."""
    delattr(thing, name)
    for other in names(type(thing)):
        with contextlib.suppress(Exception):
            call(getattr(thing, other))
        with contextlib.suppress(Exception):
            call(getattr(thing, other), int)
        with contextlib.suppress(Exception):
            call(getattr(thing, other), 1, int)


def copies(make: Callable[[], Any], what: str) -> Iterator[tuple[str, Deed]]:
    """Copying and pickling, which must raise TypeError."""
    yield f"{what}: copy", lambda: copy.copy(make())
    yield f"{what}: deepcopy", lambda: copy.deepcopy(make())
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield f"{what}: pickle {protocol}", lambda n=protocol: pickle.dumps(make(), n)
        yield f"{what}: __reduce_ex__ {protocol}", lambda n=protocol: make().__reduce_ex__(n)
    yield f"{what}: __reduce__", lambda: make().__reduce__()


def states(make: Callable[[], Any], what: str) -> Iterator[tuple[str, Deed]]:
    """Setting a state, for which there must be no way."""
    for hook in HOOKS:
        for number, state in enumerate(STATES):
            yield f"{what}: state {hook} {number}", lambda h=hook, s=state: restored(make(), h, s)


def restored(thing: Any, hook: str, state: Any) -> None:
    getattr(thing, hook)(state)
    with contextlib.suppress(Exception):
        bytes(memoryview(thing))
    for name in names(type(thing)):
        with contextlib.suppress(Exception):
            getattr(thing, name)


def live(cls: type, provider: str) -> Iterator[tuple[str, Deed]]:
    """An object as a program has it: made a second time, copied, robbed of an attribute."""
    maker = LIVE.get(cls.__name__)
    if maker is None:
        return

    def with_one(deed: Callable[[Any], Any]) -> Deed:
        def done() -> None:
            ground = Ground(provider)
            thing = maker(ground)
            try:
                deed(thing)
            finally:
                ground.close()
                del thing
                gc.collect()

        return done

    yield "live: nothing", with_one(lambda thing: None)
    yield "live: __init__ again", with_one(init_again)
    for name, deed in copies(lambda: None, "live"):
        yield name, with_one(lambda thing, name=name: copied(thing, name))
    for hook in HOOKS:
        for number, state in enumerate(STATES):
            yield (
                f"live: state {hook} {number}",
                with_one(lambda thing, h=hook, s=state: restored(thing, h, s)),
            )


def copied(thing: Any, name: str) -> None:
    """The deed of that name, with this object."""
    dict(copies(lambda: thing, "live"))[name]()


def init_again(thing: Any) -> None:
    for values in arguments(thing):
        with contextlib.suppress(Exception):
            thing.__init__(*values)


def outcome(deed: Deed) -> str:
    """Fork, do it there."""
    sys.stdout.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(LIMIT)
        try:
            deed()
            said = "went"
        except BaseException as error:
            said = f"raised {type(error).__name__}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else said


def main(name: str, provider: str) -> None:
    """Everything, with one class."""
    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    faulthandler.disable()
    cls = classes()[name]
    deeds = [*bare(cls), *copies(lambda: cls.__new__(cls), "bare")]
    deeds += [*states(lambda: cls.__new__(cls), "bare"), *live(cls, provider)]
    for done, deed in deeds:
        print(f"{done}\t{outcome(deed)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
