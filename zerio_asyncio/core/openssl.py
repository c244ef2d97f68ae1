"""Where the OpenSSL is that the interpreter's ``ssl`` has loaded: addresses of its functions.

The library is never loaded a second time. The handle of the extension module ``_ssl`` finds what
that module links to; Windows' loaded DLLs are asked for by their names. An interpreter that
contains ``_ssl`` itself is asked for its own symbols. What is found must call itself by the version
that ``ssl`` shows.
"""

from __future__ import annotations

import os
import ssl
from typing import Any

SSL_FUNCTIONS = (
    "SSL_set_bio",
    "SSL_do_handshake",
    "SSL_read_ex",
    "SSL_write_ex",
    "SSL_pending",
    "SSL_get_error",
)
CRYPTO_FUNCTIONS = (
    "OpenSSL_version",
    "ERR_peek_error",
    "ERR_clear_error",
    "BIO_get_new_index",
    "BIO_meth_new",
    "BIO_meth_set_read_ex",
    "BIO_meth_set_write_ex",
    "BIO_meth_set_ctrl",
    "BIO_meth_set_destroy",
    "BIO_new",
    "BIO_free",
    "BIO_up_ref",
    "BIO_set_data",
    "BIO_get_data",
    "BIO_set_init",
    "BIO_set_flags",
    "BIO_clear_flags",
)

FUNCTIONS = SSL_FUNCTIONS + CRYPTO_FUNCTIONS

DLL_SUFFIXES = ("-3-x64", "-3", "-3-arm64", "-1_1-x64", "-1_1", "-1_1-arm64")


class NotFoundError(Exception):
    """Why there is no way to the functions."""


def addresses() -> dict[str, int]:
    """Addresses of all functions above by name; ``NotFoundError`` says what is missing."""
    if not ssl.OPENSSL_VERSION.startswith("OpenSSL "):
        raise NotFoundError(f"ssl uses {ssl.OPENSSL_VERSION}, not OpenSSL")
    try:
        import ctypes  # noqa: PLC0415 - an interpreter may be built without
    except ImportError as error:
        raise NotFoundError(f"no ctypes: {error}") from None
    try:
        for_ssl, for_crypto = _libraries(ctypes)
    except OSError as error:
        raise NotFoundError(str(error)) from None
    found: dict[str, int] = {}
    for library, names in ((for_ssl, SSL_FUNCTIONS), (for_crypto, CRYPTO_FUNCTIONS)):
        for name in names:
            try:
                function = getattr(library, name)
            except AttributeError:
                raise NotFoundError(f"the OpenSSL of ssl shows no {name}") from None
            found[name] = ctypes.cast(function, ctypes.c_void_p).value or 0
    version = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_int)(found["OpenSSL_version"])(0)
    if version is None or version.decode(errors="replace") != ssl.OPENSSL_VERSION:
        raise NotFoundError(f"found {version!r}, but ssl uses {ssl.OPENSSL_VERSION}")
    return found


def _libraries(ctypes: Any) -> tuple[Any, Any]:
    if hasattr(ctypes, "WinDLL"):
        return _loaded_dll(ctypes, "libssl"), _loaded_dll(ctypes, "libcrypto")
    import _ssl  # noqa: PLC0415 - private, and only its file is of interest

    path = getattr(_ssl, "__file__", None)  # None: built into the interpreter
    mode = os.RTLD_NOW if path is None else os.RTLD_NOW | os.RTLD_NOLOAD
    library = ctypes.CDLL(path, mode=mode)
    return library, library


def _loaded_dll(ctypes: Any, name: str) -> Any:
    get = ctypes.WinDLL("kernel32").GetModuleHandleW
    get.restype = ctypes.c_void_p
    get.argtypes = [ctypes.c_wchar_p]
    for suffix in DLL_SUFFIXES:
        handle = get(f"{name}{suffix}.dll")
        if handle:
            return ctypes.CDLL(name, handle=handle)
    raise OSError(f"no {name} is loaded as a DLL")
