"""What a user can choose for messaging, under Zerio's names."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

from zerio_asyncio.loop.options import LoopOptions

if TYPE_CHECKING:
    from zerio_asyncio.loop import RioEventLoop

KIB = 1024
MIB = 1024 * KIB

LENGTH_LIMIT = 2**31 - 1
"""The length on the wire is a signed 32-bit integer."""

RECORD_MAX = 64
"""More than the ring of other threads' messages needs before each one."""


LOOPS_SHARE = {
    "receiving_buffer_length": "slice_size",
    "max_send_batch_size": "send_depth",
    "wait_strategy": "wait",
}
"""Choices that a loop makes for all its connections, with their names among its options."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZerioConfiguration:
    """Choices that server and client share. Lengths are in bytes, times in seconds.

    ``ValueError`` names a value out of range, ``TypeError`` one of the wrong type.

    ``framing_buffer_length``: the longest message, sent or received. 1 to 2147483647.

    ``sending_buffer_count`` buffers of ``sending_buffer_length`` bytes may wait to be sent to one
    peer; beyond that, ``slow_peer`` decides. The ring for messages from other threads has as many
    slots of that length. Together the buffers must hold the longest message and 64 bytes. 1 to
    1048576 buffers, of 256 bytes to 1 MiB in steps of 8.

    ``sending_high_water``, ``sending_low_water``: while more bytes than the first wait for a peer,
    ``drain`` waits until no more than the second remain.

    ``slow_peer``: what happens when a message's peer has no sending buffer left: ``"disconnect"``
    ends that connection, ``"raise"`` raises ``SendingBuffersFullError``.

    ``max_conflated_send_request_count``: how many messages are sent in one request; 1 joins none, 0
    (the default) joins as many as the buffer holds. Only messages that handlers send while a
    received chunk is delivered are joined; on a loop with ``LoopOptions(gather=True)``, all are.
    TLS has no limit.

    ``receiving_buffer_count`` buffers of ``receiving_buffer_length`` bytes are what ``messages()``
    keeps per peer before it stops reading; a message counts 64 bytes more than its length.

    ``handshake_timeout``: how long the first message may take.

    The last three belong to the loop and apply to all its connections. None accepts what the loop
    has; for other values make the loop with ``loop_options()``, or ``start`` raises
    ``RuntimeError``:

    ``receiving_buffer_length``: one receive. Whole pages of 4 KiB, to 1 MiB.

    ``max_send_batch_size``: requests per connection that the system holds at once, 1 to 1024.

    ``wait_strategy``: ``"block"``, ``"spin"`` or ``"hybrid(µs)"``, as ``LoopOptions.wait``.
    """

    framing_buffer_length: int = 64 * KIB
    sending_buffer_count: int = 1024
    sending_buffer_length: int = 4 * KIB
    sending_high_water: int = 256 * KIB
    sending_low_water: int = 64 * KIB
    slow_peer: Literal["disconnect", "raise"] = "disconnect"
    max_conflated_send_request_count: int = 0
    receiving_buffer_count: int = 64
    handshake_timeout: float = 10.0
    receiving_buffer_length: int | None = None
    max_send_batch_size: int | None = None
    wait_strategy: str | None = None

    def __post_init__(self) -> None:
        self._whole("framing_buffer_length", 1, LENGTH_LIMIT)
        self._whole("sending_buffer_count", 1, 1 << 20)
        self._whole("sending_buffer_length", 256, MIB, 8)
        needed = self.framing_buffer_length + RECORD_MAX
        if self.unsent_max < needed:
            raise ValueError(
                f"sending_buffer_count x sending_buffer_length is {self.unsent_max} bytes; a "
                f"message of framing_buffer_length and its header need {needed}"
            )
        self._whole("sending_high_water", 0, self.unsent_max)
        self._whole("sending_low_water", 0, self.sending_high_water)
        self._one_of("slow_peer", "disconnect", "raise")
        self._whole("max_conflated_send_request_count", 0, 1 << 30)
        self._whole("receiving_buffer_count", 1, 1 << 20)
        self._seconds("handshake_timeout")
        self._check_loops_share()

    @property
    def unsent_max(self) -> int:
        """Bytes that may wait to be sent to one peer."""
        return self.sending_buffer_count * self.sending_buffer_length

    def loop_options(self, **others: Any) -> LoopOptions:
        """Return the ``LoopOptions`` that this asks for; ``others`` are added or replace them."""
        asked = {option: getattr(self, name) for name, option in LOOPS_SHARE.items()}
        chosen = {option: value for option, value in asked.items() if value is not None}
        return LoopOptions(**{**chosen, **others})

    def check_loop(self, loop: RioEventLoop) -> None:
        """Raise ``RuntimeError`` if ``loop`` has other options than those this asks for."""
        has = {
            "slice_size": loop.options.slice_size,
            "send_depth": loop.options.send_depth,
            "wait": loop.wait_strategy,
        }
        for name, option in LOOPS_SHARE.items():
            value = getattr(self, name)
            if value not in {None, has[option]}:
                raise RuntimeError(
                    f"{name} should be {value!r}, but the loop was made with {has[option]!r}: run "
                    f"the program with zerio_asyncio.run(main(), options=config.loop_options())"
                )

    def _check_loops_share(self) -> None:
        for name, option in LOOPS_SHARE.items():
            value = getattr(self, name)
            if value is not None:
                try:
                    LoopOptions(**{option: value, "slab_size": 1024 * MIB})
                except (TypeError, ValueError) as error:
                    raise type(error)(f"{name}: {error}") from None

    def _whole(self, name: str, least: int, most: int, multiple: int = 1) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be an integer, not {value!r}")
        if not least <= value <= most or value % multiple:
            whole = f", a multiple of {multiple}" if multiple > 1 else ""
            raise ValueError(f"{name} must be {least} to {most}{whole}, not {value}")

    def _seconds(self, name: str, least: float = 0.0) -> None:
        value = getattr(self, name)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise TypeError(f"{name} must be a number of seconds, not {value!r}")
        if not least < value < math.inf:
            raise ValueError(f"{name} must be more than {least:g} seconds and finite, not {value}")

    def _one_of(self, name: str, *choices: str) -> None:
        value = getattr(self, name)
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")

    def _truth(self, name: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, not {value!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZerioServerConfiguration(ZerioConfiguration):
    """Choices of a ``ZerioServer``, in addition to those it shares with clients.

    ``session_count``: how many connections may be open at once, including those that have not sent
    their peer id; further ones are closed immediately. 1 to 1048576.

    ``unknown_peer``: what ``send`` does if the peer is not connected: ``"raise"``
    (``UnknownPeerError``) or ``"drop"``, as in C#.

    ``duplicate_peer``: what happens if a connection sends a peer id that another one has:
    ``"refuse"`` closes the new one, ``"replace"`` the old one.
    """

    session_count: int = 16384
    unknown_peer: Literal["raise", "drop"] = "raise"
    duplicate_peer: Literal["refuse", "replace"] = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("session_count", 1, 1 << 20)
        self._one_of("unknown_peer", "raise", "drop")
        self._one_of("duplicate_peer", "refuse", "replace")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZerioClientConfiguration(ZerioConfiguration):
    """Choices of a ``ZerioClient``, in addition to those it shares with servers.

    ``reconnect``: connect again when the connection is lost, first after ``reconnect_delay_min``
    seconds, then after twice as long for each failure, up to ``reconnect_delay_max``. Each delay is
    randomly shortened by up to a half, so clients do not all return to a restarted server at once.
    """

    reconnect: bool = False
    reconnect_delay_min: float = 0.1
    reconnect_delay_max: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._truth("reconnect")
        self._seconds("reconnect_delay_min")
        self._seconds("reconnect_delay_max")
        if self.reconnect_delay_max < self.reconnect_delay_min:
            raise ValueError(
                f"reconnect_delay_max must be at least reconnect_delay_min, "
                f"not {self.reconnect_delay_max} < {self.reconnect_delay_min}"
            )
