/* emulation.h: RIO's queues in user space, and what a driver under them must do.
 *
 * A provider that is not Windows' own consists of this emulation (everything of RIO's table that
 * is no system call: handles, buffers, queues, capacity, notification, errors) and of a driver (how
 * bytes move). epoll.c and uring.c are drivers. The page in emulation.c tells the model. */
#ifndef ZERIO_EMULATION_H
#define ZERIO_EMULATION_H

#include <assert.h>
#include <stdint.h>

#include "handles.h"
#include "rio.h"
#include "spin.h"

typedef struct rio_core rio_core;
typedef struct rio_cq rio_cq;
typedef struct rio_rq rio_rq;

enum rio_direction { RIO_RECEIVES = 0, RIO_SENDS = 1 };

/* Bytes that one system call is asked to move. Linux cuts at 2 GiB less a page without telling;
 * below that a short result always means "no more now". Longer requests go on where it stopped. */
#define RIO_TRANSFER_MAX (1u << 30)

/* Requests that go out together. 16 pieces of a transport's write are rarely there at once, and
 * 16 descriptions (256 bytes) are four cache lines. */
#define RIO_GATHER_MAX 16

/* Requests in one direction of one request queue. Windows sets no number but its quota; this one
 * keeps ring indexes in 32 bits and a mistaken argument from taking all memory. */
#define RIO_LANE_MAX (1u << 20)

/* Of a request: it was taken back while the system had it or one before it. */
#define RIO_RECALLED 0x80000000u

typedef struct rio_request {
    char *memory;
    uint64_t context;
    uint32_t length; /* bytes asked */
    uint32_t done;   /* bytes moved so far */
    uint32_t flags;  /* RIO_MSG_DONT_NOTIFY, RIO_MSG_WAITALL, RIO_RECALLED; the upper half but for
                        that is the driver's */
    int32_t status;  /* the driver's */
} rio_request;

/* What a datagram has beside its bytes; null where nobody asked. */
typedef struct rio_envelope {
    char *remote; /* RIO_SOCKADDR_INET: whom it is for, or whom it came from */
    char *flags;  /* uint32_t: the system's message flags of a received one */
} rio_envelope;

/* The registrations that a request uses; null where it uses none. Only request queues whose driver
 * hands registered memory on as such (`leases`) keep them. */
typedef struct rio_lease {
    void *data, *remote, *flags;
} rio_lease;

/* One direction of a request queue: a ring of requests, cut by four running counters.
 *
 *      head                  posted             tail
 *       | driver's | waiting   |   deferred      |
 *
 * The driver holds the `flight` first ones. Results are made at head, in order (rule 2).
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
    uint32_t filler;
    rio_envelope *envelopes; /* datagram sockets only */
    rio_lease *leases;       /* request queues with `leases` only */
} rio_lane;

struct rio_rq {
    rio_core *core;
    void *socket_context;
    rio_socket socket;
    uint8_t stream;  /* bytes, not datagrams */
    uint8_t retired; /* 1: its handle is closed; 2: and the driver had its chance to let go */
    uint8_t leases;  /* set by attach: requests hold the registrations they use */
    uint8_t filler;
    int32_t broken;    /* the code with which the connection died; see rio_received */
    rio_lane lanes[2]; /* by enum rio_direction */
    RIO_RQ handle;
    rio_rq *next; /* in the core's table by descriptor */
    uint64_t identity; /* of a socket that others may close (rio.h, guard); 0: nobody does */
    _Alignas(16) unsigned char driver[];
};

/* A result that waits. `owner` is the request queue, with the direction and the quiet bit in the
 * low bits that its alignment leaves. */
typedef struct rio_entry {
    int32_t status;
    uint32_t bytes;
    uint64_t context;
    uintptr_t owner;
} rio_entry;

#define RIO_OWNER_SENDS ((uintptr_t)1)
#define RIO_OWNER_QUIET ((uintptr_t)2)
#define RIO_OWNER_BITS ((uintptr_t)3)

struct rio_cq {
    rio_entry *ring; /* as long as what is reserved, not as long as `size` allows */
    uint32_t mask;
    uint32_t head;
    uint32_t tail;
    uint32_t loud;    /* waiting results that may notify */
    uint8_t armed;    /* RIONotify was called and has not fired */
    uint8_t notifies; /* it has a port to tell; otherwise it is polled */
    uint8_t closed;   /* only kept for the request queues that still point here */
    uint8_t holds;    /* counts in the core's `holders` (private ports) */
    uint8_t announced; /* its notification waits to be taken by the port */
    rio_core *core;
    uint64_t key;
    void *overlapped;
    rio_cq *next_packet;
    rio_cq *previous, *next; /* in the core's list */
    uint32_t size;           /* entries promised to the caller */
    uint32_t reserved;       /* entries promised to request queues */
    uint32_t attached;       /* lanes that point here */
    RIO_CQ handle;
};

/* What moves the bytes. All calls come from the port's thread; none may call back. */
typedef struct rio_driver {
    uint32_t rq_bytes; /* the driver's own part of a request queue, zeroed */

    /* A port for queues that are only polled, and its end. Null: rio_last_error. */
    rio_core *(*open)(const rio_port_options *);
    void (*shut)(rio_core *);

    /* The socket joins; the lanes' limits are set. Sets rq->stream. 0 or a code. */
    int32_t (*attach)(rio_core *, rio_rq *);

    /* The socket leaves: lets go of it and, where that is possible at once, of its requests. */
    void (*detach)(rio_core *, rio_rq *);

    /* Requests wait in this direction. */
    void (*start)(rio_core *, rio_rq *, enum rio_direction);

    /* Takes the receives in the system back, of which there are some: 0 and none is there any more,
     * or their results follow; or a code. Null: there never are any. */
    int32_t (*recall)(rio_core *, rio_rq *);

    /* One system call on a stream whose direction is idle: bytes, or minus a code. */
    int64_t (*now)(rio_rq *, enum rio_direction, char *memory, uint32_t length);

    /* The same for datagrams, one at least: how many went out, or minus a code. */
    int64_t (*datagrams_now)(rio_rq *, const rio_datagram *, uint32_t count);

    /* Whatever can be done without sleeping (rule 6: queues that are only polled). */
    void (*progress)(rio_core *);

    /* A request begins to use a registration, or its result is made; null where no request queue
     * has `leases`. */
    void (*hold)(void *registration);
    void (*let_go)(void *registration);
} rio_driver;

/* What every port of an emulated provider has. First member of the driver's port. */
struct rio_core {
    const rio_driver *driver;
    rio_port *handle;              /* null: a private port */
    const volatile uint32_t *mark; /* equals era in the process that made the port (rule 14) */
    uint32_t era;
    uint32_t holders; /* private port: completion queues that keep it */
    rio_cq *first_packet, *last_packet;
    rio_cq *queues;
    rio_rq **table; /* living request queues by descriptor, chained */
    uint32_t table_mask;
    uint32_t table_count;
    uint32_t loud; /* results that somebody may be waiting for, so far */
    rio_spin spin;
    rio_port_statistics counts;
};

/* ------------------------------------------------------------------ offered to the providers */

/* The thread's last refusal (registry.c). */
int32_t rio_refuse(int32_t code); /* remembers the code; returns 0, which is FALSE */
rio_socket rio_any_socket(int32_t family, int32_t type, int32_t protocol); /* refuses */

void rio_core_begin(rio_core *, const rio_driver *, const volatile uint32_t *mark, uint32_t era);
/* The core of a port's handle, if it is this driver's (null: any) and this process's; else the
 * code. */
rio_core *rio_core_of(const rio_port *, const rio_driver *, int32_t *code);
/* Gives it a handle; where there is none to be had, it is shut. Null stays null. */
rio_port *rio_core_publish(rio_core *);
/* Closes the handle, retires every request queue, takes leave of the completion queues. Again does
 * nothing. */
void rio_core_end(rio_core *);
uint32_t rio_core_packets(rio_core *, rio_port_event *events, uint32_t size);
void rio_core_retire(rio_core *, rio_socket);
rio_rq *rio_core_find(const rio_core *, rio_socket);

/* A retired queue: aborts what the driver does not hold; frees it when nothing is outstanding. The
 * queue must not be touched after this. */
void rio_rq_settle(rio_rq *);

void rio_cq_fire(rio_cq *);
void rio_lease_end(const rio_driver *, const rio_lease *);
int rio_cq_reserve(rio_cq *, uint32_t more);
void rio_cq_release(rio_cq *, uint32_t fewer);
void rio_cq_drop_lane(rio_cq *);

/* The table's entries. The first two need to know whose table they stand in. */
RIO_RQ rio_emulation_create_request_queue(const rio_driver *, rio_socket, uint32_t max_receives,
                                          uint32_t max_receive_buffers, uint32_t max_sends,
                                          uint32_t max_send_buffers, RIO_CQ, RIO_CQ, void *context);
RIO_CQ rio_emulation_create_completion_queue(const rio_driver *, uint32_t size,
                                             RIO_NOTIFICATION_COMPLETION *);
int32_t RIO_CALL rio_emulation_receive(RIO_RQ, RIO_BUF *, uint32_t, uint32_t, void *);
int32_t RIO_CALL rio_emulation_send(RIO_RQ, RIO_BUF *, uint32_t, uint32_t, void *);
int32_t RIO_CALL rio_emulation_receive_ex(RIO_RQ, RIO_BUF *, uint32_t, RIO_BUF *, RIO_BUF *,
                                          RIO_BUF *, RIO_BUF *, uint32_t, void *);
int32_t RIO_CALL rio_emulation_send_ex(RIO_RQ, RIO_BUF *, uint32_t, RIO_BUF *, RIO_BUF *,
                                       RIO_BUF *, RIO_BUF *, uint32_t, void *);
int32_t rio_emulation_send_memory(RIO_RQ, const void *, uint32_t, uint32_t, void *);
int32_t rio_emulation_receive_memory(RIO_RQ, void *, uint32_t, uint32_t, void *);
int32_t rio_emulation_statistics(rio_port *, rio_port_statistics *);
int64_t rio_emulation_send_now(RIO_RQ, const void *, uint32_t);
int64_t rio_emulation_receive_now(RIO_RQ, void *, uint32_t);
int64_t rio_emulation_send_datagrams_now(RIO_RQ, const rio_datagram *, uint32_t);
int32_t rio_emulation_recall_receives(RIO_RQ);
int32_t rio_emulation_guard(RIO_RQ, uint64_t identity);
uint32_t RIO_CALL rio_emulation_dequeue(RIO_CQ, RIORESULT *, uint32_t);
int32_t RIO_CALL rio_emulation_notify(RIO_CQ);
void RIO_CALL rio_emulation_close_completion_queue(RIO_CQ);
int32_t RIO_CALL rio_emulation_resize_completion_queue(RIO_CQ, uint32_t);
int32_t RIO_CALL rio_emulation_resize_request_queue(RIO_RQ, uint32_t, uint32_t);
RIO_BUFFERID RIO_CALL rio_emulation_register_buffer(char *, uint32_t);
void RIO_CALL rio_emulation_deregister_buffer(RIO_BUFFERID);

/* The two entries that must know whose table they stand in, for a provider's own driver. */
#define RIO_EMULATION_CREATORS(prefix, driver)                                                   \
    static RIO_CQ RIO_CALL prefix##_create_completion_queue(                                     \
        uint32_t size, RIO_NOTIFICATION_COMPLETION *notification)                                \
    {                                                                                            \
        return rio_emulation_create_completion_queue(driver, size, notification);                \
    }                                                                                            \
    static RIO_RQ RIO_CALL prefix##_create_request_queue(                                        \
        rio_socket socket, uint32_t receives, uint32_t receive_buffers, uint32_t sends,          \
        uint32_t send_buffers, RIO_CQ receive_cq, RIO_CQ send_cq, void *context)                 \
    {                                                                                            \
        return rio_emulation_create_request_queue(driver, socket, receives, receive_buffers,     \
                                                  sends, send_buffers, receive_cq, send_cq,      \
                                                  context);                                      \
    }

/* The 13 entries in Microsoft's order. */
#define RIO_EMULATION_TABLE(create_completion_queue, create_request_queue)                       \
    {                                                                                            \
        sizeof(RIO_EXTENSION_FUNCTION_TABLE), rio_emulation_receive, rio_emulation_receive_ex,   \
            rio_emulation_send, rio_emulation_send_ex, rio_emulation_close_completion_queue,     \
            create_completion_queue, create_request_queue, rio_emulation_dequeue,                \
            rio_emulation_deregister_buffer, rio_emulation_notify,                               \
            rio_emulation_register_buffer, rio_emulation_resize_completion_queue,                \
            rio_emulation_resize_request_queue                                                   \
    }

/* ------------------------------------------------------------------------- what drivers call */

static inline int rio_core_ours(const rio_core *core)
{
    return RIO_LIKELY(*core->mark == core->era);
}

static inline uint32_t rio_lane_waiting(const rio_lane *lane)
{
    return lane->posted - lane->head - lane->flight;
}

static inline rio_request *rio_lane_request(const rio_lane *lane, uint32_t ahead)
{
    return &lane->requests[(lane->head + ahead) & lane->mask];
}

static inline rio_lease *rio_lane_lease(const rio_lane *lane, uint32_t ahead)
{
    return &lane->leases[(lane->head + ahead) & lane->mask];
}

static inline rio_envelope *rio_lane_envelope(const rio_lane *lane, uint32_t ahead)
{
    return &lane->envelopes[(lane->head + ahead) & lane->mask];
}

/* The request at the head of the lane is over: its result goes to the completion queue. */
static inline void rio_complete(rio_rq *rq, enum rio_direction direction, int32_t status)
{
    rio_lane *lane = &rq->lanes[direction];
    rio_request *request = rio_lane_request(lane, 0);
    rio_cq *cq = lane->cq;

    assert(lane->head != lane->tail && lane->outstanding > 0);
    assert(status != 0 || request->done <= request->length);
    if (RIO_UNLIKELY(lane->leases != NULL))
        rio_lease_end(rq->core->driver, rio_lane_lease(lane, 0));
    lane->head++;
    rio_count(&rq->core->counts.completions, 1);
    if (RIO_UNLIKELY(cq->closed)) {
        lane->outstanding--; /* lost, as Microsoft documents; nobody will dequeue it */
        return;
    }
    assert(cq->tail - cq->head < cq->reserved);
    rio_entry *entry = &cq->ring[cq->tail++ & cq->mask];
    entry->status = status;
    entry->bytes = request->done;
    entry->context = request->context;
    entry->owner = (uintptr_t)rq | (uintptr_t)direction;
    if (request->flags & RIO_MSG_DONT_NOTIFY) {
        entry->owner |= RIO_OWNER_QUIET;
        return;
    }
    cq->loud++;
    rq->core->loud++;
    if (RIO_UNLIKELY(cq->armed))
        rio_cq_fire(cq);
}

/* Makes the results of the first receives that were taken back and that the system has not. */
static inline void rio_recall(rio_rq *rq)
{
    const rio_lane *lane = &rq->lanes[RIO_RECEIVES];
    while (lane->flight == 0 && lane->head != lane->tail &&
           (rio_lane_request(lane, 0)->flags & RIO_RECALLED) != 0)
        rio_complete(rq, RIO_RECEIVES,
                     rio_lane_request(lane, 0)->done != 0 ? 0 : RIO_OPERATION_ABORTED);
}

/* A code after which a stream connection is gone for both directions. */
static inline int rio_code_is_death(int32_t code)
{
    return code == RIO_ECONNRESET || code == RIO_ECONNABORTED || code == RIO_ETIMEDOUT ||
           code == RIO_ENETRESET || code == RIO_EHOSTUNREACH || code == RIO_ENETUNREACH ||
           code == RIO_ECONNREFUSED;
}

/* The head receive of a stream got `bytes` (0: the end). Linux tells of a reset only once, to
 * whoever calls first; after that, receives say "end of stream". Rule 8 does not allow that, so
 * the death of a connection is remembered in `broken` and told again. */
static inline void rio_received(rio_rq *rq, uint32_t bytes)
{
    rio_lane *lane = &rq->lanes[RIO_RECEIVES];
    rio_request *request = rio_lane_request(lane, 0);
    assert(bytes <= request->length - request->done);
    rio_count(&rq->core->counts.bytes_received, bytes);
    request->done += bytes;
    if (RIO_UNLIKELY(bytes != 0 && (request->flags & RIO_MSG_WAITALL) &&
                     request->done < request->length))
        return;
    rio_complete(rq, RIO_RECEIVES, bytes == 0 ? rq->broken : 0);
}

/* The head receive of a stream only asks whether there is something to receive. */
static inline int rio_probes(const rio_request *request)
{
    return RIO_UNLIKELY(request->length == 0);
}

/* `bytes` of the waiting sends of a stream went out; completes those that are now whole. */
static inline void rio_sent(rio_rq *rq, size_t bytes)
{
    rio_lane *lane = &rq->lanes[RIO_SENDS];
    rio_count(&rq->core->counts.bytes_sent, bytes);
    while (bytes != 0) {
        assert(lane->head != lane->posted);
        rio_request *request = rio_lane_request(lane, 0);
        uint32_t rest = request->length - request->done;
        if (bytes < rest) {
            request->done += (uint32_t)bytes;
            return;
        }
        request->done = request->length;
        bytes -= rest;
        rio_complete(rq, RIO_SENDS, 0);
    }
}

/* The head request of a direction ended with an error. */
static inline void rio_failed(rio_rq *rq, enum rio_direction direction, int32_t code)
{
    if (rq->stream && rio_code_is_death(code) && rq->broken == 0)
        rq->broken = code;
    rio_complete(rq, direction, code);
}

/* The head receive of a datagram socket got one. `address` may be null. */
void rio_datagram_received(rio_rq *, uint32_t bytes, const void *address, uint32_t length,
                           uint32_t flags, int truncated);
void rio_datagram_sent(rio_rq *, uint32_t bytes);

#endif
