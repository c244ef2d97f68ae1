from _typeshed import ReadableBuffer
from typing_extensions import Self

from zerio_asyncio.messaging.framing import MessageWriter

TAKEN: int
FULL: int
OVER: int

class SendingRing:
    count: int
    slot_length: int
    messages: int
    def __new__(cls, count: int, slot_length: int) -> Self: ...
    @property
    def length_max(self) -> int: ...
    @property
    def empty(self) -> bool: ...
    def put(self, writer: MessageWriter, message: ReadableBuffer) -> int: ...
    def send(self, messages_max: int) -> bool: ...
    def clear(self) -> None: ...
