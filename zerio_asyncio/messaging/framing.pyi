from collections.abc import Callable

from _typeshed import ReadableBuffer

from zerio_asyncio.core.memory import ReceivedMemory
from zerio_asyncio.messaging.errors import FramingError as FramingError

class Assembly(ReceivedMemory): ...

class MessageFramer:
    length_max: int
    messages: int
    stopped: bool
    def __init__(
        self, handler: Callable[..., object], length_max: int, first: object = None
    ) -> None: ...
    def set_handler(
        self, handler: Callable[..., object], length_max: int, first: object = None
    ) -> None: ...
    def stop(self) -> None: ...
    @property
    def pending(self) -> int: ...
    @property
    def left_over(self) -> bool: ...
    def feed(self, view: memoryview) -> None: ...

class MessageWriter:
    length_max: int
    unsent_max: int
    closed: bool
    waiting: int
    messages: int
    def __init__(
        self,
        transport: object,
        overflow: Callable[[int], object],
        length_max: int,
        unsent_max: int,
        conflated_max: int = 0,
    ) -> None: ...
    @property
    def unsent(self) -> int: ...
    def close(self) -> None: ...
    def send(self, message: ReadableBuffer) -> None: ...
