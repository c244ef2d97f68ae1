/* rq.h: request queues: requests that are not over, and what a driver does with them (rq.c). */
#ifndef ZERIO_RQ_H
#define ZERIO_RQ_H

#include <assert.h>

#include "table/cq.h"
#include "table/errors.h"

/* Bytes that one system call is asked to move. Linux silently cuts at 2 GiB less a page; below that
 * a short result always means "no more now". Longer requests continue where it stopped. */
#define RQ_TRANSFER_MAX (1u << 30)

/* Requests that go out together. A transport's write rarely has 16 pieces at once, and 16
 * descriptions (256 bytes) are four cache lines. */
#define RQ_GATHER_MAX 16

/* Requests in one direction of one request queue. Windows sets no limit but its quota; this one
 * keeps ring indexes in 32 bits and keeps a wrong argument from taking all memory. */
#define RQ_LANE_MAX (1u << 20)

/* Flag of a request: it was taken back while the system had it or one before it. */
#define RQ_RECALLED 0x80000000u

typedef struct rio_request {
    char *memory;
    uint64_t context;
    uint32_t length; /* bytes asked */
    uint32_t done;   /* bytes moved so far */
    uint32_t flags;  /* RIO_MSG_DONT_NOTIFY, RIO_MSG_WAITALL, RQ_RECALLED; the rest of the upper
                        half is the driver's */
    int32_t status;  /* the driver's */
} rio_request;

/* What a datagram has in addition to its bytes; null if nobody asked. */
typedef struct rio_envelope {
    char *remote; /* RIO_SOCKADDR_INET: its destination or source */
    char *flags;  /* uint32_t: the system's message flags of a received one */
} rio_envelope;

/* The registrations that a request uses; null if it uses none. Only request queues whose driver
 * passes on registered memory as such (`leases`) keep them. */
typedef struct rio_lease {
    void *data, *remote, *flags;
} rio_lease;

/* One direction of a request queue: a ring of requests, cut by four running counters.
 *
 *      head                  posted             tail
 *       | driver's | waiting   |   deferred      |
 *
 * The driver holds the first `flight` of them. Results are made at head, in order (rule 2).
 * `outstanding` also counts what is complete and not yet dequeued (rule 5). */
typedef struct rio_lane {
    rio_request *requests;
    rio_cq *cq;
    uint32_t mask;
    uint32_t head;
    uint32_t posted;
    uint32_t tail;
    uint32_t flight;
    uint32_t outstanding;
    uint32_t limit;
    int32_t refused; /* the code with which the system has refused to commit: the lane is ended */
    rio_envelope *envelopes; /* datagram sockets only */
    rio_lease *leases;       /* request queues with `leases` only */
} rio_lane;

struct rio_rq {
    rio_hub *hub;
    void *socket_context;
    rio_socket socket;
    uint8_t stream;  /* bytes, not datagrams */
    uint8_t retired; /* 1: its handle is closed; 2: and the driver had its chance to let go */
    uint8_t leases;  /* set by attach: requests hold the registrations they use */
    uint8_t filler;
    int32_t broken;    /* the code with which the connection died; see rq_received */
    rio_lane lanes[2]; /* by enum rio_direction */
    RIO_RQ handle;
    rio_rq *next; /* in the hub's table by descriptor */
    uint64_t identity; /* of a socket that others may close (rio.h, guard); 0: nobody does */
    _Alignas(16) unsigned char driver[];
};

/* Entries of RIO's table. The first must know which table it is in. */
RIO_RQ rq_create(const rio_driver *, rio_socket, uint32_t max_receives,
                 uint32_t max_receive_buffers, uint32_t max_sends, uint32_t max_send_buffers,
                 RIO_CQ, RIO_CQ, void *context);
int32_t RIO_CALL rq_resize(RIO_RQ, uint32_t, uint32_t);

rio_rq *rq_find(const rio_hub *, rio_socket);
void rq_retire(rio_hub *, rio_socket);
/* A retired queue: aborts what the driver does not hold; frees it if nothing is outstanding. The
 * queue must not be touched after this. */
void rq_settle(rio_rq *);
/* Closes the port's handle, retires every request queue, leaves the completion queues. A second
 * call does nothing. */
void rq_end_all(rio_hub *);
/* The lane gets its memory, before its first request; 0 if there is none. */
int rq_begin(const rio_rq *, rio_lane *);
/* A request no longer uses its registrations. */
void rq_end_lease(const rio_driver *, const rio_lease *);

/* -------------------------------------------------------------------------- what drivers call */

static inline uint32_t rq_waiting(const rio_lane *lane)
{
    return lane->posted - lane->head - lane->flight;
}

static inline rio_request *rq_request(const rio_lane *lane, uint32_t ahead)
{
    return &lane->requests[(lane->head + ahead) & lane->mask];
}

static inline rio_lease *rq_lease(const rio_lane *lane, uint32_t ahead)
{
    return &lane->leases[(lane->head + ahead) & lane->mask];
}

static inline rio_envelope *rq_envelope(const rio_lane *lane, uint32_t ahead)
{
    return &lane->envelopes[(lane->head + ahead) & lane->mask];
}

/* The request at the head of the lane is over: its result goes to the completion queue. */
static inline void rq_complete(rio_rq *rq, enum rio_direction direction, int32_t status)
{
    rio_lane *lane = &rq->lanes[direction];
    rio_request *request = rq_request(lane, 0);
    rio_cq *cq = lane->cq;

    assert(lane->head != lane->tail && lane->outstanding > 0);
    assert(status != 0 || request->done <= request->length);
    if (RIO_UNLIKELY(lane->leases != NULL))
        rq_end_lease(rq->hub->driver, rq_lease(lane, 0));
    lane->head++;
    counts_add(&rq->hub->counts.completions, 1);
    if (RIO_UNLIKELY(cq->closed)) {
        lane->outstanding--; /* lost, as Microsoft documents; nobody will dequeue it */
        return;
    }
    assert(cq->tail - cq->head < cq->reserved);
    rio_entry *entry = &cq->entries[cq->tail++ & cq->mask];
    entry->status = status;
    entry->bytes = request->done;
    entry->context = request->context;
    entry->owner = (uintptr_t)rq | (uintptr_t)direction;
    if (request->flags & RIO_MSG_DONT_NOTIFY) {
        entry->owner |= CQ_OWNER_QUIET;
        return;
    }
    cq->loud++;
    rq->hub->loud++;
    if (RIO_UNLIKELY(cq->armed))
        cq_fire(cq);
}

/* Makes the results of the first receives that were taken back and that the system lacks. */
static inline void rq_recall(rio_rq *rq)
{
    const rio_lane *lane = &rq->lanes[RIO_RECEIVES];
    while (lane->flight == 0 && lane->head != lane->tail &&
           (rq_request(lane, 0)->flags & RQ_RECALLED) != 0)
        rq_complete(rq, RIO_RECEIVES, rq_request(lane, 0)->done != 0 ? 0 : RIO_OPERATION_ABORTED);
}

/* The head receive of a stream got `bytes` (0: the end). Linux reports a reset only once, to
 * whoever calls first; after that, receives say "end of stream". Rule 8 does not allow that, so
 * `broken` remembers the death of a connection, which is then reported again. */
static inline void rq_received(rio_rq *rq, uint32_t bytes)
{
    rio_lane *lane = &rq->lanes[RIO_RECEIVES];
    rio_request *request = rq_request(lane, 0);
    assert(bytes <= request->length - request->done);
    counts_add(&rq->hub->counts.bytes_received, bytes);
    request->done += bytes;
    if (RIO_UNLIKELY(bytes != 0 && (request->flags & RIO_MSG_WAITALL) &&
                     request->done < request->length))
        return;
    rq_complete(rq, RIO_RECEIVES, bytes == 0 ? rq->broken : 0);
}

/* The head receive of a stream only asks whether there is something to receive. */
static inline int rq_probes(const rio_request *request)
{
    return RIO_UNLIKELY(request->length == 0);
}

/* `bytes` of a stream's waiting sends went out; completes those that are now whole. */
static inline void rq_sent(rio_rq *rq, size_t bytes)
{
    rio_lane *lane = &rq->lanes[RIO_SENDS];
    counts_add(&rq->hub->counts.bytes_sent, bytes);
    while (bytes != 0) {
        assert(lane->head != lane->posted);
        rio_request *request = rq_request(lane, 0);
        uint32_t rest = request->length - request->done;
        if (bytes < rest) {
            request->done += (uint32_t)bytes;
            return;
        }
        request->done = request->length;
        bytes -= rest;
        rq_complete(rq, RIO_SENDS, 0);
    }
}

/* The head request of a direction ended with an error. */
static inline void rq_failed(rio_rq *rq, enum rio_direction direction, int32_t code)
{
    if (rq->stream && errors_end_a_stream(code) && rq->broken == 0)
        rq->broken = code;
    rq_complete(rq, direction, code);
}

/* The head receive of a datagram socket got one. `address` may be null. */
void rq_datagram_received(rio_rq *, uint32_t bytes, const void *address, uint32_t length,
                          uint32_t flags, int truncated);
void rq_datagram_sent(rio_rq *, uint32_t bytes);

#endif
