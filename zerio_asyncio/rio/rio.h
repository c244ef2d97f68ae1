/* rio.h: the contract between the event loop and an operating system.
 *
 * Registered I/O (RIO) is Windows' socket interface of request queues, completion queues and
 * registered buffers. Its function table is the one interface that everything above this file
 * speaks; an operating system is only a provider of it. Beside the table stands a second, ours:
 * the port, that is the one place where a thread sleeps (an I/O completion port on Windows, a ring
 * on Linux, epoll elsewhere), with what Winsock offers apart from RIO: wake-ups, accept, connect,
 * readiness of a descriptor.
 *
 * Names, order, layouts and values of the RIO part are Microsoft's:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/ns-mswsock-rio_extension_function_table
 *   https://learn.microsoft.com/windows/win32/api/mswsockdef/ns-mswsockdef-rio_buf
 *   https://learn.microsoft.com/windows/win32/api/mswsockdef/ns-mswsockdef-rioresult
 *   https://learn.microsoft.com/windows/win32/api/mswsock/ns-mswsock-rio_notification_completion
 *
 * The provider rules. Every provider keeps them, tests/rio holds one test or more for each:
 *
 *  1. An accepted request gives exactly one result, also when its socket is retired meanwhile
 *     (WSA_OPERATION_ABORTED). A refused one gives none and changes nothing.
 *  2. On one request queue the results of one direction come in the order of the requests. A
 *     stream send completes whole or fails; a short send is never seen.
 *  3. A slice of memory belongs to the provider from the request to the dequeue of its result,
 *     never longer. Registered memory in use outlives its deregistration.
 *  4. A deferred request counts at once and takes effect at the latest by the next undeferred
 *     request, or commit, of the same direction.
 *  5. A full request queue refuses (WSAENOBUFS). A completion queue cannot overflow: a request
 *     queue that would allow it is refused (WSAENOBUFS). A slot is freed by dequeue, not by
 *     completion.
 *  6. Dequeue never blocks, never calls back, returns at most what was asked, and makes no system
 *     call on a queue that notifies a port. A queue without notification can only be polled, so
 *     where no kernel thread makes progress, an empty one makes progress inside its dequeue.
 *  7. Notify is one-shot, fires at once if the queue is not empty, answers WSAEALREADY while
 *     armed, and is blind to results of RIO_MSG_DONT_NOTIFY requests. A wake-up that finds the
 *     queue empty is legal and must be survived; notifications that nobody took yet may merge.
 *  8. Status 0 with 0 bytes is the end of a stream or an empty datagram, and only that: a stream
 *     request of length 0 is refused (WSAEINVAL).
 *  9. Status values are Winsock codes on every provider; rio_errno() maps them to errno.
 * 10. One thread at a time per port and what hangs on it; only post may be called by another.
 *     Between two threads stands a park; a provider that needs it refuses without (WSAEINVAL).
 * 11. Events per wait, bytes per request, queue depths: all have a limit, named where it is set.
 * 12. What a provider cannot do is present and refuses (WSAEOPNOTSUPP). There are no null entries.
 * 13. A handle that is null, of another kind, closed, or arbitrary bits gets the documented error
 *     (WSAEINVAL; WSAEFAULT for a buffer), never a crash.
 * 14. After fork() a port belongs to the parent. In the child every entry but close refuses with
 *     WSAENETDOWN and touches nothing that the parent uses; close frees the child's copy.
 */
#ifndef ZERIO_RIO_H
#define ZERIO_RIO_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define RIO_CALL __stdcall
#else
#define RIO_CALL
#endif

/* ------------------------------------------------------------------ Registered I/O: types */

typedef uintptr_t rio_socket; /* SOCKET on Windows, a descriptor elsewhere */
#define RIO_INVALID_SOCKET ((rio_socket)-1)

typedef struct RIO_BUFFERID_t *RIO_BUFFERID;
typedef struct RIO_CQ_t *RIO_CQ;
typedef struct RIO_RQ_t *RIO_RQ;

#define RIO_INVALID_BUFFERID ((RIO_BUFFERID)(uintptr_t)0xFFFFFFFF)
#define RIO_INVALID_CQ ((RIO_CQ)0)
#define RIO_INVALID_RQ ((RIO_RQ)0)
#define RIO_MAX_CQ_SIZE 0x08000000u
#define RIO_CORRUPT_CQ 0xFFFFFFFFu

#define RIO_MSG_DONT_NOTIFY 1u
#define RIO_MSG_DEFER 2u
#define RIO_MSG_WAITALL 4u
#define RIO_MSG_COMMIT_ONLY 8u

#define RIO_EVENT_COMPLETION 1
#define RIO_IOCP_COMPLETION 2

typedef struct RIO_BUF {
    RIO_BUFFERID BufferId;
    uint32_t Offset; /* bytes from the start of the registered memory */
    uint32_t Length; /* bytes */
} RIO_BUF;

typedef struct RIORESULT {
    int32_t Status; /* 0 or a Winsock code */
    uint32_t BytesTransferred;
    uint64_t SocketContext;
    uint64_t RequestContext;
} RIORESULT;

typedef struct RIO_NOTIFICATION_COMPLETION {
    int32_t Type; /* RIO_IOCP_COMPLETION; RIO_EVENT_COMPLETION exists on Windows alone */
    union {
        struct {
            void *EventHandle;
            int32_t NotifyReset;
        } Event;
        struct {
            void *IocpHandle;    /* the port: HANDLE on Windows, struct rio_port * elsewhere */
            void *CompletionKey; /* comes back as rio_port_event.key */
            void *Overlapped;    /* must not be null, one of its own for each queue */
        } Iocp;
    } u;
} RIO_NOTIFICATION_COMPLETION;

/* SOCKADDR_INET: room for either family. `family` is the system's AF_INET or AF_INET6. */
typedef struct RIO_SOCKADDR_INET {
    uint16_t family;
    uint8_t rest[26];
} RIO_SOCKADDR_INET;

typedef struct RIO_EXTENSION_FUNCTION_TABLE {
    uint32_t cbSize;
    int32_t(RIO_CALL *RIOReceive)(RIO_RQ, RIO_BUF *data, uint32_t count, uint32_t flags,
                                  void *request_context);
    int32_t(RIO_CALL *RIOReceiveEx)(RIO_RQ, RIO_BUF *data, uint32_t count, RIO_BUF *local_address,
                                    RIO_BUF *remote_address, RIO_BUF *control, RIO_BUF *flags_out,
                                    uint32_t flags, void *request_context);
    int32_t(RIO_CALL *RIOSend)(RIO_RQ, RIO_BUF *data, uint32_t count, uint32_t flags,
                               void *request_context);
    int32_t(RIO_CALL *RIOSendEx)(RIO_RQ, RIO_BUF *data, uint32_t count, RIO_BUF *local_address,
                                 RIO_BUF *remote_address, RIO_BUF *control, RIO_BUF *flags_in,
                                 uint32_t flags, void *request_context);
    void(RIO_CALL *RIOCloseCompletionQueue)(RIO_CQ);
    RIO_CQ(RIO_CALL *RIOCreateCompletionQueue)(uint32_t size, RIO_NOTIFICATION_COMPLETION *);
    RIO_RQ(RIO_CALL *RIOCreateRequestQueue)(rio_socket, uint32_t max_receives,
                                            uint32_t max_receive_buffers, uint32_t max_sends,
                                            uint32_t max_send_buffers, RIO_CQ receive_cq,
                                            RIO_CQ send_cq, void *socket_context);
    uint32_t(RIO_CALL *RIODequeueCompletion)(RIO_CQ, RIORESULT *results, uint32_t size);
    void(RIO_CALL *RIODeregisterBuffer)(RIO_BUFFERID);
    int32_t(RIO_CALL *RIONotify)(RIO_CQ); /* returns the Winsock code itself */
    RIO_BUFFERID(RIO_CALL *RIORegisterBuffer)(char *memory, uint32_t length);
    int32_t(RIO_CALL *RIOResizeCompletionQueue)(RIO_CQ, uint32_t size);
    int32_t(RIO_CALL *RIOResizeRequestQueue)(RIO_RQ, uint32_t max_receives, uint32_t max_sends);
} RIO_EXTENSION_FUNCTION_TABLE;

/* -------------------------------------------------------------------------- Winsock codes */

#define RIO_OPERATION_ABORTED 995 /* WSA_OPERATION_ABORTED */
#define RIO_IO_PENDING 997        /* WSA_IO_PENDING */
#define RIO_EINTR 10004
#define RIO_EBADF 10009
#define RIO_EACCES 10013
#define RIO_EFAULT 10014
#define RIO_EINVAL 10022
#define RIO_EMFILE 10024
#define RIO_EWOULDBLOCK 10035
#define RIO_EINPROGRESS 10036
#define RIO_EALREADY 10037
#define RIO_ENOTSOCK 10038
#define RIO_EDESTADDRREQ 10039
#define RIO_EMSGSIZE 10040
#define RIO_EPROTOTYPE 10041
#define RIO_ENOPROTOOPT 10042
#define RIO_EPROTONOSUPPORT 10043
#define RIO_EOPNOTSUPP 10045
#define RIO_EAFNOSUPPORT 10047
#define RIO_EADDRINUSE 10048
#define RIO_EADDRNOTAVAIL 10049
#define RIO_ENETDOWN 10050
#define RIO_ENETUNREACH 10051
#define RIO_ENETRESET 10052
#define RIO_ECONNABORTED 10053
#define RIO_ECONNRESET 10054
#define RIO_ENOBUFS 10055
#define RIO_EISCONN 10056
#define RIO_ENOTCONN 10057
#define RIO_ESHUTDOWN 10058
#define RIO_ETOOMANYREFS 10059
#define RIO_ETIMEDOUT 10060
#define RIO_ECONNREFUSED 10061
#define RIO_EHOSTDOWN 10064
#define RIO_EHOSTUNREACH 10065

/* The one map from a Winsock code to the errno that Python's OSError wants (rule 9). Codes that
 * have no errno of their own become EIO. `code_of_errno` is its inverse, for providers. */
int32_t rio_errno(int32_t code);
int32_t rio_code_of_errno(int32_t error);

/* The code of this thread's last refused call (WSAGetLastError on Windows). */
int32_t rio_last_error(void);

/* --------------------------------------------------------------------------------- the port */

typedef struct rio_port rio_port;

enum rio_port_event_kind {
    RIO_PORT_NOTIFY = 1, /* a completion queue's notification: key, overlapped as registered */
    RIO_PORT_POST = 2,   /* post() was called; posts that nobody has seen yet may be merged */
    RIO_PORT_READY = 3,  /* watch(): value is the mask of what is ready */
    RIO_PORT_ACCEPT = 4, /* accept(): value is the new descriptor, non-blocking and close-on-exec,
                            overlapped the rio_peer that it is from, or null; with a status, value
                            is RIO_INVALID_SOCKET and accepting has stopped */
    RIO_PORT_CONNECT = 5, /* connect(): status tells how it ended */
    RIO_PORT_PACKET = 6 /* an operation of the caller's own on what has joined: key 0, overlapped
                           its OVERLAPPED, status its NTSTATUS, value the bytes (Windows) */
};

#define RIO_WATCH_READ 1u
#define RIO_WATCH_WRITE 2u
#define RIO_WATCH_ONCE 4u

typedef struct rio_port_event {
    uint32_t kind;
    int32_t status; /* 0 or a Winsock code */
    uint64_t key;   /* as given by whoever asked */
    void *overlapped;
    uint64_t value;
} rio_port_event;

/* Whom an accepted connection is from, as the accept told it: the client may be gone since. The
 * port's; it stays at least over the next wait and until RIO_PEERS_KEPT further connections were
 * told. */
#define RIO_PEERS_KEPT 48u
typedef struct rio_peer {
    uint8_t address[128]; /* a sockaddr of the system; what is behind `length` means nothing */
    uint64_t length;      /* bytes */
} rio_peer;

typedef struct rio_port_options {
    uint32_t depth; /* submission queue entries; 0 is the provider's own choice */
    uint32_t flags; /* none yet, must be 0 */
    int64_t spin_ns; /* how long wait polls after the last event before it sleeps; negative: it
                        never sleeps */
} rio_port_options;

/* All counts since the port was made. Any thread may ask for them while the port lives. */
typedef struct rio_port_statistics {
    uint64_t submissions;    /* operations handed to the kernel */
    uint64_t completions;    /* results put into completion queues */
    uint64_t system_calls;   /* made by this port and its queues */
    uint64_t waits;          /* calls of wait */
    uint64_t bytes_received; /* bytes */
    uint64_t bytes_sent;     /* bytes */
    uint64_t gathered;       /* requests that went out with another's system call or operation */
    uint64_t in_kernel;      /* operations that the kernel holds now */
} rio_port_statistics;

/* Every entry that returns int32_t answers 0, or refuses with a Winsock code as its value, unless
 * it says otherwise. Times are nanoseconds. */
typedef struct rio_port_table {
    uint32_t size; /* bytes of this structure */

    /* Null on refusal: rio_last_error() tells why. `options` may be null. */
    rio_port *(*create)(const rio_port_options *options);

    /* Ends what is in flight (results of request queues that still stand are lost with their
     * completion queues, so retire and drain first), returns every buffer, frees the port. */
    void (*close)(rio_port *);

    /* Hands over everything queued, then sleeps until an event or the timeout (negative: for ever;
     * 0: not at all). Both in one system call where the system can. Returns the number of events,
     * 0..size, or minus a Winsock code. A signal ends the sleep early with 0 events; so may other
     * things that concern nobody, and the caller just waits again. While it polls (spin_ns) a
     * signal ends nothing: it returns every millisecond for the caller to look. */
    int32_t (*wait)(rio_port *, rio_port_event *events, uint32_t size, int64_t timeout_ns);

    /* 1 if wait(0) would do anything: work to hand over, events or results to fetch. No system
     * call. 0 does not promise that the kernel has nothing; a port that refuses has nothing. */
    int32_t (*pending)(rio_port *);

    /* Wakes the port's thread. Safe from any thread and from a signal handler. */
    int32_t (*post)(rio_port *, uint64_t key);

    /* Level-triggered readiness, as select() means it; errors and hang-ups count as both. A mask
     * of 0 stops. One watch a descriptor; a second call changes mask and key. With RIO_WATCH_ONCE
     * one event ends the watch, and a second call begins it anew, with fewer system calls than a
     * stop and a start. Closing the descriptor without stopping must do no harm. WSAEBADF,
     * WSAEOPNOTSUPP (a plain file). */
    int32_t (*watch)(rio_port *, rio_socket, uint32_t mask, uint64_t key);

    /* Accepts on a listening socket, one RIO_PORT_ACCEPT event a connection, until accept_stop or
     * an error that is the listener's own (a client that vanished is not). Exhaustion (WSAEMFILE,
     * WSAENOBUFS) is reported once, existing connections go on, call accept again later. After
     * accept_stop no further event carries this key; connections already taken are closed. A second
     * call changes the key; it is also how a listener is named that has the number of one that was
     * closed without accept_stop. Where processes share a listener (Linux), none takes a connection
     * but in its wait, and only one from each listener: what it does not serve at once is for the
     * others (but see accept_alone). The listener is made non-blocking there. */
    int32_t (*accept)(rio_port *, rio_socket listener, uint64_t key);
    int32_t (*accept_stop)(rio_port *, rio_socket listener);

    /* Connects a non-blocking socket; one RIO_PORT_CONNECT event. `address` is a sockaddr of the
     * system, copied. connect_stop: no event will come, the socket is the caller's to close. */
    int32_t (*connect)(rio_port *, rio_socket, const void *address, uint32_t length, uint64_t key);
    int32_t (*connect_stop)(rio_port *, rio_socket);

    /* What closesocket means to a request queue: each outstanding request will complete with
     * WSA_OPERATION_ABORTED (or as it really ended), further ones are refused, the reservation
     * returns to the completion queues as its results are dequeued. On return the kernel has let go
     * of the descriptor wherever it can at once; the caller closes it. Unknown descriptors: 0. The
     * handle is closed with this call: WSAEINVAL from then on. With RIO_CAP_CLOSE_ENDS the results
     * may need the socket to be closed before they come. */
    int32_t (*retire)(rio_port *, rio_socket);

    /* Takes everything back from the kernel, so that this thread may end and another go on with
     * the port. Requests stay outstanding and go on at that thread's first wait. */
    int32_t (*park)(rio_port *);

    int32_t (*statistics)(rio_port *, rio_port_statistics *);

    /* Packets of the caller's own overlapped operations on this handle come to this port from now
     * on (a file has one port for its life; to join again is harmless). Windows only; elsewhere
     * WSAEOPNOTSUPP. */
    int32_t (*join)(rio_port *, rio_socket file);

    /* The I/O completion port itself, that packets may be posted to; 0 where there is none. */
    uintptr_t (*native)(rio_port *);

    /* Says of a listener that is accepted on whether this process alone does so. Then a wait may
     * take several connections, since none of them is missing elsewhere, and the cost of taking
     * turns is saved. accept() means: not alone. WSAEINVAL if it is not accepted on. */
    int32_t (*accept_alone)(rio_port *, rio_socket listener, uint32_t alone);
} rio_port_table;

/* ----------------------------------------------------------------------------- the provider */

#define RIO_CAP_SEND_MEMORY 1u    /* send_memory works: sends from memory that is not registered */
#define RIO_CAP_RECEIVE_MEMORY 2u /* receive_memory works */
#define RIO_CAP_DATAGRAM 4u       /* RIOReceiveEx and RIOSendEx work */
#define RIO_CAP_NOW 8u            /* send_now, receive_now and send_datagrams_now work */
#define RIO_CAP_BATCH 16u         /* one system call hands over any number of requests: a handful of
                                     them is cheaper than as many calls of send_now */
#define RIO_CAP_PENDING 32u       /* pending answers 1 as soon as the kernel has anything: no need
                                     to ask it by wait(0) while there is other work */

#define RIO_CAP_CLOSE_ENDS 64u    /* requests of a retired socket end when it is closed, not before:
                                    retire, close, drain */
#define RIO_CAP_SEND_NOW 128u     /* send_now works on a stream that does not block; part of
                                     RIO_CAP_NOW, with which the stream may block */

#define RIO_NOT_NOW (-0x80000000LL) /* of socket_send and socket_receive: it would block */

/* One datagram of send_datagrams_now. */
typedef struct rio_datagram {
    const void *memory;
    const RIO_SOCKADDR_INET *remote; /* null: the peer that the socket is connected to */
    uint32_t length;                 /* bytes; 0 is a datagram, too */
    uint32_t filler;
} rio_datagram;

typedef struct rio_provider {
    uint32_t size; /* bytes of this structure */
    uint32_t capabilities;
    const char *name;

    /* 0 if the provider works here, else the system's error number; `reason` then gets one
     * sentence (NUL-ended, cut to size) that names the likely cause and its cure. */
    int32_t (*probe)(char *reason, uint32_t size);

    RIO_EXTENSION_FUNCTION_TABLE rio;
    rio_port_table port;

    /* As RIOSend and RIOReceive, on memory that is not registered; the caller keeps it alive until
     * the result is dequeued. Refused with WSAEOPNOTSUPP where the capability is missing.
     * receive_memory of null and 0 on a stream moves nothing: its result, of 0 bytes, comes when
     * there is something to receive (bytes, the end or an error). */
    int32_t (*send_memory)(RIO_RQ, const void *memory, uint32_t length, uint32_t flags,
                           void *request_context);
    int32_t (*receive_memory)(RIO_RQ, void *memory, uint32_t length, uint32_t flags,
                              void *request_context);

    /* What a stream can send or give at once, in one system call and with no request: for large
     * data that is in the cache now and would not be when its request's turn comes. Returns bytes,
     * possibly fewer than asked; 0 of receive_now is the end of the stream; or minus a Winsock
     * code: WSAEWOULDBLOCK when nothing can be moved now (with RIO_CAP_SEND_NOW alone, a socket
     * that is in blocking mode blocks then), WSAEALREADY while a request of this
     * direction is outstanding (order, rule 2), WSAEOPNOTSUPP without the capability or on a
     * datagram socket. A connection that died is told again by the next request. */
    int64_t (*send_now)(RIO_RQ, const void *memory, uint32_t length);
    int64_t (*receive_now)(RIO_RQ, void *memory, uint32_t length);

    /* The same for a datagram socket: as many of the datagrams, in order, as the system takes at
     * once, in one system call where it can. Returns how many, or minus a Winsock code, which then
     * is the first one's. WSAEOPNOTSUPP on a stream. */
    int64_t (*send_datagrams_now)(RIO_RQ, const rio_datagram *datagrams, uint32_t count);

    /* recv and send on a socket that has no request queue, blocking or not: what can be moved at
     * once, without a signal. Bytes; RIO_NOT_NOW; or minus the system's own error number (errno,
     * WSAGetLastError), because it goes to the program as it is. */
    int64_t (*socket_send)(rio_socket, const void *memory, uint32_t length);
    int64_t (*socket_receive)(rio_socket, void *memory, uint32_t length);

    /* A new socket as this provider serves it best, blocking and not inherited by children; numbers
     * as socket() takes them. RIO_INVALID_SOCKET on refusal (rio_last_error): WSAEOPNOTSUPP where
     * any socket is as good as another. */
    rio_socket (*make_socket)(int32_t family, int32_t type, int32_t protocol);

    /* Takes every outstanding receive back, deferred ones and probes among them. When it returns 0,
     * the system takes no more of this socket's bytes or datagrams than it has taken: the rest is
     * for whoever reads the socket next, or for receives made after this. Each receive that was
     * outstanding has its result, in order, in the completion queue or soon there (Windows): 0 and
     * the bytes that came before, if there are any, else WSA_OPERATION_ABORTED. No system call if
     * the system holds none. Or a Winsock code, and nothing is changed: WSAEOPNOTSUPP where the
     * system takes nothing back, WSAEINVAL in another thread than the port's (rule 10),
     * WSAEWOULDBLOCK if the system does not let go. */
    int32_t (*recall_receives)(RIO_RQ);

    /* A number that tells this open socket from every other of its time, also from one that gets
     * its descriptor's number after it was closed; 0 if the descriptor is not open. Where the
     * system has no such number (Windows) it is 1 for any open socket. */
    uint64_t (*socket_identity)(rio_socket);

    /* Others may close this queue's socket. Once its descriptor's number does not stand for
     * `identity` any more, nothing is asked of the number: what has to be handed to the system, for
     * the first time or again, ends with WSAEBADF, and so does receive_now. Who sends without a
     * request asks socket_identity itself. Costs a call each time, where a system gives the numbers
     * of sockets away while requests wait (Linux). */
    int32_t (*guard)(RIO_RQ, uint64_t identity);
} rio_provider;

/* Providers of this platform, best first; `count` gets their number. */
const rio_provider *const *rio_providers(uint32_t *count);

/* Layout is the contract (x64): checked wherever this header is compiled. */
#if UINTPTR_MAX > 0xFFFFFFFFu
#define RIO_LAYOUT(name, condition) typedef char rio_layout_##name[(condition) ? 1 : -1]
RIO_LAYOUT(buf, sizeof(RIO_BUF) == 16 && offsetof(RIO_BUF, Offset) == 8);
RIO_LAYOUT(result, sizeof(RIORESULT) == 24 && offsetof(RIORESULT, SocketContext) == 8);
RIO_LAYOUT(notification, sizeof(RIO_NOTIFICATION_COMPLETION) == 32 &&
                             offsetof(RIO_NOTIFICATION_COMPLETION, u) == 8);
RIO_LAYOUT(table, sizeof(RIO_EXTENSION_FUNCTION_TABLE) == 112);
RIO_LAYOUT(sockaddr, sizeof(RIO_SOCKADDR_INET) == 28);
RIO_LAYOUT(event, sizeof(rio_port_event) == 32);
RIO_LAYOUT(datagram, sizeof(rio_datagram) == 24);
#endif

#endif
