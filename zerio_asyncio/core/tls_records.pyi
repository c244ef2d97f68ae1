import ssl
from typing import Any

from zerio_asyncio.core.memory import ReceivedMemory

class DecryptedMemory(ReceivedMemory): ...

class TLSRecords:
    sslobj: ssl.SSLObject

class PortableRecords(TLSRecords):
    def __init__(self, context: ssl.SSLContext, **options: Any) -> None: ...
