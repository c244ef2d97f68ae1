# rio.h as Cython sees it: the RIO table, the port table, the provider. rio.h is the contract and
# holds the documentation; tests/tidy compares the two.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t

cdef extern from "rio.h" nogil:
    ctypedef uintptr_t rio_socket
    ctypedef struct RIO_BUFFERID_t:
        pass
    ctypedef struct RIO_CQ_t:
        pass
    ctypedef struct RIO_RQ_t:
        pass
    ctypedef RIO_BUFFERID_t *RIO_BUFFERID
    ctypedef RIO_CQ_t *RIO_CQ
    ctypedef RIO_RQ_t *RIO_RQ

    RIO_BUFFERID RIO_INVALID_BUFFERID
    RIO_CQ RIO_INVALID_CQ
    RIO_RQ RIO_INVALID_RQ
    rio_socket RIO_INVALID_SOCKET
    uint32_t RIO_MAX_CQ_SIZE
    uint32_t RIO_CORRUPT_CQ
    uint32_t RIO_MSG_DEFER
    uint32_t RIO_MSG_COMMIT_ONLY
    int32_t RIO_IOCP_COMPLETION
    int32_t RIO_OPERATION_ABORTED
    int32_t RIO_ENETDOWN
    int32_t RIO_EWOULDBLOCK
    uint32_t RIO_CAP_SEND_MEMORY
    uint32_t RIO_CAP_NOW
    uint32_t RIO_CAP_BATCH
    uint32_t RIO_CAP_PENDING
    uint32_t RIO_CAP_CLOSE_ENDS
    uint32_t RIO_CAP_SEND_NOW

    ctypedef struct RIO_BUF:
        RIO_BUFFERID BufferId
        uint32_t Offset
        uint32_t Length

    ctypedef struct RIORESULT:
        int32_t Status
        uint32_t BytesTransferred
        uint64_t SocketContext
        uint64_t RequestContext

    ctypedef struct RIO_SOCKADDR_INET:
        uint16_t family
        uint8_t rest[26]

    # The header's union members have no names of their own; these are for Cython alone.
    ctypedef struct rio_notification_iocp:
        void *IocpHandle
        void *CompletionKey
        void *Overlapped

    ctypedef union rio_notification_union:
        rio_notification_iocp Iocp

    ctypedef struct RIO_NOTIFICATION_COMPLETION:
        int32_t Type
        rio_notification_union u

    ctypedef struct RIO_EXTENSION_FUNCTION_TABLE:
        uint32_t cbSize
        int32_t (*RIOReceive)(RIO_RQ, RIO_BUF *, uint32_t, uint32_t, void *) noexcept
        int32_t (*RIOReceiveEx)(RIO_RQ, RIO_BUF *, uint32_t, RIO_BUF *, RIO_BUF *, RIO_BUF *,
                                RIO_BUF *, uint32_t, void *) noexcept
        int32_t (*RIOSend)(RIO_RQ, RIO_BUF *, uint32_t, uint32_t, void *) noexcept
        int32_t (*RIOSendEx)(RIO_RQ, RIO_BUF *, uint32_t, RIO_BUF *, RIO_BUF *, RIO_BUF *,
                             RIO_BUF *, uint32_t, void *) noexcept
        void (*RIOCloseCompletionQueue)(RIO_CQ) noexcept
        RIO_CQ (*RIOCreateCompletionQueue)(uint32_t, RIO_NOTIFICATION_COMPLETION *) noexcept
        RIO_RQ (*RIOCreateRequestQueue)(rio_socket, uint32_t, uint32_t, uint32_t, uint32_t,
                                        RIO_CQ, RIO_CQ, void *) noexcept
        uint32_t (*RIODequeueCompletion)(RIO_CQ, RIORESULT *, uint32_t) noexcept
        void (*RIODeregisterBuffer)(RIO_BUFFERID) noexcept
        int32_t (*RIONotify)(RIO_CQ) noexcept
        RIO_BUFFERID (*RIORegisterBuffer)(char *, uint32_t) noexcept
        int32_t (*RIOResizeCompletionQueue)(RIO_CQ, uint32_t) noexcept

    ctypedef struct rio_port:
        pass

    int RIO_PORT_NOTIFY
    int RIO_PORT_READY
    int RIO_PORT_ACCEPT
    int RIO_PORT_PACKET
    uint32_t RIO_WATCH_READ
    uint32_t RIO_WATCH_WRITE
    uint32_t RIO_WATCH_ONCE
    int64_t RIO_NOT_NOW

    ctypedef struct rio_peer:
        uint8_t address[128]
        uint64_t length

    ctypedef struct rio_port_event:
        uint32_t kind
        int32_t status
        uint64_t key
        void *overlapped
        uint64_t value

    ctypedef struct rio_port_table:
        uint32_t size
        int32_t (*wait)(rio_port *, rio_port_event *, uint32_t, int64_t) noexcept nogil
        int32_t (*pending)(rio_port *) noexcept
        int32_t (*post)(rio_port *, uint64_t) noexcept
        int32_t (*watch)(rio_port *, rio_socket, uint32_t, uint64_t) noexcept
        int32_t (*accept)(rio_port *, rio_socket, uint64_t) noexcept
        int32_t (*accept_stop)(rio_port *, rio_socket) noexcept
        int32_t (*retire)(rio_port *, rio_socket) noexcept
        int32_t (*park)(rio_port *) noexcept
        int32_t (*accept_alone)(rio_port *, rio_socket, uint32_t) noexcept
        int32_t (*leave)(rio_port *, rio_socket) noexcept

    ctypedef struct rio_datagram:
        const void *memory
        const RIO_SOCKADDR_INET *remote
        uint32_t length
        uint32_t filler

    ctypedef struct rio_provider:
        uint32_t size
        uint32_t capabilities
        const char *name
        RIO_EXTENSION_FUNCTION_TABLE rio
        rio_port_table port
        int32_t (*send_memory)(RIO_RQ, const void *, uint32_t, uint32_t, void *) noexcept
        int32_t (*receive_memory)(RIO_RQ, void *, uint32_t, uint32_t, void *) noexcept
        int64_t (*send_now)(RIO_RQ, const void *, uint32_t) noexcept nogil
        int64_t (*receive_now)(RIO_RQ, void *, uint32_t) noexcept nogil
        int64_t (*send_datagrams_now)(RIO_RQ, const rio_datagram *, uint32_t) noexcept nogil
        int64_t (*socket_send)(rio_socket, const void *, uint32_t) noexcept nogil
        int64_t (*socket_receive)(rio_socket, void *, uint32_t) noexcept nogil
        int32_t (*recall_receives)(RIO_RQ) noexcept
        uint64_t (*socket_identity)(rio_socket) noexcept
        int32_t (*guard)(RIO_RQ, uint64_t) noexcept
        int32_t (*know_stream)(rio_port *, rio_socket) noexcept
