"""Received messages that wait for ``async for``: bounded by pausing the peers."""

from __future__ import annotations

import asyncio
import collections
from typing import Protocol

MESSAGE_COST = 64
"""Bytes that a kept message counts in addition to its own: about what Python needs for the object
and its place in the queue. Without it, empty messages could queue without limit."""


BYTES_MAX = 1 << 20
"""Of one peer."""


class Sender(Protocol):
    """Who sent a message, a session: what the inbox needs of it."""

    inbox_bytes: int
    """Bytes of its messages that wait here, with ``MESSAGE_COST`` for each."""

    def pause_reading(self, why: str) -> None:
        """Pause the peer until every ``why`` has been resumed."""

    def resume_reading(self, why: str) -> None:
        """End one ``why`` of ``pause_reading``."""


class Inbox:
    """A queue of (session, message); each session's share is bounded by pausing its reading.

    The bound may be exceeded by what one receive held, since that has already left the kernel.
    """

    def __init__(self) -> None:
        self._bytes_max = BYTES_MAX
        self._messages: collections.deque[tuple[Sender, bytes]] = collections.deque()
        self._waiters: collections.deque[asyncio.Future[None]] = collections.deque()
        self._closed = False

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, session: Sender, message: bytes) -> None:
        """Append a message, and pause its session if it has enough here."""
        self._messages.append((session, message))
        session.inbox_bytes += len(message) + MESSAGE_COST
        if session.inbox_bytes >= self._bytes_max:
            session.pause_reading("inbox")
        self._wake()

    async def get(self, timeout: float | None = None) -> tuple[Sender, bytes] | None:
        """The next message; None if there is none and none will come.

        ``asyncio.TimeoutError`` after ``timeout`` seconds. A message is never lost by that, nor by
        a cancellation: it is taken from the queue in the step that returns it.
        """
        if not self._messages:
            await self._arrival(timeout)
        if not self._messages:
            return None
        session, message = self._messages.popleft()
        session.inbox_bytes -= len(message) + MESSAGE_COST
        if session.inbox_bytes <= self._bytes_max // 2:
            session.resume_reading("inbox")
        return session, message

    async def _arrival(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        while not self._messages and not self._closed:
            waiter = loop.create_future()
            timer = None if end is None else loop.call_at(end, _expire, waiter, timeout)
            self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                # It may have been woken for a message that another one can take.
                self._wake()
                raise
            finally:
                if timer is not None:
                    timer.cancel()
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def close(self) -> None:
        """No more messages come; the queued ones can still be taken."""
        self._closed = True
        while self._waiters:
            self._wake_one()

    def open(self) -> None:
        """Accept messages."""
        self._closed = False

    def _wake(self) -> None:
        if self._messages and self._waiters:
            self._wake_one()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


def _expire(waiter: asyncio.Future[None], timeout: float | None) -> None:
    if not waiter.done():
        waiter.set_exception(asyncio.TimeoutError(f"no message within {timeout:g} s"))
