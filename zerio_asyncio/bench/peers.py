"""What is compared: each loop by name, with its version or the reason why it is unavailable."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import os
import platform
from typing import TYPE_CHECKING, Any

from zerio_asyncio.bench import system

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable


@dataclasses.dataclass(frozen=True)
class Peer:
    """One contestant.

    ``name`` is what users write after ``--peer``; ``title`` is what tables show; ``version`` is
    that of the library, the interpreter or the kernel; ``refusal`` says why it cannot run here,
    None if it can. ``native``: a C server, not a loop. ``spins``: polls, always or for a while.
    ``ours``: knows ``RegisteredProtocol``.
    """

    name: str
    title: str
    version: str = ""
    refusal: str | None = None
    native: bool = False
    spins: bool = False
    ours: bool = False

    @property
    def label(self) -> str:
        """Title and version."""
        return f"{self.title} {self.version}".rstrip()


_BEST, _PLAIN = system.PROVIDERS

# name: title, and what of the loop's options is not the default
_OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "zerio": ("zerio", {}),
    f"zerio-{_BEST}": (f"zerio {_BEST}", {"provider": _BEST}),
    f"zerio-{_PLAIN}": (f"zerio {_PLAIN}", {"provider": _PLAIN}),
    "zerio-spin": ("zerio, spinning", {"wait": "spin"}),
    f"zerio-{_PLAIN}-spin": (
        f"zerio {_PLAIN}, spinning",
        {"provider": _PLAIN, "wait": "spin"},
    ),
    "zerio-hybrid": ("zerio, hybrid", {"wait": "hybrid"}),
    "zerio-gather": ("zerio, gathering", {"gather": True}),
    f"zerio-{_PLAIN}-gather": (
        f"zerio {_PLAIN}, gathering",
        {"provider": _PLAIN, "gather": True},
    ),
}

GATHERING = ("zerio-gather", f"zerio-{_PLAIN}-gather")
"""Those whose writes leave at the end of a tick: for web servers, which write often."""

REFERENCE = system.OTHERS[0]
LIMIT = system.LIMIT
LIMIT_SPINNING = f"{LIMIT}-spin"
"""What ratios refer to: the loop to beat, and what the kernel alone costs."""

_NATIVE = {
    LIMIT: (system.LIMIT_TITLE, False),
    LIMIT_SPINNING: (f"{system.LIMIT_TITLE}, spinning", True),
}
_OTHERS = (*system.STANDARD, *system.OTHERS, *system.PATCHED)

NAMES = (*_OTHERS, *_OURS, *_NATIVE)
"""Every name that ``--peer`` accepts."""

BOTH_PROVIDERS = (f"zerio-{_BEST}", f"zerio-{_PLAIN}")


def is_ours(name: str) -> bool:
    """Whether a peer runs our loop."""
    return name in _OURS


def new_loop(name: str, wait: str | None = None) -> asyncio.AbstractEventLoop:
    """Make a loop by its peer's name; ImportError or OSError if it is not available here.

    ``wait`` is for our loops: their wait strategy, overriding the peer's.
    """
    if name in system.STANDARD:
        return system.STANDARD[name]()
    if name in _OURS:
        choices = dict(_OURS[name][1])
        if wait is not None:
            choices["wait"] = wait
        return _new_own_loop(choices)
    if name in system.PATCHED:
        patch: Any = importlib.import_module("aiofastnet").patch_loop
        return patch(new_loop(system.PATCHED[name]))  # type: ignore[no-any-return]
    if name in _OTHERS:
        module: Any = importlib.import_module(name)
        make: Callable[[], asyncio.AbstractEventLoop]
        make = module.new_event_loop if hasattr(module, "new_event_loop") else module.Loop
        return make()
    raise ValueError(f"no loop is called {name!r}; there are {', '.join((*_OTHERS, *_OURS))}")


def _new_own_loop(choices: dict[str, Any]) -> asyncio.AbstractEventLoop:
    package: Any = importlib.import_module("zerio_asyncio")
    if not hasattr(package, "new_event_loop"):
        raise ImportError("zerio_asyncio has no event loop here: its core was not compiled")
    loop: asyncio.AbstractEventLoop = package.new_event_loop(package.LoopOptions(**choices))
    return loop


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def find(name: str) -> Peer:
    """Describe a peer; its ``refusal`` says whether it can run here (a loop is made and closed)."""
    if name in _NATIVE:
        title, spins = _NATIVE[name]
        return Peer(name, title, platform.release().split("-")[0], native=True, spins=spins)
    refusal = None
    try:
        new_loop(name).close()
    except Exception as error:  # noqa: BLE001 - others' code, and what it raises
        refusal = str(error) or type(error).__name__
    if name in _OURS:
        title, choices = _OURS[name]
        version = _version("zerio-asyncio")
        return Peer(name, title, version, refusal, spins="wait" in choices, ours=True)
    if name in system.PATCHED:
        return Peer(name, name.replace("-", " + "), _version("aiofastnet"), refusal)
    version = platform.python_version() if name in system.STANDARD else _version(name)
    return Peer(name, name, version, refusal)


def usable(names: Iterable[str]) -> tuple[list[Peer], list[Peer]]:
    """Split into the peers that can run here and those that cannot."""
    found = [find(name) for name in dict.fromkeys(names)]
    return [p for p in found if p.refusal is None], [p for p in found if p.refusal is not None]


def own_provider(loop: asyncio.AbstractEventLoop) -> str | None:
    """Name of the provider of one of our loops; None for the others."""
    provider = getattr(loop, "provider", None)
    return provider if isinstance(provider, str) else None


def environment() -> dict[str, str]:
    """Environment of every measured process: the same hash seed, and this very package."""
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": f"{top}{os.pathsep}{path}" if path else top,
    }
