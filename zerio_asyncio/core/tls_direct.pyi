import ssl
from typing import Any

from zerio_asyncio.core.tls_records import TLSRecords

class DirectRecords(TLSRecords):
    def __init__(self, context: ssl.SSLContext, **options: Any) -> None: ...

def prove() -> str | None: ...
def anonymous_context(protocol: Any) -> ssl.SSLContext: ...
