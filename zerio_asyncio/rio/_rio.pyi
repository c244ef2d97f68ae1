"""What cffi compiles from rio.h (build.py)."""

from typing import Any

import cffi

class _Library:
    """The functions of rio.h; its constants are integers, its null handles pointers."""

    def rio_errno(self, code: int) -> int: ...
    def rio_code_of_errno(self, error: int) -> int: ...
    def rio_last_error(self) -> int: ...
    def rio_providers(self, count: Any) -> Any: ...
    def __getattr__(self, name: str) -> Any: ...

ffi: cffi.FFI
lib: _Library
