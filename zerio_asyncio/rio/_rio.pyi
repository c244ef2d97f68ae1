"""What cffi compiles from rio.h (build.py); foreign.py types the structures."""

from typing import Final

import cffi

from zerio_asyncio.rio.foreign import CData

class _Library:
    """The functions of rio.h; its constants are integers, its null handles pointers."""

    def rio_errno(self, code: int, /) -> int: ...
    def rio_code_of_errno(self, error: int, /) -> int: ...
    def rio_last_error(self) -> int: ...
    def rio_providers(self, count: CData, /) -> CData: ...

    RIO_CAP_BATCH: Final[int]
    RIO_CAP_CLOSE_ENDS: Final[int]
    RIO_CAP_DATAGRAM: Final[int]
    RIO_CAP_NOW: Final[int]
    RIO_CAP_PENDING: Final[int]
    RIO_CAP_RECEIVE_MEMORY: Final[int]
    RIO_CAP_SEND_MEMORY: Final[int]
    RIO_CAP_SEND_NOW: Final[int]
    RIO_CORRUPT_CQ: Final[int]
    RIO_EACCES: Final[int]
    RIO_EADDRINUSE: Final[int]
    RIO_EADDRNOTAVAIL: Final[int]
    RIO_EAFNOSUPPORT: Final[int]
    RIO_EALREADY: Final[int]
    RIO_EBADF: Final[int]
    RIO_ECONNABORTED: Final[int]
    RIO_ECONNREFUSED: Final[int]
    RIO_ECONNRESET: Final[int]
    RIO_EDESTADDRREQ: Final[int]
    RIO_EFAULT: Final[int]
    RIO_EHOSTDOWN: Final[int]
    RIO_EHOSTUNREACH: Final[int]
    RIO_EINPROGRESS: Final[int]
    RIO_EINTR: Final[int]
    RIO_EINVAL: Final[int]
    RIO_EISCONN: Final[int]
    RIO_EMFILE: Final[int]
    RIO_EMSGSIZE: Final[int]
    RIO_ENETDOWN: Final[int]
    RIO_ENETRESET: Final[int]
    RIO_ENETUNREACH: Final[int]
    RIO_ENOBUFS: Final[int]
    RIO_ENOPROTOOPT: Final[int]
    RIO_ENOTCONN: Final[int]
    RIO_ENOTSOCK: Final[int]
    RIO_EOPNOTSUPP: Final[int]
    RIO_EPROTONOSUPPORT: Final[int]
    RIO_EPROTOTYPE: Final[int]
    RIO_ESHUTDOWN: Final[int]
    RIO_ETIMEDOUT: Final[int]
    RIO_ETOOMANYREFS: Final[int]
    RIO_EVENT_COMPLETION: Final[int]
    RIO_EWOULDBLOCK: Final[int]
    RIO_INVALID_BUFFERID: Final[CData]
    RIO_INVALID_CQ: Final[CData]
    RIO_INVALID_RQ: Final[CData]
    RIO_INVALID_SOCKET: Final[int]
    RIO_IOCP_COMPLETION: Final[int]
    RIO_IO_PENDING: Final[int]
    RIO_MAX_CQ_SIZE: Final[int]
    RIO_MSG_COMMIT_ONLY: Final[int]
    RIO_MSG_DEFER: Final[int]
    RIO_MSG_DONT_NOTIFY: Final[int]
    RIO_MSG_WAITALL: Final[int]
    RIO_NOT_NOW: Final[int]
    RIO_OPERATION_ABORTED: Final[int]
    RIO_PEERS_KEPT: Final[int]
    RIO_PORT_ACCEPT: Final[int]
    RIO_PORT_CONNECT: Final[int]
    RIO_PORT_NOTIFY: Final[int]
    RIO_PORT_PACKET: Final[int]
    RIO_PORT_POST: Final[int]
    RIO_PORT_READY: Final[int]
    RIO_WATCH_ONCE: Final[int]
    RIO_WATCH_READ: Final[int]
    RIO_WATCH_WRITE: Final[int]

ffi: cffi.FFI
lib: _Library
