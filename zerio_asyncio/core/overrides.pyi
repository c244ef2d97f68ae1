from typing import Any

from zerio_asyncio.core.handles import TimerOwner

class Overridable(TimerOwner):
    def _look_again(self) -> None: ...
    def _waits_by_itself(self, selector: Any) -> bool: ...
