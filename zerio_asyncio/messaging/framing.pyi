from collections.abc import Callable

from _typeshed import ReadableBuffer

from zerio_asyncio.core.memory import ReceivedMemory
from zerio_asyncio.messaging.errors import ConnectionClosed as ConnectionClosed
from zerio_asyncio.messaging.errors import DisconnectReason
from zerio_asyncio.messaging.errors import FramingError as FramingError

MARK: bytes

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
    def set_control(self, control: Callable[[memoryview], object]) -> None: ...
    def stop(self) -> None: ...
    @property
    def pending(self) -> int: ...
    @property
    def left_over(self) -> bool: ...
    def feed(self, view: memoryview) -> None: ...

class UnsentTotal:
    most: int
    bytes: int
    held: int
    @property
    def full(self) -> bool: ...
    def __init__(self, most: int) -> None: ...

class MessageWriter:
    length_max: int
    unsent_max: int
    lenient: bool
    elsewhere: Callable[[ReadableBuffer], object] | None
    shut: bool
    closed: bool
    waiting: int
    messages: int
    def __init__(
        self,
        transport: object,
        overflow: Callable[[int, bytes], object],
        length_max: int,
        unsent_max: int,
        total: UnsentTotal | None = None,
    ) -> None: ...
    @property
    def unsent(self) -> int: ...
    def close(self, reason: DisconnectReason | None = None) -> None: ...
    def settle(self) -> None: ...
    def mark(self) -> None: ...
    def send(self, message: ReadableBuffer) -> None: ...
    def send_over(self, message: bytes) -> None: ...
    def send_control(self, message: bytes, over: bool = False) -> bool: ...
