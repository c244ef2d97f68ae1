import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

from zerio_asyncio.core.handles import Handle, TimerHandle
from zerio_asyncio.core.memory import SlicePool
from zerio_asyncio.core.timers import Timers

class Endpoint: ...

class Engine(Timers):
    _stopping: bool
    _closed: bool
    _debug: bool
    _thread_id: int | None
    slow_callback_duration: float
    _clock_resolution: float
    _current_handle: Handle | None
    # The standard library's loop, the engine's second parent, has everything else.
    def __getattr__(self, name: str) -> Any: ...
    def get_debug(self) -> bool: ...
    def create_future(self) -> asyncio.Future[Any]: ...
    def time(self) -> float: ...
    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle: ...
    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def _attach(
        self,
        provider: int,
        port: int,
        pool: SlicePool,
        queue_size: int,
        send_depth: int,
        gathers: bool,
        error_of: Callable[[int], OSError],
        last_error: Callable[[], int],
    ) -> None: ...
    def _detach(self) -> None: ...
    def _watch(self, descriptor: int, mask: int) -> None: ...
    def _accept(self, descriptor: int, key: int) -> None: ...
    def _accept_stop(self, descriptor: int) -> None: ...
    def _run_once(self) -> None: ...
    def _rest(self) -> None: ...
    def _engine_counts(self) -> tuple[int, int, int, int, int]: ...
