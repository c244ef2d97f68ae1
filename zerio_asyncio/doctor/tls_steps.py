"""Which TLS engine a loop takes here, and the proof of each engine, step by step.

``direct`` looks into the objects of the interpreter's ``ssl``, and is taken only where its proof
succeeds. Where it does not, that is no failure: the portable engine does the same work. So a step
of its proof is refused, with the reason, and the rest of it left out.
"""

from __future__ import annotations

import functools
import ssl
from typing import TYPE_CHECKING, Any

from zerio_asyncio.doctor.steps import Finding, Status, Step

if TYPE_CHECKING:
    from collections.abc import Callable


def choice(_: str = "") -> list[Step]:
    """Return the step that chooses as a loop does."""
    return [Step("the TLS engine that a loop takes", _choose)]


def _choose() -> str | Finding:
    from zerio_asyncio.loop import tls_engines  # noqa: PLC0415 - needs what is compiled

    chosen = tls_engines.choose_engine(None)
    told = f"{chosen.name}: {chosen.reason}"
    refusal = tls_engines.direct_refusal()
    if refusal is not None and refusal not in told:
        told += f"; direct does not work here: {refusal}"
    return f"{told} ({ssl.OPENSSL_VERSION})"


def steps(engine: str) -> list[Step]:
    """Return the proof of an engine."""
    if engine == "direct":
        from zerio_asyncio.core.tls_direct import PROOF  # noqa: PLC0415 - as above

        return [Step(name, functools.partial(_prove, part)) for name, part in PROOF]
    return [Step("a handshake in memory and a byte each way", _talk)]


def _prove(part: Callable[[], object]) -> str | Finding:
    from zerio_asyncio.core.openssl import NotFoundError  # noqa: PLC0415 - as above

    try:
        part()
    except NotFoundError as refusal:
        return Finding(Status.REFUSED, str(refusal))
    return ""


class _Side:
    """One side in memory, as the portable engine has it."""

    def __init__(self, protocol: Any, server_side: bool) -> None:
        from zerio_asyncio.core.tls_direct import anonymous_context  # noqa: PLC0415 - as above

        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = anonymous_context(protocol)
        self.sslobj = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side)

    def shakes(self) -> bool:
        """Take one step of the handshake; whether it was the last."""
        try:
            self.sslobj.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True


def _talk() -> str | Finding:
    from zerio_asyncio.core.openssl import NotFoundError  # noqa: PLC0415 - as above

    try:
        client = _Side(ssl.PROTOCOL_TLS_CLIENT, False)
        server = _Side(ssl.PROTOCOL_TLS_SERVER, True)
    except NotFoundError as refusal:
        return Finding(Status.UNTRIED, str(refusal))
    done = [False, False]
    for _ in range(3):
        for number, (side, other) in enumerate(((client, server), (server, client))):
            done[number] = done[number] or side.shakes()
            other.incoming.write(side.outgoing.read())
    if not all(done):
        raise RuntimeError("no handshake")
    for giver, taker in ((client, server), (server, client)):
        giver.sslobj.write(b"?")
        taker.incoming.write(giver.outgoing.read())
        if taker.sslobj.read(1) != b"?":
            raise RuntimeError("a byte was lost")
    return ""
