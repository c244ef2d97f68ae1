"""What a program passes as a descriptor: a number, or an object that has one.

A program may close what is watched, and the system gives its number to the next file: an object can
tell that it has lost its number, a plain number cannot.
"""

from __future__ import annotations

from typing import Any


def descriptor_of(fileobj: Any) -> int:
    """The descriptor of an integer or of an object with ``fileno()``; ``ValueError`` if neither."""
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


def has_lost(fileobj: Any, descriptor: int) -> bool:
    """Whether this object had that descriptor and no longer has it: it was closed."""
    if isinstance(fileobj, int):
        return False
    try:
        return descriptor_of(fileobj) != descriptor
    except ValueError:
        return True
