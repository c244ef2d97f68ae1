"""The port as a ``selectors.BaseSelector``, on which ``add_reader`` and ``add_writer`` are built.

The standard library's selector loop registers descriptors here. Their readiness comes back through
the engine's tick, so only programs that turn the loop by hand need ``select``.

A program may close what is watched, and the system gives its number to the next file. So an object
is found by identity before it is found by a number that it no longer has, and if an entry's object
has lost its number, whoever has it now replaces the entry. For plain numbers nobody can tell, so
they are registered with the system anew each time they are requested.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
from collections.abc import Iterator, Mapping
from typing import Any

from zerio_asyncio.loop.descriptors import descriptor_of, has_lost

Ready = list[tuple[selectors.SelectorKey, int]]


class _Keys(Mapping[Any, selectors.SelectorKey]):
    """File objects to keys, as ``BaseSelector.get_map`` promises."""

    def __init__(self, selector: PortSelector) -> None:
        self._selector = selector

    def __len__(self) -> int:
        return len(self._selector._keys)

    def __iter__(self) -> Iterator[int]:
        return iter(self._selector._keys)

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        key = self._selector._find(fileobj)
        if key is None:
            raise KeyError(fileobj)
        return key

    def get(self, fileobj: Any, default: Any = None) -> Any:
        # Named apart from the mixin: asyncio asks for absent descriptors on its warm path.
        key = self._selector._find(fileobj)
        return default if key is None else key


class PortSelector(selectors.BaseSelector):
    """Readiness of descriptors through the engine's port."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._map: _Keys | None = _Keys(self)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch ``fileobj``; ``KeyError`` if it is watched, ``ValueError`` for bad ``events``."""
        if not events or events & ~(selectors.EVENT_READ | selectors.EVENT_WRITE):
            raise ValueError(f"Invalid events: {events!r}")
        key = selectors.SelectorKey(fileobj, descriptor_of(fileobj), events, data)
        if self._find(fileobj) is not None:
            raise KeyError(f"{fileobj!r} (FD {key.fd}) is already registered")
        try:
            self._watch(key.fd, events)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:  # a plain file: what epoll says, as users know it
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM)) from None
            raise
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Stop watching; ``KeyError`` if it was not watched."""
        key = self._watched(fileobj)
        self._forget(key)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Change events and data of a watched object."""
        key = self._watched(fileobj)
        try:
            # Nothing for a closed one: the number may be another file's by now.
            self._watch(key.fd, 0 if has_lost(fileobj, key.fd) else events)
        except OSError:
            self._forget(key)
            raise
        key = key._replace(events=events, data=data)
        self._keys[key.fd] = key
        return key

    def _watch(self, descriptor: int, events: int) -> None:
        try:
            self._engine._watch(descriptor, events)
        except OSError as error:
            if error.errno != errno.ENETDOWN or os.getpid() == self._engine._process:
                raise
            self._engine._settle()
            self._engine._watch(descriptor, events)

    def watch_anew(self) -> None:
        """Tell another port what to watch."""
        for key in self._keys.values():
            with contextlib.suppress(OSError):  # closed meanwhile
                self._engine._watch(key.fd, key.events)

    def _watched(self, fileobj: Any) -> selectors.SelectorKey:
        key = self._find(fileobj)
        if key is None:
            raise KeyError(f"{fileobj!r} is not registered")
        return key

    def _find(self, fileobj: Any) -> selectors.SelectorKey | None:
        try:
            descriptor = descriptor_of(fileobj)
        except ValueError:
            # Closed before it was unregistered: find it by identity, as the standard selectors do.
            for key in self._keys.values():
                if key.fileobj is fileobj:
                    return key
            raise
        found = self._keys.get(descriptor)
        if found is None or found.fileobj is fileobj or not has_lost(found.fileobj, found.fd):
            return found
        return None  # left behind by its object, until somebody registers the number

    def _forget(self, key: selectors.SelectorKey) -> None:
        del self._keys[key.fd]
        with contextlib.suppress(OSError):  # closed meanwhile: the system has forgotten it
            self._engine._watch(key.fd, 0)

    def ready(self, events: list[tuple[int, int]]) -> Ready:
        """The engine's (descriptor, mask) pairs as ``select`` would return them."""
        found: Ready = []
        for descriptor, mask in events:
            key = self._keys.get(descriptor)
            if key is not None and mask & key.events:
                found.append((key, mask & key.events))
        return found

    def select(self, timeout: float | None = None) -> Ready:
        """Wait for the loop's port, at most ``timeout`` seconds; return the ready keys.

        The loop itself does not use this to wait, unless a program has replaced it.
        """
        return self.ready(self._engine._select(timeout))

    select_on_port = select  # tells the engine that nobody replaced it

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "select":
            self._engine._look_again()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._engine._look_again()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Watched file objects, mapped to their keys."""
        if self._map is None:
            raise RuntimeError("Selector is closed")
        return self._map

    def close(self) -> None:
        """Forget every descriptor; the loop closes the port."""
        self._keys.clear()
        self._map = None
