"""The generator of requests that are answered with the same bytes, as a program of its own.

``python -m zerio_asyncio.bench.load --port 5555 --connections 50 --size 1024 --core 1``

With ``--hold`` it opens the connections and keeps them: every line on its standard input makes each
connection exchange one message, and the end of the input closes them. That is the client side of
the memory benchmark: ten thousand connections for the price of ten thousand descriptors.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, ClassVar, final

from zerio_asyncio.bench import pages, system
from zerio_asyncio.bench.generator import (
    SIZE_MAX,
    Generator,
    RunConfig,
    check,
    parser_of,
    program,
    tell,
)

DATAGRAM_MAX = 65507  # what IPv4 and UDP leave of 64 KiB
DEPTH_MAX = 1024


@dataclasses.dataclass(frozen=True)
class LoadConfig(RunConfig):
    """One run; each connection has ``depth`` requests in flight.

    ``page``: not an echo, but the page of `pages`; its request has a size of its own.
    """

    quota: ClassVar[str] = "requests_each"

    connections: int = 50
    size: int = 1024
    depth: int = 1
    datagrams: bool = False
    tls: bool = False
    page: bool = False
    anew: bool = False
    requests_each: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check("size", self.size, 1, DATAGRAM_MAX if self.datagrams else SIZE_MAX)
        check("depth", self.depth, 1, DEPTH_MAX)
        if self.anew and (self.depth != 1 or self.datagrams or self.tls or not system.DIALS_AGAIN):
            raise ValueError(
                "a new connection for each request: one in flight, on a plain stream, Linux"
            )

        if self.datagrams and (self.tls or self.page):
            raise ValueError("datagrams know neither tls nor pages")

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.tls

    def texts(self) -> dict[str, bytes]:
        """The strings of native.h's structure, except the address."""
        return {"request": pages.REQUEST, "answer": pages.ANSWER} if self.page else {}

    def native(self) -> dict[str, Any]:
        """The fields of native.h's structure, except the strings."""
        fields = {
            "depth": self.depth,
            "datagrams": self.datagrams,
            "tls": self.tls,
            "anew": self.anew,
        }
        if self.page:
            fields |= {"size": len(pages.REQUEST), "answer_size": len(pages.ANSWER)}
        return {**super().native(), **fields}


@final
class Load(Generator):
    """Connections with ``depth`` requests in flight on each."""

    kind = "load"


def hold(load: Load) -> None:
    """Keep the connections open; exchange one message on each for every line of the input."""
    tell({"connected": load.config.connections})
    for _ in sys.stdin:
        tell(load.run())


def main(arguments: list[str] | None = None) -> int:
    """Run once (or hold) and print figures; return the exit status."""
    parser = parser_of("load", LoadConfig())
    parser.add_argument("--hold", action="store_true", help="open, wait for lines, exchange")
    options = vars(parser.parse_args(arguments))
    holding = options.pop("hold")
    return program(Load, LoadConfig, options, hold if holding else lambda load: tell(load.run()))


if __name__ == "__main__":
    sys.exit(main())
