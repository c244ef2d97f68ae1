"""What a user can choose for messaging."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, TypeVar

KIB = 1024
MIB = 1024 * KIB

LENGTH_LIMIT = 2**31 - 1
"""The length on the wire is a signed 32-bit integer."""

HEADER_MAX = 64
"""More than what any message has in front of it, on the wire or in the ring."""

HIGH_WATER_SHARE = 16
"""While more than this part of ``unsent_max`` waits, ``drain`` waits, too."""

LOW_WATER_SHARE = 4
"""Until no more than this part of that part is left."""

SlowPeer = Literal["disconnect", "raise", "drop-newest", "drop-oldest", "latest"]

SLOW_PEER = ("disconnect", "raise", "drop-newest", "drop-oldest", "latest")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconnect:
    """How a client comes back after its connection was lost.

    First after ``delay_min`` seconds, then after twice as long for each failure, up to
    ``delay_max``. Each delay is randomly shortened by up to a half, so clients do not all return to
    a restarted server at once. A connection that lasted longer than the delay before it sets the
    delay back. After ``attempts`` failures in a row (None: never) the client gives up.
    """

    delay_min: float = 0.1
    delay_max: float = 30.0
    attempts: int | None = None

    def __post_init__(self) -> None:
        _seconds(self, "delay_min")
        _seconds(self, "delay_max")
        if self.delay_max < self.delay_min:
            raise ValueError(
                f"delay_max must be at least delay_min, not {self.delay_max} < {self.delay_min}"
            )
        if self.attempts is not None:
            _whole(self, "attempts", 1, LENGTH_LIMIT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZerioConfiguration:
    """Choices that server and client share. Lengths are in bytes, times in seconds.

    ``ValueError`` names a value out of range, ``TypeError`` one of the wrong type.

    ``max_message_size``: the longest message, sent or received. 1 to 2147483647.

    ``unsent_max``: what may wait to be sent to one peer; it must hold the longest message and 64
    bytes. None: 4 MiB, or four times the longest message if that is more. While more than a
    sixteenth of it waits, ``drain`` waits until a quarter of that is left.

    ``slow_peer``: what happens to a message for a peer that does not read:

    - ``"disconnect"``: once ``unsent_max`` bytes wait, the connection ends;
    - ``"raise"``: then ``send`` raises ``SlowPeerError``;
    - ``"drop-newest"``: then the message is dropped;
    - ``"drop-oldest"``: then the oldest are dropped that the system has not been given;
    - ``"latest"``: while ``drain`` would wait, of each ``key`` the latest message is kept.

    ``handshake_timeout``: how long connecting may take: TCP, TLS and the first message together. A
    server allows as much for TLS, and again for the first message.

    ``keepalive``: a peer that is gone is noticed within this many seconds and a third; 1 to 3600,
    None for never (the system's own limit is two hours, or none).
    """

    max_message_size: int = 64 * KIB
    unsent_max: int | None = None
    slow_peer: SlowPeer = "disconnect"
    handshake_timeout: float = 10.0
    keepalive: float | None = 30.0

    def __post_init__(self) -> None:
        _whole(self, "max_message_size", 1, LENGTH_LIMIT)
        if self.unsent_max is None:
            most = max(4 * MIB, 4 * self.max_message_size)
            object.__setattr__(self, "unsent_max", most)
        _whole(self, "unsent_max", 1, 1 << 40)
        needed = self.max_message_size + HEADER_MAX
        if self.unsent_limit < needed:
            raise ValueError(
                f"unsent_max is {self.unsent_max} bytes; a message of max_message_size and its "
                f"header need {needed}"
            )
        _one_of(self, "slow_peer", *SLOW_PEER)
        _seconds(self, "handshake_timeout")
        if self.keepalive is not None:
            _seconds(self, "keepalive")
            if not 1 <= self.keepalive <= 3600:
                raise ValueError(f"keepalive must be 1 to 3600 seconds, not {self.keepalive}")

    @property
    def unsent_limit(self) -> int:
        """``unsent_max``, which is never None once the configuration is made."""
        return self.unsent_max or 0

    @property
    def high_water(self) -> int:
        """``drain`` waits while more than this waits to be sent."""
        return self.unsent_limit // HIGH_WATER_SHARE

    @property
    def low_water(self) -> int:
        """``drain`` returns when no more than this is left."""
        return self.high_water // LOW_WATER_SHARE


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZerioServerConfiguration(ZerioConfiguration):
    """Choices of a ``ZerioServer``, in addition to those it shares with clients.

    ``peers_max``: how many connections may be open at once, including those that have not sent
    their peer id; further ones are closed immediately. 1 to 1048576.

    ``duplicate_peer``: what happens if a connection sends a peer id that another one has:
    ``"replace"`` closes the old one, ``"refuse"`` the new one.

    ``unsent_total_max``: what may wait for all peers together; peers for which 4 KiB or less wait
    are not counted. Beyond it ``slow_peer`` decides about every message for a peer that is counted.
    """

    peers_max: int = 16384
    duplicate_peer: Literal["replace", "refuse"] = "replace"
    unsent_total_max: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole(self, "peers_max", 1, 1 << 20)
        _one_of(self, "duplicate_peer", "replace", "refuse")
        if self.unsent_total_max is None:
            object.__setattr__(self, "unsent_total_max", max(128 * MIB, 4 * self.unsent_limit))
        _whole(self, "unsent_total_max", self.unsent_limit, 1 << 50)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZerioClientConfiguration(ZerioConfiguration):
    """Choices of a ``ZerioClient``, in addition to those it shares with servers.

    ``reconnect``: connect again when the connection is lost; True is ``Reconnect()``.

    ``extensions``: ask the server for what C# Zerio does not have: requests both ways, pings, the
    reason of a refusal. A server of this package always grants it; one in C# takes the question for
    a part of the peer id.
    """

    reconnect: bool | Reconnect = False
    extensions: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.reconnect, (bool, Reconnect)):
            raise TypeError(
                f"reconnect must be True, False or a Reconnect(...), not {self.reconnect!r}"
            )
        if not isinstance(self.extensions, bool):
            raise TypeError(f"extensions must be True or False, not {self.extensions!r}")

    @property
    def coming_back(self) -> Reconnect | None:
        """How the client comes back; None if it does not."""
        if self.reconnect is True:
            return Reconnect()
        return self.reconnect or None


C = TypeVar("C", bound=ZerioConfiguration)


def choose(kind: type[C], config: C | None, choices: dict[str, Any]) -> C:
    """``config`` or the defaults, with ``choices`` in place of some of them."""
    if config is None:
        chosen = kind()
    elif isinstance(config, kind):
        chosen = config
    else:
        raise TypeError(f"config must be a {kind.__name__}, not {config!r}")
    if not choices:
        return chosen
    known = [field.name for field in dataclasses.fields(kind)]
    for name in choices:
        if name not in known:
            raise TypeError(f"there is no choice {name!r}; there are: {', '.join(known)}")
    return dataclasses.replace(chosen, **choices)


def _whole(owner: object, name: str, least: int, most: int) -> None:
    value = getattr(owner, name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be {least} to {most}, not {value}")


def _seconds(owner: object, name: str) -> None:
    value = getattr(owner, name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be more than 0 seconds and finite, not {value}")


def _one_of(owner: object, name: str, *choices: str) -> None:
    value = getattr(owner, name)
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
