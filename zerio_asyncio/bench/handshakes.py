"""The generator of new TLS connections, as a program of its own.

``python -m zerio_asyncio.bench.handshakes --port 5555 --connections 16 --resumed``

What its figures call requests are connections: opened, secured, used for one message, and closed.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, ClassVar, final

from zerio_asyncio.bench.generator import Generator, RunConfig, check, parser_of, program, tell

MESSAGE_MAX = 16 * 1024
"""Bytes of the one message: a record."""


@dataclasses.dataclass(frozen=True)
class HandshakesConfig(RunConfig):
    """One run; ``connections`` are under way at a time. ``resumed``: all resume one session."""

    quota: ClassVar[str] = "handshakes_each"

    connections: int = 16
    resumed: bool = False
    handshakes_each: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check("size", self.size, 1, MESSAGE_MAX)

    @property
    def secure(self) -> bool:
        """Always."""
        return True

    def native(self) -> dict[str, Any]:
        """The fields of native.h's structure, except the address."""
        fields = {**super().native(), "resumed": self.resumed}
        del fields["spin"]  # it sleeps
        return fields


@final
class Handshakes(Generator):
    """Connections that come and go; connecting makes one, whose session others may resume."""

    kind = "handshakes"


def main(arguments: list[str] | None = None) -> int:
    """Run once and print figures; return the exit status."""
    options = vars(parser_of("handshakes", HandshakesConfig()).parse_args(arguments))
    return program(Handshakes, HandshakesConfig, options, lambda made: tell(made.run()))


if __name__ == "__main__":
    sys.exit(main())
