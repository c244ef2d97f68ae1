/* uring_port.h: an io_uring port, as its parts know it: what it holds, the list of request queues
 * that are due, and its submission entries (uring_port.c). uring.c is above it. */
#ifndef ZERIO_URING_PORT_H
#define ZERIO_URING_PORT_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "linux/interests.h"
#include "linux/port.h"
#include "linux/ring.h"

/* The two low bits of an entry's number say who owns it; the rest is a pointer to the owner. */
enum uring_owner {
    URING_RECEIVE = RIO_RECEIVES, /* a request queue */
    URING_SEND = RIO_SENDS,
    URING_POLL = 2,
    URING_NOBODY = 3 /* a cancellation: its effect is seen elsewhere */
};

#define URING_OWNER_BITS ((uint64_t)3)

typedef struct uring_port uring_port;
typedef struct uring_poll uring_poll;

/* One poll that a port keeps in the kernel besides the operations of request queues. */
struct uring_poll {
    /* Handles its result. 0: do not arm it again automatically. Null: only arm it again. */
    int (*told)(uring_port *, uring_poll *, int32_t result);
    uint16_t what;   /* POLLIN, POLLOUT */
    uint8_t many;    /* it continues after a result */
    uint8_t busy;    /* the kernel has it, or will at the next submission */
    uint8_t listed;  /* waits to be submitted */
    uint8_t stopped; /* nobody wants its results any more */
    uint8_t held;    /* whoever stopped it still uses it */
    int descriptor;
    uint64_t key;
    uring_poll *next; /* in the list of listed polls */
};

/* Descriptions of a gathered send: the kernel reads them while the entry is submitted. */
typedef struct uring_gather {
    struct msghdr message;
    struct iovec pieces[RQ_GATHER_MAX];
} uring_gather;

struct uring_port {
    port_base base; /* first: handles of ports lead to it */
    ring_state ring;
    uint64_t thread; /* whose ring it is; 0: nobody's yet */
    uint8_t parked;
    uint8_t parking;        /* park takes everything back */
    uint8_t watches_stir;   /* the inner epoll instance has something */
    uint8_t listeners_stir; /* so has the listeners' instance, or it had */
    uint32_t sends;         /* submission entries of sends, not yet submitted */
    rio_rq *first_due, *last_due;
    uring_gather *gathers; /* one for each submission entry */
    uring_poll *first_poll;
    uring_poll **connects; /* by descriptor */
    uint32_t connects_length;
    uring_poll wakeup;
    uring_poll watches;
    uring_poll listeners;
    interests_set watched;
    interests_set listening;
    uint32_t calls_count; /* listeners that the kernel named and nobody has tried yet */
    uint64_t calls[PORT_LISTENERS_MAX];
    uint32_t polite;      /* for this many more connections, others go first after each */
    int64_t polite_until; /* monotonic ns; 0: the listeners are awaited */
};

/* The driver's part of a request queue. */
typedef struct uring_side {
    rio_rq *next, *previous; /* in the list of those that are due */
    uint8_t due;
    uint8_t more;     /* the kernel said that the socket holds more than was received */
    uint8_t vain;     /* datagrams to come before the socket is tried for more */
    uint8_t blocked;  /* a send came back without sending: ask for room first */
    uint8_t edges;    /* its polls always report ready: it is watched by edges */
    uint8_t readable; /* with edges: one came, and nothing was found missing since */
    uint8_t edge;     /* one came while a receive was in the kernel */
    uint8_t idle;     /* consecutive parks that took its receive back before anything came */
    uint8_t rests;    /* its receive waits for readiness, among the watches */
    struct msghdr message; /* a datagram's receive: must stay until it has ended */
    struct iovec piece;
    struct sockaddr_in6 address;
} uring_side;

static inline uring_side *uring_port_side(rio_rq *rq)
{
    return (uring_side *)rq->driver;
}

/* Its requests must be written. */
void uring_port_due(rio_rq *);
void uring_port_not_due(rio_rq *);
/* Its receive goes to the ring; `more`: there is something to receive. */
void uring_port_receive(rio_rq *, int more);
/* One system call. Number submitted, or minus an errno. */
int uring_port_enter(uring_port *, int events, uint32_t least, int64_t timeout_ns,
                     uint32_t gather_us);
/* A cleared submission entry, counted; null if the kernel takes none. */
struct io_uring_sqe *uring_port_next(uring_port *);
/* Asks for the end of one operation. */
void uring_port_cancel(uring_port *, uint64_t number);

/* What an entry's poll32_events must hold: the kernel wants the halves swapped if big-endian. */
static inline uint32_t uring_port_poll_events(uint32_t events)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return events << 16;
#else
    return events;
#endif
}

#endif
