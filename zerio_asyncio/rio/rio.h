/* rio.h: the contract between the event loop and an operating system.
 *
 * Registered I/O (RIO) is Windows' socket interface of request queues, completion queues and
 * registered buffers. Its function table is the one interface that everything above this file uses;
 * an operating system is only a provider of it. A second table, ours, is the port: the one place
 * where a thread sleeps (an I/O completion port on Windows, a ring on Linux, epoll elsewhere),
 * together with what Winsock offers outside RIO: wake-ups, accept, connect, readiness of a
 * descriptor.
 *
 * Names, order, layouts and values of the RIO part are Microsoft's:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/ns-mswsock-rio_extension_function_table
 *   https://learn.microsoft.com/windows/win32/api/mswsockdef/ns-mswsockdef-rio_buf
 *   https://learn.microsoft.com/windows/win32/api/mswsockdef/ns-mswsockdef-rioresult
 *   https://learn.microsoft.com/windows/win32/api/mswsock/ns-mswsock-rio_notification_completion
 *
 * The provider rules. Every provider obeys them; tests/rio has one or more tests for each:
 *
 *  1. An accepted request produces exactly one result, even if its socket is retired meanwhile
 *     (WSA_OPERATION_ABORTED). A refused one produces none and changes nothing.
 *  2. On one request queue, the results of each direction come in the order of the requests. A
 *     stream send completes whole or fails; a short send is never seen.
 *  3. A slice of memory belongs to the provider from the request to the dequeue of its result,
 *     never longer. Registered memory in use outlives its deregistration.
 *  4. A deferred request counts at once and takes effect no later than the next undeferred request,
 *     or commit, in the same direction.
 *  5. A full request queue refuses (WSAENOBUFS). A completion queue cannot overflow: a request
 *     queue that would allow it is refused (WSAENOBUFS). A slot is freed by dequeue, not by
 *     completion.
 *  6. Dequeue never blocks, never calls back, returns at most the number asked for, and makes no
 *     system call on a queue that notifies a port. A queue without notification can only be polled,
 *     so where no kernel thread makes progress, dequeueing an empty one makes progress.
 *  7. Notify is one-shot, fires at once if the queue is not empty, returns WSAEALREADY while armed,
 *     and ignores results of RIO_MSG_DONT_NOTIFY requests. A wake-up that finds the queue empty is
 *     legal and must be tolerated; notifications that nobody has taken yet may merge.
 *  8. Status 0 with 0 bytes is the end of a stream or an empty datagram, and only that: a stream
 *     request of length 0 is refused (WSAEINVAL).
 *  9. Status values are Winsock codes on every provider; rio_errno() maps them to errno.
 * 10. One thread at a time per port and everything on it; only post may be called by another. To
 *     hand the port to another thread, park it; a provider that needs this refuses otherwise
 *     (WSAEINVAL).
 * 11. Events per wait, bytes per request, queue depths: all have a limit, named where it is set.
 * 12. An entry that a provider cannot support refuses (WSAEOPNOTSUPP). No entry is null.
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
    int32_t Type; /* RIO_IOCP_COMPLETION; RIO_EVENT_COMPLETION exists only on Windows */
    union {
        struct {
            void *EventHandle;
            int32_t NotifyReset;
        } Event;
        struct {
            void *IocpHandle;    /* the port: HANDLE on Windows, struct rio_port * elsewhere */
            void *CompletionKey; /* returned as rio_port_event.key */
            void *Overlapped;    /* must not be null; each queue needs its own */
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

/* Maps a Winsock code to the errno that Python's OSError wants (rule 9); there is no other map.
 * Codes without an errno of their own become EIO. `code_of_errno` is its inverse, for providers. */
int32_t rio_errno(int32_t code);
int32_t rio_code_of_errno(int32_t error);

/* The code of this thread's last refused call (WSAGetLastError on Windows). */
int32_t rio_last_error(void);

/* --------------------------------------------------------------------------------- the port */

typedef struct rio_port rio_port;

enum rio_port_event_kind {
    RIO_PORT_NOTIFY = 1, /* a completion queue's notification: key and overlapped as registered */
    RIO_PORT_POST = 2,   /* post() was called; posts that nobody has seen yet may merge */
    RIO_PORT_READY = 3,  /* watch(): value is the mask of what is ready */
    RIO_PORT_ACCEPT = 4, /* accept(): value is the new descriptor, non-blocking and close-on-exec,
                            overlapped its rio_peer, or null; with a status, value is
                            RIO_INVALID_SOCKET and accepting has stopped */
    RIO_PORT_CONNECT = 5, /* connect(): status is the result */
    RIO_PORT_PACKET = 6 /* an operation of the caller's own on something joined: key 0, overlapped
                           its OVERLAPPED, status its NTSTATUS, value the bytes (Windows) */
};

#define RIO_WATCH_READ 1u
#define RIO_WATCH_WRITE 2u
#define RIO_WATCH_ONCE 4u

typedef struct rio_port_event {
    uint32_t kind;
    int32_t status; /* 0 or a Winsock code */
    uint64_t key;   /* as given by the caller */
    void *overlapped;
    uint64_t value;
} rio_port_event;

/* The address of an accepted connection, as the accept reported it: the client may be gone by now.
 * The port owns it; it stays valid at least over the next wait and until RIO_PEERS_KEPT further
 * connections were reported. */
#define RIO_PEERS_KEPT 48u
typedef struct rio_peer {
    uint8_t address[128]; /* a sockaddr of the system; beyond `length` it means nothing */
    uint64_t length;      /* bytes */
} rio_peer;

typedef struct rio_port_options {
    uint32_t depth; /* submission queue entries; 0: the provider chooses */
    uint32_t flags; /* none yet, must be 0 */
    int64_t spin_ns; /* how long wait polls after the last event before it sleeps; negative: it
                        never sleeps */
} rio_port_options;

/* All counts since the port was made. Any thread may ask for them while the port exists. */
typedef struct rio_port_statistics {
    uint64_t submissions;    /* operations submitted to the kernel */
    uint64_t completions;    /* results put into completion queues */
    uint64_t system_calls;   /* made by this port and its queues */
    uint64_t waits;          /* calls of wait */
    uint64_t bytes_received; /* bytes */
    uint64_t bytes_sent;     /* bytes */
    uint64_t gathered;       /* requests that shared another's system call or operation */
    uint64_t in_kernel;      /* operations that the kernel holds now */
} rio_port_statistics;

/* Every entry that returns int32_t returns 0, or a Winsock code if it refuses, unless it says
 * otherwise. Times are in nanoseconds. */
typedef struct rio_port_table {
    uint32_t size; /* bytes of this structure */

    /* Null on refusal: rio_last_error() returns the reason. `options` may be null. */
    rio_port *(*create)(const rio_port_options *options);

    /* Ends what is in flight (results of request queues that still exist are lost with their
     * completion queues, so retire and drain first), returns every buffer, frees the port. */
    void (*close)(rio_port *);

    /* Submits everything queued, then sleeps until an event or the timeout (negative: for ever; 0:
     * not at all). Both happen in one system call where the system can do that. Returns the number
     * of events, 0..size, or minus a Winsock code. A signal ends the sleep early with 0 events, and
     * so may other things that concern nobody; the caller then waits again. While it polls
     * (spin_ns) a signal ends nothing: it returns every millisecond for the caller to check. */
    int32_t (*wait)(rio_port *, rio_port_event *events, uint32_t size, int64_t timeout_ns);

    /* 1 if wait(0) would do anything: work to submit, events or results to fetch. Makes no system
     * call. 0 does not promise that the kernel has nothing; a port that refuses has nothing. */
    int32_t (*pending)(rio_port *);

    /* Wakes the port's thread. Safe in any thread and in a signal handler. */
    int32_t (*post)(rio_port *, uint64_t key);

    /* Level-triggered readiness, as in select(); errors and hang-ups count as both. A mask of 0
     * stops. One watch per descriptor; a second call changes mask and key. With RIO_WATCH_ONCE one
     * event ends the watch, and a second call renews it with fewer system calls than a stop and a
     * start. Closing the descriptor unstopped must do no harm. WSAEBADF, WSAEOPNOTSUPP (a plain
     * file). */
    int32_t (*watch)(rio_port *, rio_socket, uint32_t mask, uint64_t key);

    /* Accepts on a listening socket, one RIO_PORT_ACCEPT event per connection, until accept_stop or
     * an error of the listener itself (a client that vanished is not one). Exhaustion (WSAEMFILE,
     * WSAENOBUFS) is reported once and existing connections continue; call accept again later.
     * After accept_stop no further event carries this key; connections already taken are closed. A
     * second call changes the key; it also names a listener that has the number of one closed
     * without accept_stop. If processes share a listener, each takes connections only in
     * its wait, and only one from each listener: those that it does not serve at once are left to
     * the others (but see accept_alone). The listener becomes non-blocking then. */
    int32_t (*accept)(rio_port *, rio_socket listener, uint64_t key);
    int32_t (*accept_stop)(rio_port *, rio_socket listener);

    /* Connects a non-blocking socket; one RIO_PORT_CONNECT event. `address` is a sockaddr of the
     * system, copied. connect_stop: no event will come, and the caller closes the socket. */
    int32_t (*connect)(rio_port *, rio_socket, const void *address, uint32_t length, uint64_t key);
    int32_t (*connect_stop)(rio_port *, rio_socket);

    /* What closesocket means to a request queue: each outstanding request will complete with
     * WSA_OPERATION_ABORTED (or its real result), further ones are refused, and the reservation
     * returns to the completion queues as its results are dequeued. On return the kernel has
     * released the descriptor wherever it can do so at once; the caller closes it. Unknown
     * descriptors: 0. This call closes the handle: WSAEINVAL from then on. With RIO_CAP_CLOSE_ENDS
     * the results may come only after the socket is closed. */
    int32_t (*retire)(rio_port *, rio_socket);

    /* Takes everything back from the kernel, so that this thread may end and another may continue
     * with the port. Requests stay outstanding and resume at that thread's first wait. */
    int32_t (*park)(rio_port *);

    int32_t (*statistics)(rio_port *, rio_port_statistics *);

    /* From now on, packets of the caller's own overlapped operations on this handle come to this
     * port (a file has one port for life; joining again is harmless). Windows only; elsewhere
     * WSAEOPNOTSUPP. */
    int32_t (*join)(rio_port *, rio_socket file);

    /* The I/O completion port itself, to which packets may be posted; 0 if there is none. */
    uintptr_t (*native)(rio_port *);

    /* Tells whether this process alone accepts on the listener. If so, a wait may take several
     * connections, since no other process misses them, and saves the cost of taking turns. accept()
     * means: not alone. WSAEINVAL if it is not accepted on. */
    int32_t (*accept_alone)(rio_port *, rio_socket listener, uint32_t alone);

    /* The socket is being closed, after `retire` or without a queue: the next one with its number
     * has not joined. (On Windows a socket has one port for life, but its number has not.) */
    int32_t (*leave)(rio_port *, rio_socket);
} rio_port_table;

/* ----------------------------------------------------------------------------- the provider */

#define RIO_CAP_SEND_MEMORY 1u    /* send_memory works: sends from unregistered memory */
#define RIO_CAP_RECEIVE_MEMORY 2u /* receive_memory works */
#define RIO_CAP_DATAGRAM 4u       /* RIOReceiveEx and RIOSendEx work */
#define RIO_CAP_NOW 8u            /* send_now, receive_now and send_datagrams_now work */
#define RIO_CAP_BATCH 16u         /* one system call submits any number of requests: a handful of
                                     them is cheaper than as many calls of send_now */
#define RIO_CAP_PENDING 32u       /* pending returns 1 as soon as the kernel has anything: no need
                                     to ask it by wait(0) while there is other work */

#define RIO_CAP_CLOSE_ENDS 64u    /* requests of a retired socket end only when it is closed:
                                    retire, close, drain */
#define RIO_CAP_SEND_NOW 128u     /* send_now works on a non-blocking stream; part of RIO_CAP_NOW,
                                     with which the stream may block */

#define RIO_NOT_NOW (-0x80000000LL) /* result of socket_send and socket_receive: it would block */

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

    /* 0 if the provider works here, else the system's error number; `reason` then receives one
     * sentence (NUL-terminated, cut to size) that names the likely cause and its cure. */
    int32_t (*probe)(char *reason, uint32_t size);

    RIO_EXTENSION_FUNCTION_TABLE rio;
    rio_port_table port;

    /* Like RIOSend and RIOReceive, on unregistered memory; the caller keeps it alive until the
     * result is dequeued. Refused with WSAEOPNOTSUPP without the capability. receive_memory of null
     * and 0 on a stream moves nothing: its result, of 0 bytes, comes when there is something to
     * receive (bytes, the end or an error). */
    int32_t (*send_memory)(RIO_RQ, const void *memory, uint32_t length, uint32_t flags,
                           void *request_context);
    int32_t (*receive_memory)(RIO_RQ, void *memory, uint32_t length, uint32_t flags,
                              void *request_context);

    /* What a stream can send or receive at once, in one system call and without a request: for
     * large data that is in the cache now and would not be when its request's turn comes. Returns
     * bytes, possibly fewer than asked; 0 of receive_now is the end of the stream; or minus a
     * Winsock code: WSAEWOULDBLOCK if nothing can be moved now (with RIO_CAP_SEND_NOW alone, a
     * socket in blocking mode blocks then), WSAEALREADY while a request in this direction is
     * outstanding (order, rule 2), WSAEOPNOTSUPP without the capability or on a datagram socket.
     * The next request reports again that a connection died. */
    int64_t (*send_now)(RIO_RQ, const void *memory, uint32_t length);
    int64_t (*receive_now)(RIO_RQ, void *memory, uint32_t length);

    /* The same for a datagram socket: as many of the datagrams, in order, as the system takes at
     * once, in one system call where it can. Returns how many, or minus a Winsock code, which is
     * then the code of the first one. WSAEOPNOTSUPP on a stream. */
    int64_t (*send_datagrams_now)(RIO_RQ, const rio_datagram *datagrams, uint32_t count);

    /* recv and send on a socket without a request queue, blocking or not: what can be moved at
     * once, without a signal. Returns bytes; RIO_NOT_NOW; or minus the system's own error number
     * (errno, WSAGetLastError), because the program gets it as it is. */
    int64_t (*socket_send)(rio_socket, const void *memory, uint32_t length);
    int64_t (*socket_receive)(rio_socket, void *memory, uint32_t length);

    /* A new socket of the kind that this provider serves best, blocking and not inherited by
     * children; the numbers are those of socket(). RIO_INVALID_SOCKET on refusal (rio_last_error):
     * WSAEOPNOTSUPP if any socket will do. */
    rio_socket (*make_socket)(int32_t family, int32_t type, int32_t protocol);

    /* 1 if make_socket made it, or accept on a listener that make_socket made: the system refuses
     * plain calls on it. 0: it is an ordinary socket. */
    int32_t (*is_made)(rio_socket);

    /* Takes back every outstanding receive, including deferred ones and probes. Once it returns 0,
     * the system takes no more of this socket's bytes or datagrams than it has already taken: the
     * rest is for whoever reads the socket next, or for later receives. Each receive that was
     * outstanding has its result, in order, in the completion queue or soon there (Windows): 0 and
     * the bytes that came before, if any, else WSA_OPERATION_ABORTED. No system call if the system
     * holds none. Otherwise a Winsock code, and nothing has changed: WSAEOPNOTSUPP if the system
     * takes nothing back, WSAEINVAL in a thread other than the port's (rule 10), WSAEWOULDBLOCK if
     * the system does not let go. */
    int32_t (*recall_receives)(RIO_RQ);

    /* A number that distinguishes this open socket from every other of its time, also from one that
     * gets its descriptor's number after it was closed; 0 if the descriptor is not open. If the
     * system has no such number (Windows), it is 1 for any open socket. */
    uint64_t (*socket_identity)(rio_socket);

    /* Others may close this queue's socket. Once its descriptor's number no longer stands for
     * `identity`, nothing is done with the number: what must be passed to the system, for the first
     * time or again, ends with WSAEBADF, and so does receive_now. Callers that send without a
     * request ask socket_identity themselves. Costs a call each time on systems that reuse the
     * numbers of sockets while requests wait (Linux). */
    int32_t (*guard)(RIO_RQ, uint64_t identity);

    /* The caller makes a request queue next, for this socket, and knows that it carries a stream of
     * AF_INET, AF_INET6 or AF_UNIX: the system need not be asked. The port forgets it when its next
     * request queue is made or the system refuses that, and at once if told RIO_INVALID_SOCKET. */
    int32_t (*know_stream)(rio_port *, rio_socket);
} rio_provider;

/* Providers of this platform, best first; `count` receives their number. */
const rio_provider *const *rio_providers(uint32_t *count);

/* The layout is part of the contract (x64): checked wherever this header is compiled. */
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
