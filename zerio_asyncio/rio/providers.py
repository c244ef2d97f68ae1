"""Which providers this machine has, which of them work, and which one to take.

A provider is one implementation of the table in rio.h. C lists the platform's providers, best
first. A provider that is compiled in may not work: containers forbid io_uring, kernels lack it. So
each is probed, and a refusal names its likely cause.

`pick` decides: the caller's choice, else the environment variable ``ZERIO_PROVIDER``, else the best
one that works. A provider that was chosen by name is never replaced by another one.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast, final

from zerio_asyncio.rio._rio import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerio_asyncio.rio.foreign import CData, rio_provider

ENVIRONMENT = "ZERIO_PROVIDER"
"""The environment variable that names a provider for programs that do not."""

_PROTOCOLS: dict[int, int] = {  # of the internet, where nobody chooses another
    socket.SOCK_STREAM: socket.IPPROTO_TCP,
    socket.SOCK_DGRAM: socket.IPPROTO_UDP,
}

_REASON_SIZE = 512  # bytes; a refusal is one sentence

_log = logging.getLogger("zerio_asyncio")


class NumberedSocket(socket.socket):
    """A socket of a number that knows its protocol: Python on Windows takes it for 0.

    The standard library sends at once (TCP_NODELAY) where it is TCP's.
    """

    __slots__ = ("_proto",)

    def __init__(self, family: int, type: int, proto: int, fileno: int) -> None:  # noqa: A002
        super().__init__(family, type, proto, fileno)
        self._proto = max(proto, 0) or _PROTOCOLS.get(type, 0)

    @property
    def proto(self) -> int:
        """The protocol, an IPPROTO number."""
        return self._proto


class RegisteredSocket(NumberedSocket):
    """A socket that Windows made for Registered I/O, which does not know blocking from not.

    The system refuses the call by which Python says it (ioctlsocket, FIONBIO: WSAEOPNOTSUPP). So
    what a program says is kept here, for who asks. Bytes go by a request queue alone: the system
    refuses ``send`` and ``recv`` (WSAENOTSOCK). Options, ``bind``, ``listen``, ``shutdown`` and
    ``close`` are as on any socket.
    """

    __slots__ = ("_said",)

    registered = True
    """What transports ask for."""

    def __init__(self, family: int, type: int, proto: int, fileno: int) -> None:  # noqa: A002
        self._said = socket.getdefaulttimeout()
        if self._said is not None:  # Python would tell the system at once
            socket.setdefaulttimeout(None)
        try:
            super().__init__(family, type, proto, fileno)
        finally:
            if self._said is not None:
                socket.setdefaulttimeout(self._said)

    def setblocking(self, flag: bool) -> None:
        """Keep what is said; see the class."""
        self.settimeout(None if flag else 0.0)

    def settimeout(self, value: float | None) -> None:
        """Keep what is said; see the class."""
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._said = None if value is None else float(value)

    def gettimeout(self) -> float | None:
        """What was said last."""
        return self._said

    def getblocking(self) -> bool:
        """False after ``setblocking(False)`` or a time-out of 0."""
        return self._said != 0.0

    @property
    def timeout(self) -> float | None:
        """What was said last."""
        return self._said


@final
class Provider:
    """One implementation of the table: a name and an address.

    ``name``: what users write. ``address``: where the C ``const rio_provider`` is, an integer, for
    compiled code that calls the table directly. Providers live as long as the process. There is one
    object for each: compare them by identity.
    """

    __slots__ = ("_proven", "address", "c", "name")

    def __init__(self, c: rio_provider) -> None:
        self.c = c
        self.name: str = ffi.string(c.name).decode("ascii")  # type: ignore[union-attr]
        self.address = int(ffi.cast("uintptr_t", cast("CData", c)))
        self._proven = False

    @property
    def sends_memory(self) -> bool:
        """Whether it sends from memory that is not registered (a ``bytes``)."""
        return bool(self.c.capabilities & lib.RIO_CAP_SEND_MEMORY)

    @property
    def receives_memory(self) -> bool:
        """Whether it receives into memory that is not registered."""
        return bool(self.c.capabilities & lib.RIO_CAP_RECEIVE_MEMORY)

    @property
    def has_datagrams(self) -> bool:
        """Whether ``receive_from`` and ``send_to`` work."""
        return bool(self.c.capabilities & lib.RIO_CAP_DATAGRAM)

    @property
    def acts_now(self) -> bool:
        """Whether ``send_now`` and ``receive_now`` work, whatever the mode of the socket."""
        return bool(self.c.capabilities & lib.RIO_CAP_NOW)

    @property
    def sends_now(self) -> bool:
        """Whether ``send_now`` works, at least on a non-blocking socket."""
        return bool(self.c.capabilities & lib.RIO_CAP_SEND_NOW)

    def make_socket(self, family: int = -1, kind: int = -1, proto: int = -1) -> socket.socket:
        """Make the kind of socket that the provider serves best.

        Arguments and errors are those of ``socket.socket``. Any socket can have a request queue,
        but ``winsock`` drives only its own sockets by Registered I/O.
        """
        family = socket.AF_INET if family == -1 else family
        kind = socket.SOCK_STREAM if kind == -1 else kind
        if family in {socket.AF_INET, socket.AF_INET6}:
            number = self.c.make_socket(family, kind, max(proto, 0))
            if number != lib.RIO_INVALID_SOCKET:
                return RegisteredSocket(family, kind, proto, number)
        return socket.socket(family, kind, proto)

    def probe(self) -> OSError | None:
        """Return why the provider does not work here, and the cure; None if it works.

        This asks the system each time: what is forbidden now may have been allowed a moment ago.
        """
        reason = ffi.new("char[]", _REASON_SIZE)
        error = self.c.probe(reason, _REASON_SIZE)
        self._proven = not error
        if not error:
            return None
        text = ffi.string(reason).decode("utf-8", "replace")  # type: ignore[union-attr]
        return OSError(error, text or os.strerror(error))

    def refusal(self, *, ask: bool = True) -> OSError | None:
        """Do `probe`; with ``ask`` false only if no earlier probe went well."""
        return None if self._proven and not ask else self.probe()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies are the object itself, in another process that of the same name."""
        return by_name, (self.name,)

    def __repr__(self) -> str:
        return f"<Provider {getattr(self, 'name', 'that was never made')}>"


@dataclass(frozen=True)
class Choice:
    """What `pick` took and why.

    ``named``: somebody asked for it by name, so no other may take its place. ``reason`` is a
    phrase; ``refused`` lists better providers that do not work here, each with the reason.
    """

    provider: Provider
    reason: str
    refused: list[tuple[str, str]] = field(default_factory=list)
    named: bool = False


def _load() -> tuple[Provider, ...]:
    count = ffi.new("uint32_t *")
    table = lib.rio_providers(count)
    return tuple(Provider(table[i]) for i in range(count[0]))


_PROVIDERS = _load()


def known() -> tuple[Provider, ...]:
    """Return every provider of this platform, best first, working or not."""
    return _PROVIDERS


def available() -> list[Provider]:
    """Return the providers that work here now, best first."""
    return [provider for provider in _PROVIDERS if provider.probe() is None]


def by_name(name: str) -> Provider:
    """Find a provider by its name, working or not.

    ``ValueError`` for a name that this platform does not have; it lists those that it has.
    """
    for provider in _PROVIDERS:
        if provider.name == name:
            return provider
    names = ", ".join(repr(provider.name) for provider in _PROVIDERS)
    raise ValueError(f"no provider is called {name!r}; this platform has {names}")


def pick(
    name: str | None = None, passed_over: Sequence[tuple[str, str]] = (), *, ask: bool = True
) -> Choice:
    """Choose a provider: by argument, by ``ZERIO_PROVIDER``, or the best that works.

    ``passed_over``: names to leave out of the search for the best, each with a reason. ``ask``
    false skips the probe of a provider that has already worked in this process.

    ``ValueError`` for an unknown name. ``OSError``, with the system's errno and the reason, if the
    named provider does not work, or if none does. The choice goes to the logger ``zerio_asyncio``,
    one debug line.
    """
    if name is not None:
        choice = _named(name, "asked for", ask)
    elif os.environ.get(ENVIRONMENT):
        choice = _named(os.environ[ENVIRONMENT], f"asked for by {ENVIRONMENT}", ask)
    else:
        choice = _best(dict(passed_over), ask)
    refusals = "".join(f"; {refused} refused: {why}" for refused, why in choice.refused)
    _log.debug("provider %s: %s%s", choice.provider.name, choice.reason, refusals)
    return choice


def _named(name: str, reason: str, ask: bool) -> Choice:
    provider = by_name(name)
    refusal = provider.refusal(ask=ask)
    if refusal is not None:
        raise OSError(
            refusal.errno, f"provider {name!r}, {reason}, does not work here: {refusal.strerror}"
        )
    return Choice(provider, reason, named=True)


def _best(passed_over: dict[str, str], ask: bool) -> Choice:
    refused: list[tuple[str, str]] = []
    error: int | None = None
    for provider in _PROVIDERS:
        if provider.name in passed_over:
            refused.append((provider.name, passed_over[provider.name]))
            error = errno.ENOMEM
            continue
        refusal = provider.refusal(ask=ask)
        if refusal is None:
            reason = "the best that works here" if refused else "the best of this platform"
            return Choice(provider, reason, refused)
        refused.append((provider.name, str(refusal.strerror)))
        error = refusal.errno
    reasons = "; ".join(f"{name}: {why}" for name, why in refused)
    raise OSError(error, f"no provider works here: {reasons}")
