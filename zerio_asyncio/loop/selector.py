"""The port as a ``selectors.BaseSelector``: what ``add_reader`` and ``add_writer`` rest on.

The standard library's selector loop registers descriptors here; their readiness comes back through
the engine's tick, so ``select`` itself is only for others who hold the selector.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
from collections.abc import Iterator, Mapping
from typing import Any

Ready = list[tuple[selectors.SelectorKey, int]]


class _Keys(Mapping[Any, selectors.SelectorKey]):
    """File objects to keys, as ``BaseSelector.get_map`` promises."""

    def __init__(self, keys: dict[int, selectors.SelectorKey]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[descriptor_of(fileobj)]

    def get(self, fileobj: Any, default: Any = None) -> Any:
        # Named apart from the mixin: asyncio asks for absent descriptors on its warm path.
        return self._keys.get(descriptor_of(fileobj), default)


def descriptor_of(fileobj: Any) -> int:
    """The descriptor of an integer or of what has ``fileno()``; ``ValueError`` if neither."""
    if isinstance(fileobj, int):
        descriptor = fileobj
    else:
        try:
            descriptor = int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fileobj!r}") from None
    if descriptor < 0:
        raise ValueError(f"Invalid file descriptor: {descriptor}")
    return descriptor


class PortSelector(selectors.BaseSelector):
    """Readiness of descriptors through the engine's port."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._map: _Keys | None = _Keys(self._keys)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch ``fileobj``; ``KeyError`` if it is watched, ``ValueError`` for bad ``events``."""
        if not events or events & ~(selectors.EVENT_READ | selectors.EVENT_WRITE):
            raise ValueError(f"Invalid events: {events!r}")
        key = selectors.SelectorKey(fileobj, descriptor_of(fileobj), events, data)
        if key.fd in self._keys:
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
        try:
            key = self._keys.pop(self._find(fileobj))
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None
        with contextlib.suppress(OSError):  # closed meanwhile: the system has forgotten it
            self._engine._watch(key.fd, 0)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Change events and data of what is watched."""
        try:
            key = self._keys[self._find(fileobj)]
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None
        if events != key.events:
            self._watch(key.fd, events)
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
        """Tell another port what there is to watch."""
        for key in self._keys.values():
            with contextlib.suppress(OSError):  # closed meanwhile
                self._engine._watch(key.fd, key.events)

    def _find(self, fileobj: Any) -> int:
        try:
            return descriptor_of(fileobj)
        except ValueError:
            # Closed before it was unregistered: find it by identity, as the standard ones do.
            for key in self._keys.values():
                if key.fileobj is fileobj:
                    return key.fd
            raise

    def ready(self, events: list[tuple[int, int]]) -> Ready:
        """The engine's (descriptor, mask) pairs as ``select`` would return them."""
        found: Ready = []
        for descriptor, mask in events:
            key = self._keys.get(descriptor)
            if key is not None and mask & key.events:
                found.append((key, mask & key.events))
        return found

    def select(self, timeout: float | None = None) -> Ready:
        """Not for use: the engine waits, for more than descriptors."""
        raise NotImplementedError("the loop waits on its port; use add_reader and add_writer")

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Watched file objects to their keys."""
        if self._map is None:
            raise RuntimeError("Selector is closed")
        return self._map

    def close(self) -> None:
        """Forget every descriptor; the port is the loop's to close."""
        self._keys.clear()
        self._map = None
