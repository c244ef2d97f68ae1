/* iocp.h: what the files of the Windows providers know of each other: iocp.c (the port),
 * timers.c (its waits), overlapped.c (bytes over WSARecv and WSASend), afd.c (readiness),
 * connections.c. */
#ifndef ZERIO_IOCP_H
#define ZERIO_IOCP_H

#include "sdk.h"

#include <string.h>

#include "emulation.h"
#include "inbox.h"

typedef struct iocp_port iocp_port;
typedef struct iocp_operation iocp_operation;

/* One overlapped operation. Its memory belongs to the system until `done` was called, which happens
 * exactly once for each that began, in the port's thread; `code` is 0 or a Winsock code. */
struct iocp_operation {
    OVERLAPPED overlapped; /* first: packets carry its address */
    void (*done)(iocp_port *, iocp_operation *, int32_t code, uint32_t bytes);
    HANDLE file; /* the socket, or AFD */
};

/* What tells our operations from the caller's own on the same port: they name this offset in their
 * file, which sockets ignore and no file has, for it is negative. */
#define IOCP_OURS 0xf5a5f5a5u

/* The key of every file; other keys are of packets that somebody posted, with addresses that need
 * not be of memory any more. The bell's packet has no operation. */
#define IOCP_KEY ((ULONG_PTR)0x52494F)

typedef struct iocp_accepts iocp_accepts;
typedef struct iocp_connect iocp_connect;
typedef struct iocp_watch iocp_watch;

/* The address of an accepted connection: its event's until it was told, then the port's. */
typedef struct iocp_peer {
    rio_peer peer; /* first: events carry its address */
    struct iocp_peer *next;
} iocp_peer;

#define IOCP_WATCH_BUCKETS 256

/* What ends a sleep in time: opened by the first one. */
typedef struct iocp_timer {
    int way; /* timers.c */
    HANDLE object, packet;
    void *associate, *cancel;
} iocp_timer;

struct iocp_port {
    rio_core core; /* first: handles of ports lead to it */
    HANDLE completions;
    rio_inbox inbox;
    rio_atomic32 rung;     /* posted and not yet seen */
    rio_atomic32 sleeping; /* the port's thread is in the kernel, or about to be */
    rio_atomic64 rung_key;
    SOCKET *joined; /* sockets that were associated with the port, by number, open addressing */
    uint32_t joined_length, joined_count;
    iocp_accepts *accepts;
    iocp_connect *connects;
    iocp_peer *first_told, *last_told;
    uint32_t told, told_last; /* peers in this list, and how many of them are the last wait's */
    iocp_watch *watches[IOCP_WATCH_BUCKETS];
    iocp_watch *to_arm;
    HANDLE afd;
    iocp_timer timer;
    struct winsock_results *registered; /* winsock.c's; null: another provider's port */
    /* Sockets for AcceptEx, where plain ones are not what the provider likes best; or null. */
    SOCKET (*make_socket)(int family, int type, int protocol);
    void (*before_sleep)(iocp_port *); /* or null */
};

/* ------------------------------------------------------------------------------------ iocp.c */

/* As rio_core_of. */
static inline iocp_port *iocp_port_of(const rio_port *handle, const rio_driver *driver,
                                      int32_t *code)
{
    return (iocp_port *)rio_core_of(handle, driver, code);
}

rio_core *iocp_open(const rio_driver *, const rio_port_options *);
void iocp_shut(rio_core *);

/* The socket's operations report to this port from now on; a socket has one port for its life.
 * 0 or a code. */
int32_t iocp_join(iocp_port *, SOCKET);

/* To be called when the system has accepted an operation: one packet will come. */
static inline void iocp_began(iocp_port *port)
{
    rio_count(&port->core.counts.in_kernel, 1);
    rio_count(&port->core.counts.submissions, 1);
}
/* Cleared and addressed, ready to be handed over. */
static inline OVERLAPPED *iocp_fresh(iocp_operation *operation, HANDLE file)
{
    memset(&operation->overlapped, 0, sizeof operation->overlapped);
    operation->overlapped.Offset = IOCP_OURS;
    operation->overlapped.OffsetHigh = IOCP_OURS;
    operation->file = file;
    return &operation->overlapped;
}
void iocp_cancel(iocp_operation *);

/* Handles the packets that are there, after a sleep of so many ms at most; how many. */
uint32_t iocp_turn(iocp_port *, DWORD ms);
/* What the port table has for every driver. */
int32_t iocp_wait(iocp_port *, rio_port_event *, uint32_t size, int64_t timeout_ns);
int32_t iocp_pending(rio_port *);
int32_t iocp_post(rio_port *, uint64_t key);
int32_t iocp_retire(rio_port *, rio_socket);
int32_t iocp_park(rio_port *);
int32_t iocp_join_foreign(rio_port *, rio_socket file);
uintptr_t iocp_native(rio_port *);

/* The Winsock code of a Win32 error that an operation on a socket may end with. */
int32_t iocp_code(DWORD error);
/* 0 and whether it carries bytes or datagrams, and its family; WSAENOTSOCK, WSAEOPNOTSUPP. */
int32_t iocp_socket_kind(rio_socket, uint8_t *stream, int *family);

/* ---------------------------------------------------------------------------------- timers.c */

/* iocp_turn after a sleep of so many ns at most, for ever if negative. May end a little early. */
uint32_t iocp_turn_within(iocp_port *, int64_t ns);
void iocp_timer_close(iocp_timer *);

/* -------------------------------------------------------------------------------- overlapped.c */

/* The driver's part of a request queue. */
typedef struct overlapped_side {
    rio_rq *rq;
    iocp_operation operations[2]; /* by enum rio_direction */
    SOCKADDR_STORAGE address;     /* of the datagram that is being received */
    INT address_length;
    DWORD flags;
} overlapped_side;

extern const rio_driver overlapped_driver;

/* What neither Windows provider has of the calls without a request. They refuse. */
int64_t overlapped_no_receive_now(RIO_RQ, void *, uint32_t);
int64_t overlapped_no_datagrams_now(RIO_RQ, const rio_datagram *, uint32_t);
int64_t overlapped_no_socket_send(rio_socket, const void *, uint32_t);
int64_t overlapped_no_socket_receive(rio_socket, void *, uint32_t);
uint64_t overlapped_socket_identity(rio_socket);

/* ----------------------------------------------------------------------------- connections.c */

int32_t iocp_accept(rio_port *, rio_socket, uint64_t key);
int32_t iocp_accept_stop(rio_port *, rio_socket);
int32_t iocp_accept_alone(rio_port *, rio_socket, uint32_t alone);
int32_t iocp_connect_start(rio_port *, rio_socket, const void *, uint32_t length, uint64_t key);
int32_t iocp_connect_stop(rio_port *, rio_socket);
/* The addresses among events that are told now stay for a while; before that, the oldest go. */
void iocp_peers_told(iocp_port *, const rio_port_event *, uint32_t count);
void iocp_peers_forget(iocp_port *, uint32_t keep);
/* Asks for the end of everything; what is left ends by its packets. */
void iocp_connections_end(iocp_port *);

/* ------------------------------------------------------------------------------------- afd.c */

int32_t iocp_watch_change(rio_port *, rio_socket, uint32_t mask, uint64_t key);
/* Hands over the polls of all watches that have none. */
void iocp_watches_arm(iocp_port *);
void iocp_watches_end(iocp_port *);

/* ---------------------------------------------------------------------------------- the tables */

/* What is alike in the tables of both providers. */
#define IOCP_PORT_ENTRIES                                                                        \
    .size = sizeof(rio_port_table),                                                              \
    .pending = iocp_pending,                                                                     \
    .post = iocp_post,                                                                           \
    .watch = iocp_watch_change,                                                                  \
    .accept = iocp_accept,                                                                       \
    .accept_stop = iocp_accept_stop,                                                             \
    .connect = iocp_connect_start,                                                               \
    .connect_stop = iocp_connect_stop,                                                           \
    .retire = iocp_retire,                                                                       \
    .park = iocp_park,                                                                           \
    .statistics = rio_emulation_statistics,                                                      \
    .join = iocp_join_foreign,                                                                   \
    .native = iocp_native,                                                                       \
    .accept_alone = iocp_accept_alone

#define IOCP_NOTHING_NOW                                                                         \
    .receive_now = overlapped_no_receive_now,                                                    \
    .send_datagrams_now = overlapped_no_datagrams_now,                                           \
    .socket_send = overlapped_no_socket_send,                                                    \
    .socket_receive = overlapped_no_socket_receive,                                              \
    .socket_identity = overlapped_socket_identity,                                               \
    .guard = rio_emulation_guard

#endif
