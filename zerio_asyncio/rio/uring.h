/* uring.h: what uring.c (requests, waiting), recalls.c (taking back) and errands.c (everything else
 * that a port asks of the kernel) know of each other. */
#ifndef ZERIO_URING_H
#define ZERIO_URING_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "linux.h"
#include "ring.h"

/* The two low bits of an entry's number say whose it is; the rest is a pointer to the owner. */
enum uring_owner {
    URING_RECEIVE = RIO_RECEIVES, /* a request queue */
    URING_SEND = RIO_SENDS,
    URING_ERRAND = 2,
    URING_NOBODY = 3 /* a cancellation: what it did is seen elsewhere */
};

/* How often a call waits a moment for the kernel to let go of a cancelled operation. Cancelling
 * takes no time for what io_uring polls, that is for everything we do; this is for the rest. */
#define URING_PATIENCE 10

/* A receive that so many parks in a row have taken back rests, see errands.c. The first park may be
 * the only one: most loops run once to make their connections and then for good. */
#define URING_IDLE_PARKS 2

#define URING_OWNER_BITS ((uint64_t)3)

enum uring_errand_kind { URING_BELL = 1, URING_WATCHES, URING_LISTENERS, URING_CONNECT };

/* One operation that a port keeps in the kernel beside those of request queues. */
typedef struct uring_errand {
    uint8_t kind;
    uint8_t busy;    /* the kernel has it, or will at the next submission */
    uint8_t listed;  /* waits to be handed over */
    uint8_t stopped; /* nobody wants its results any more */
    uint8_t held;    /* whoever stopped it is still looking at it */
    int descriptor;
    uint64_t key;
    struct uring_errand *next; /* of those that are listed */
} uring_errand;

/* Descriptions of a gathered send: the kernel reads them while the entry is submitted. */
typedef struct uring_gather {
    struct msghdr message;
    struct iovec pieces[RIO_GATHER_MAX];
} uring_gather;

typedef struct uring_port {
    rio_linux_port base; /* first: handles of ports lead to it */
    rio_ring ring;
    uint64_t thread; /* whose ring it is; 0: nobody's yet */
    uint8_t parked;
    uint8_t recalls; /* park takes everything back */
    uint8_t watches_stir; /* the inner epoll instance has something */
    uint8_t listeners_stir; /* so has that of the listeners, or it had */
    uint32_t sends;       /* submission entries of sends, not yet handed over */
    rio_rq *first_due, *last_due;
    uring_gather *gathers; /* one for each submission entry */
    uring_errand *first_errand;
    uring_errand **errands; /* connects by descriptor */
    uint32_t errands_length;
    uring_errand bell;
    uring_errand watches;
    uring_errand listeners;
    rio_interests watched;
    rio_interests listening;
    uint32_t calls_count; /* listeners that the kernel named and nobody has asked yet */
    uint64_t calls[RIO_ACCEPTS_MAX];
    uint32_t polite;       /* connections to come after each of which others go first */
    int64_t polite_until;  /* monotonic ns; 0: the listeners are waited for */
} uring_port;

/* The driver's part of a request queue. */
typedef struct uring_side {
    rio_rq *next, *previous; /* of those that are due */
    uint8_t due;
    uint8_t more;    /* the kernel said that the socket holds more than was received */
    uint8_t vain;    /* datagrams to come before the socket is tried for more */
    uint8_t blocked; /* a send came back without having sent: ask for room first */
    uint8_t edges;   /* its polls say ready all the time: it is told of by edges (errands.c) */
    uint8_t readable; /* with edges: one came, and nothing was found missing since */
    uint8_t edge;    /* one came while a receive was in the kernel */
    uint8_t idle;    /* parks in a row that took its receive back before anything came */
    uint8_t rests;   /* its receive waits for readiness, among the watches */
    struct msghdr message; /* a datagram's receive: must stay until it is over */
    struct iovec piece;
    struct sockaddr_in6 address;
} uring_side;

/* uring.c */
extern const rio_driver uring_driver;
/* Its receive goes to the ring; `more`: there is something to receive. */
void uring_receive(rio_rq *, int more);
/* A cleared submission entry, counted; null if the kernel takes none. */
struct io_uring_sqe *uring_next(uring_port *);
/* Its requests are to be written. */
void uring_due(rio_rq *);
void uring_not_due(rio_rq *);
static inline uring_side *uring_side_of(rio_rq *rq)
{
    return (uring_side *)rq->driver;
}
/* Submits, looks for results for a moment if `patient`, and handles them. */
void uring_turn(uring_port *, int patient);
int64_t uring_clock(void);
/* Asks for the end of one operation. */
void uring_cancel(uring_port *, uint64_t number);
static inline uring_port *uring_port_of(const rio_port *handle, int32_t *code)
{
    return (uring_port *)rio_linux_port_of(handle, &uring_driver, code);
}

/* recalls.c */
/* Ends everything that is in the kernel; 0, or a code if that cannot be done from here. */
int32_t uring_take_back(uring_port *);
int32_t uring_park(rio_port *);
void uring_detach(rio_core *, rio_rq *);
int32_t uring_recall_receive(rio_core *, rio_rq *);

/* errands.c */
void uring_errands_begin(uring_port *);
void uring_errands_end(uring_port *);
/* All that are not in the kernel and should be, after a new ring or a park. */
void uring_errands_list(uring_port *);
void uring_errands_submit(uring_port *);
void uring_errand_done(uring_port *, uring_errand *, int32_t result, uint32_t flags);
uint32_t uring_watches_take(uring_port *, rio_port_event *, uint32_t size);
/* Looks which listeners are ready, when the kernel said that one was; 1 if any is. */
int uring_listeners_look(uring_port *);
/* From now on the socket is waited for by edges; if the system has no room, all stays as it is. */
void uring_edges_begin(uring_port *, rio_rq *);
void uring_edges_end(uring_port *, const rio_rq *);
/* Nanoseconds for which others still go first; then the listeners are waited for again. */
int64_t uring_listeners_rest(uring_port *);
uint32_t uring_listeners_take(uring_port *, rio_port_event *, uint32_t size);
/* 1 if the queue's receive waits for readiness now, instead of in the ring. */
int uring_rest(uring_port *, rio_rq *);
void uring_rest_end(uring_port *, rio_rq *);
int32_t uring_watch(rio_port *, rio_socket, uint32_t mask, uint64_t key);
int32_t uring_accept(rio_port *, rio_socket, uint64_t key);
int32_t uring_accept_alone(rio_port *, rio_socket, uint32_t alone);
int32_t uring_accept_stop(rio_port *, rio_socket);
int32_t uring_connect(rio_port *, rio_socket, const void *address, uint32_t length, uint64_t key);
int32_t uring_connect_stop(rio_port *, rio_socket);

/* What an entry's poll32_events must hold: the kernel wants the halves swapped on big machines. */
static inline uint32_t uring_poll_events(uint32_t events)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return events << 16;
#else
    return events;
#endif
}

#endif
