"""Which TLS engine a loop takes: what makes and reads the records of its connections.

``direct``    calls the OpenSSL that the interpreter's ``ssl`` has loaded
``portable``  uses only what ``ssl`` documents
``standard``  is the standard library's own layer, ``asyncio.sslproto``

The first that works is taken, unless ``LoopOptions.tls`` or ``ZERIO_TLS`` names one. Whether
``direct`` works is found out once per process, when the first connection needs it.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any

VARIABLE = "ZERIO_TLS"
ENGINES = ("direct", "portable", "standard")


@dataclass(frozen=True)
class TLSChoice:
    """An engine, and why this one."""

    name: str
    reason: str
    make_records: Any
    """Called with a context and ``wrap_bio``'s options; None for ``standard``."""


def check_engine(name: str | None, source: str = "tls") -> None:
    """``ValueError`` unless it is the name of an engine, or None."""
    if name is not None and name not in ENGINES:
        raise ValueError(f"{source} must be one of {', '.join(ENGINES)}, not {name!r}")


def choose_engine(wanted: str | None) -> TLSChoice:
    """Return the engine of that name, or else the environment's, or else the best.

    ``RuntimeError`` if it was named and does not work here.
    """
    reason = "requested by LoopOptions"
    if wanted is None:
        wanted = os.environ.get(VARIABLE) or None
        check_engine(wanted, VARIABLE)
        reason = f"requested by {VARIABLE}"
    refusal = None
    if wanted in {None, "direct"}:
        refusal = direct_refusal()
        if refusal is None:
            return TLSChoice("direct", reason if wanted else "the fastest", _direct())
        if wanted is not None:
            raise RuntimeError(f"the TLS engine direct does not work here: {refusal}")
        reason = f"direct does not work here: {refusal}"
    if wanted == "standard":
        return TLSChoice("standard", reason, None)
    return TLSChoice("portable", reason, _portable())


def _portable() -> Any:
    from zerio_asyncio.core.tls_records import PortableRecords  # noqa: PLC0415 - needs ssl

    return PortableRecords


def _direct() -> Any:
    from zerio_asyncio.core.tls_direct import make_records  # noqa: PLC0415 - needs ssl

    return make_records


@functools.cache
def direct_refusal() -> str | None:
    """Why the engine ``direct`` does not work here; None if it does."""
    from zerio_asyncio.core import tls_direct  # noqa: PLC0415 - needs ssl

    refusal: str | None = tls_direct.prove()
    return refusal
