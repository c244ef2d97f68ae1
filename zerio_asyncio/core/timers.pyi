from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any

from zerio_asyncio.core.handles import TimerHandle
from zerio_asyncio.core.overrides import Overridable
from zerio_asyncio.core.views import TimerList

class Timers(Overridable):
    _closed: bool
    _debug: bool
    _clock_resolution: float
    def time(self) -> float: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def call_at(
        self,
        when: Any,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle: ...
    @property
    def _scheduled(self) -> TimerList: ...
    @_scheduled.setter
    def _scheduled(self, handles: Iterable[TimerHandle]) -> None: ...
    def _timers_list(self) -> list[TimerHandle]: ...
    def _timers_total(self) -> int: ...
    def _timers_first(self) -> TimerHandle | None: ...
    def _timers_add(self, handle: TimerHandle) -> None: ...
    def _timers_remove(self, handle: TimerHandle) -> None: ...
