/* linux.h: what the Linux providers share beside RIO's queues: the fork mark, the wake-up, the set
 * of watched descriptors, and the cold questions about sockets (linux.c). */
#ifndef ZERIO_LINUX_H
#define ZERIO_LINUX_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/uio.h>

#include "emulation.h"
#include "inbox.h"

/* ---------------------------------------------------------------------------- the fork mark */

/* A word that equals `era` in this process and nothing in a forked child. Null: no memory. */
const volatile uint32_t *rio_fork_mark(uint32_t *era);

/* This thread's number, that no other thread has or had. */
uint64_t rio_thread(void);

/* ------------------------------------------------------------------------------ the wake-up */

typedef struct rio_bell {
    int descriptor;             /* an eventfd */
    _Atomic(uint32_t) rung;     /* posted and not yet seen */
    _Atomic(uint32_t) sleeping; /* the port's thread is in the kernel, or about to be */
    _Atomic(uint64_t) key;
} rio_bell;

int rio_bell_make(rio_bell *);
void rio_bell_close(rio_bell *);
/* Any thread, any signal handler. Returns the number of system calls it took. */
uint32_t rio_bell_ring(rio_bell *, uint64_t key);

/* 1 if the thread may sleep: from now on every ring writes to the descriptor. */
static inline int rio_bell_may_sleep(rio_bell *bell)
{
    atomic_store(&bell->sleeping, 1);
    return atomic_load(&bell->rung) == 0;
}

static inline void rio_bell_awake(rio_bell *bell)
{
    atomic_store_explicit(&bell->sleeping, 0, memory_order_relaxed);
}

/* 1 and the event, if somebody rang since the last time. */
static inline int rio_bell_take(rio_bell *bell, rio_port_event *event)
{
    if (RIO_LIKELY(atomic_load_explicit(&bell->rung, memory_order_relaxed) == 0))
        return 0;
    atomic_exchange(&bell->rung, 0);
    *event = (rio_port_event){ .kind = RIO_PORT_POST, .key = atomic_load(&bell->key) };
    return 1;
}

/* ------------------------------------------------------------------- descriptors in an epoll */

/* What a descriptor is in an epoll instance for; also the low three bits of its tag there. Values
 * keep clear of RIO_KIND_RQ, because request queues are tagged with their handle. */
enum rio_purpose {
    RIO_FOR_NOTHING = 0,
    RIO_FOR_BELL = 1,
    RIO_FOR_ASIDE = 2,
    RIO_FOR_REST = 4,
    RIO_FOR_WATCH = 5,
    RIO_FOR_ACCEPT = 6,
    RIO_FOR_CONNECT = 7
};

#define RIO_TAG_PURPOSE 7u
#define RIO_TAG_GENERATION_SHIFT 3
#define RIO_TAG_DESCRIPTOR_SHIFT 32

typedef struct rio_interest {
    uint64_t key;
    uint32_t generation; /* of the registration that is valid now */
    uint8_t purpose;
    uint8_t mask; /* 0: a watch that was to report once, and has */
    uint16_t burst; /* of a listener that is this process's alone: connections to try for at once */
} rio_interest;

/* By descriptor number. A tag carries the generation, so that an event of a descriptor that was
 * closed (and lives on in another process) is not taken for one of its successor. */
typedef struct rio_interests {
    int epoll;
    uint32_t length;
    uint32_t generation;
    uint32_t active;
    uint32_t stale; /* events that were of no entry, since the instance was made */
    rio_interest *table;
} rio_interests;

/* Registers or changes. WSAEALREADY: this descriptor is in the instance for another purpose. */
int32_t rio_interests_put(rio_interests *, int descriptor, enum rio_purpose, uint32_t mask,
                          uint64_t key);
/* 1 if it was there and the system still knew it. */
int rio_interests_drop(rio_interests *, int descriptor, enum rio_purpose);
/* The number belongs to another file now. */
void rio_interests_forget(rio_interests *, int descriptor);
rio_interest *rio_interests_at(const rio_interests *, int descriptor, enum rio_purpose);
rio_interest *rio_interests_of(const rio_interests *, uint64_t tag);
/* The same for the tag of an event, which counts as stale if there is none. */
rio_interest *rio_interests_told(rio_interests *, uint64_t tag);
/* A fresh instance after stale events, with every entry whose file still has its number. 1 and the
 * old one, for the caller to take out of it what is no interest, and to close. */
int rio_interests_renew(rio_interests *, int *old);
/* Takes request queues along; `events` says how each is registered, 0: not at all. */
void rio_linux_move(const rio_core *, int old, int fresh, uint32_t (*events)(rio_rq *));
void rio_interests_free(rio_interests *);

/* 1 if `mask` is one that watch may be asked for. */
static inline int rio_watch_valid(uint32_t mask)
{
    return (mask & ~(RIO_WATCH_READ | RIO_WATCH_WRITE | RIO_WATCH_ONCE)) == 0 &&
           mask != RIO_WATCH_ONCE;
}

/* An epoll event of a watch as an event of the port; returns 1 if it is one and there is room. */
uint32_t rio_watch_event(rio_interests *, uint64_t tag, uint32_t epoll_events,
                         rio_port_event *, uint32_t room);

/* --------------------------------------------------------------------------------- the port */

/* Listeners that are looked at in one wait, and connections taken from one that nobody shares:
 * about what the transports of a tick can be made of before those that are there wait too long. */
#define RIO_ACCEPTS_MAX 16
#define RIO_BURST_MAX 16

/* Addresses that are kept: those of a wait, and as many of later ones as rio.h promises. */
#define RIO_PEERS (RIO_PEERS_KEPT + RIO_ACCEPTS_MAX * RIO_BURST_MAX)

/* What the ports of both Linux providers have. First member of theirs. */
typedef struct rio_linux_port {
    rio_core core; /* first: handles of ports lead to a core */
    rio_bell bell;
    rio_inbox inbox;
    uint32_t peer; /* counts on, around the ring of those that were told last */
    rio_peer peers[RIO_PEERS];
} rio_linux_port;

/* As rio_core_of. */
static inline rio_linux_port *rio_linux_port_of(const rio_port *handle, const rio_driver *driver,
                                                int32_t *code)
{
    return (rio_linux_port *)rio_core_of(handle, driver, code);
}

/* A zeroed port of `bytes` with its bell; null and rio_last_error. */
rio_linux_port *rio_linux_port_begin(const rio_driver *, const rio_port_options *, size_t bytes);
/* Everything but the memory and what the provider added. */
void rio_linux_port_end(rio_linux_port *);
/* Events that are there without asking the system. */
uint32_t rio_linux_take(rio_linux_port *, rio_port_event *, uint32_t size);

/* 1 if rio_linux_take would find something. */
static inline uint32_t rio_linux_ready(const rio_linux_port *port)
{
    return port->core.first_packet != NULL || port->inbox.head != port->inbox.tail ||
           atomic_load_explicit(&port->bell.rung, memory_order_relaxed) != 0;
}

/* Entries of the port table that are the same for both. */
int32_t rio_linux_pending(rio_port *);
int32_t rio_linux_post(rio_port *, uint64_t key);
int32_t rio_linux_retire(rio_port *, rio_socket);
int32_t rio_linux_join(rio_port *, rio_socket);
uintptr_t rio_linux_native(rio_port *);

/* ------------------------------------------------------------------------------ the sockets */

/* 0 and whether it carries bytes or datagrams; WSAENOTSOCK, WSAEOPNOTSUPP. */
int32_t rio_socket_kind(rio_socket, uint8_t *stream);
/* Bytes of the system's address behind a RIO_SOCKADDR_INET; 0 for null. */
uint32_t rio_remote_length(const void *remote);
int rio_socket_option(rio_socket, int option, int *value);
/* The driver's `now`. */
int64_t rio_linux_now(rio_rq *, enum rio_direction, char *memory, uint32_t length);
/* The driver's `datagrams_now`. */
int64_t rio_linux_datagrams_now(rio_rq *, const rio_datagram *, uint32_t count);
/* Moves what the socket gives or takes now, for the first waiting requests of its direction, of
 * which there is one at least and none in the kernel. 0: it gives or takes nothing more now. */
int rio_linux_receive_datagrams(rio_rq *);
int rio_linux_send_datagrams(rio_rq *);
/* The code of a send that failed: EPIPE has two meanings. */
int32_t rio_send_code(const rio_rq *, int error);
/* Describes the first waiting sends of a stream, at most RIO_GATHER_MAX; returns how many. */
uint32_t rio_gather(const rio_lane *, struct iovec *pieces, size_t *total_bytes);
/* Entries of the provider table. */
int64_t rio_linux_socket_send(rio_socket, const void *memory, uint32_t length);
int64_t rio_linux_socket_receive(rio_socket, void *memory, uint32_t length);
uint64_t rio_linux_socket_identity(rio_socket);
/* 1 if a guarded queue's socket was closed. */
int rio_linux_closed_behind(const rio_rq *);
/* The same; then what waits and the system has not got has failed. */
int rio_linux_gives_up(rio_rq *);
static inline int rio_linux_has_lost(const rio_rq *rq)
{
    return RIO_UNLIKELY(rq->identity != 0) && rio_linux_closed_behind(rq);
}
static inline int rio_linux_is_gone(rio_rq *rq)
{
    return RIO_UNLIKELY(rq->identity != 0) && rio_linux_gives_up(rq);
}
int32_t rio_connect_check(rio_socket, const void *address, uint32_t length);
rio_port_event rio_connect_event(rio_socket, int error, uint64_t key);

/* ---------------------------------------------------------------------------- the listeners */

/* 0 if it listens; then it does not block any more. */
int32_t rio_listener_check(rio_socket);
/* `descriptor` negative: accepting ended with `error`. */
rio_port_event rio_accept_event(int descriptor, int error, uint64_t key);
/* One connection of a listener that is ready, by its entry's tag; returns 1 if it made an event. */
uint32_t rio_linux_accept(rio_linux_port *, rio_interests *, uint64_t tag, rio_port_event *,
                          uint32_t room);
/* 1 if there is such a listener. */
int rio_linux_accept_alone(rio_interests *, rio_socket listener, uint32_t alone);

/* ------------------------------------------------------------------------------ the tables */

/* What is alike in the tables of both providers. */
#define RIO_LINUX_PORT_ENTRIES                                                                   \
    .size = sizeof(rio_port_table),                                                              \
    .post = rio_linux_post,                                                                      \
    .retire = rio_linux_retire,                                                                  \
    .statistics = rio_emulation_statistics,                                                      \
    .join = rio_linux_join,                                                                      \
    .native = rio_linux_native

#define RIO_LINUX_ENTRIES                                                                        \
    .send_memory = rio_emulation_send_memory,                                                    \
    .receive_memory = rio_emulation_receive_memory,                                              \
    .send_now = rio_emulation_send_now,                                                          \
    .receive_now = rio_emulation_receive_now,                                                    \
    .socket_send = rio_linux_socket_send,                                                        \
    .socket_receive = rio_linux_socket_receive,                                                  \
    .make_socket = rio_any_socket,                                                               \
    .send_datagrams_now = rio_emulation_send_datagrams_now,                                      \
    .recall_receives = rio_emulation_recall_receives,                                            \
    .socket_identity = rio_linux_socket_identity,                                                \
    .guard = rio_emulation_guard

#endif
