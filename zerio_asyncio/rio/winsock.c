/* winsock.c: the provider that is Windows' own Registered I/O.
 *
 * How RIO works. WSAIoctl hands out a table of functions. Request queues and completion queues are
 * memory that the kernel shares: a request is written there, a result is read there without a
 * system call, and one notification for each RIONotify goes to the completion port. Sockets must be
 * made for it (WSA_FLAG_REGISTERED_IO), and a transport may refuse it all the same.
 *
 * What we do. The queues that callers see are emulation.c's, as on every provider: arbitrary
 * handles are refused and never crash, and a slot is counted as Microsoft documents. This file is
 * their driver. All request queues of a port share one completion queue of the system:
 *
 *     lane ──start──▶ RIOReceive, RIOSend ──▶ RIODequeueCompletion ──drain──▶ queue of ours
 *
 * A request queue whose socket RIO refuses is driven by overlapped.c instead, on the same port, and
 * nobody above notices: a user's own socket, one of socket.share(), AF_UNIX, a layered transport.
 *
 * Rules of RIO, and how they are kept.
 *   - A completion queue must have room for all that may be outstanding: it is resized before a
 *     request queue is made. The system gives a reservation back when the socket is closed, which
 *     may be later than we count; so a refusal for want of room is answered by resizing once more.
 *   - One RIONotify, one packet: armed only right before a sleep, while requests are outstanding.
 *   - Nothing may be called twice at once on a queue: all calls come from the port's thread.
 *   - Memory of a request must stay registered: a registration counts its requests, and is given
 *     back with the last of them.
 *   - Several requests go as deferred ones and one commit, which costs less than to commit by the
 *     last of them.
 *   - There is no cancelling but closing the socket (RIO_CAP_CLOSE_ENDS).
 *   - Function pointers belong to a transport: a socket that answers with others is not driven by
 *     RIO, because queues and buffers were made with ours.
 *
 * What can go wrong. RIO_CORRUPT_CQ: the system's queue is damaged; every dequeue says so from then
 * on. A port that is closed while sockets with requests still are open: results are lost, and what
 * belongs to them is given up, for the system may still write to it.
 *
 * Links:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/ns-mswsock-rio_extension_function_table
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_riocreaterequestqueue
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_rioresizecompletionqueue
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_rionotify
 */
#include "winsock_table.h"

#include <stdio.h>
#include <stdlib.h>

/* Requests in one direction that the system holds for one socket; more wait in their lane. Each
 * takes room in the completion queue whether it is used or not. */
#define DEPTH_MAX 256u

#define RESULTS_MIN 256u /* first size of the system's completion queue: 6 KiB */
#define BATCH 64u        /* results of one dequeue */
#define END_TURNS 20     /* of 10 ms: how long a closing port waits for results */
#define END_TURN_MS 10

#define FINISHED 0x10000u      /* in a request's flags: its result is here, an earlier one's not */
#define TURN_MASK 0x7FFFFFFFu  /* what a request context carries beside the direction */

/* The port's part: the system's completion queue. */
typedef struct winsock_results {
    iocp_operation notification; /* its packet says that there are results */
    RIO_CQ queue;                /* made for the first request queue */
    uint32_t size, reserved;
    uint32_t flying; /* requests that the system holds */
    uint8_t armed;
    uint8_t ending; /* nobody waits on the port any more but its end */
    uint8_t corrupt;
} winsock_results;

/* The driver's part of a request queue. */
typedef struct winsock_side {
    overlapped_side overlapped; /* first: overlapped.c finds it here */
    RIO_RQ requests;            /* null: driven by overlapped.c */
    uint32_t limits[2];         /* by enum rio_direction; 0 when given back */
} winsock_side;

extern const rio_driver winsock_driver;

static inline winsock_side *winsock__side(rio_rq *rq)
{
    return (winsock_side *)rq->driver;
}

/* ------------------------------------------------------------------------------------ requests */

static RIO_BUF *winsock__slice(RIO_BUF *slice, const void *registration, const char *memory,
                               uint32_t length)
{
    const winsock_buffer *buffer = registration;
    if (buffer == NULL || length == 0)
        return NULL;
    *slice = (RIO_BUF){ buffer->id, (uint32_t)(memory - buffer->memory), length };
    return slice;
}

/* Hands over the first request that waits. 0, or the code of a refusal. */
static int32_t winsock__issue(rio_rq *rq, enum rio_direction direction, uint32_t flags)
{
    rio_lane *lane = &rq->lanes[direction];
    const rio_request *request = rio_lane_request(lane, lane->flight);
    const rio_lease *lease = rio_lane_lease(lane, lane->flight);
    RIO_RQ queue = winsock__side(rq)->requests;
    RIO_BUF slices[3];
    RIO_BUF *data = winsock__slice(&slices[0], lease->data, request->memory, request->length);
    RIO_BUF *remote = NULL, *message_flags = NULL;
    uint32_t turn = (lane->head + lane->flight) & TURN_MASK;
    void *context = (void *)(((uintptr_t)turn << 1) | (uintptr_t)direction);
    int32_t accepted;

    flags |= request->flags & (RIO_MSG_DONT_NOTIFY | RIO_MSG_WAITALL);
    if (lane->envelopes != NULL) {
        const rio_envelope *envelope = rio_lane_envelope(lane, lane->flight);
        remote = winsock__slice(&slices[1], lease->remote, envelope->remote,
                                sizeof(RIO_SOCKADDR_INET));
        message_flags = winsock__slice(&slices[2], lease->flags, envelope->flags,
                                       sizeof(uint32_t));
    }
    if (direction == RIO_SENDS)
        accepted = remote != NULL ? winrio.RIOSendEx(queue, data, data != NULL, NULL, remote, NULL,
                                                  NULL, flags, context)
                                  : winrio.RIOSend(queue, data, data != NULL, flags, context);
    else
        accepted = remote != NULL || message_flags != NULL
                       ? winrio.RIOReceiveEx(queue, data, data != NULL, NULL, remote, NULL,
                                          message_flags, flags, context)
                       : winrio.RIOReceive(queue, data, data != NULL, flags, context);
    return accepted ? 0 : iocp_code((DWORD)WSAGetLastError());
}

static void winsock__start(rio_core *core, rio_rq *rq, enum rio_direction direction)
{
    winsock_side *side = winsock__side(rq);
    iocp_port *port = (iocp_port *)core;
    rio_lane *lane = &rq->lanes[direction];
    uint32_t issued = 0;

    if (side->requests == RIO_INVALID_RQ) {
        overlapped_driver.start(core, rq, direction);
        return;
    }
    uint32_t flags = rio_lane_waiting(lane) > 1 ? RIO_MSG_DEFER : 0;
    while (rio_lane_waiting(lane) != 0 && lane->flight < side->limits[direction] && !rq->retired) {
        int32_t code = winsock__issue(rq, direction, flags);
        if (code == 0) {
            lane->flight++;
            issued++;
            port->registered->flying++;
            iocp_began(port);
        } else if (lane->flight != 0) {
            break; /* tried again with the next result */
        } else {
            rio_failed(rq, direction, code);
        }
    }
    if (flags != 0 && issued != 0) {
        rio_count(&core->counts.gathered, issued - 1);
        (void)(direction == RIO_SENDS
                   ? winrio.RIOSend(side->requests, NULL, 0, RIO_MSG_COMMIT_ONLY, NULL)
                   : winrio.RIOReceive(side->requests, NULL, 0, RIO_MSG_COMMIT_ONLY, NULL));
    }
}

/* ------------------------------------------------------------------------------------- results */

/* Nothing of this socket can come any more. */
static void winsock__leave(winsock_results *results, rio_rq *rq)
{
    winsock_side *side = winsock__side(rq);
    if (rq->lanes[RIO_RECEIVES].flight != 0 || rq->lanes[RIO_SENDS].flight != 0)
        return;
    results->reserved -= side->limits[RIO_RECEIVES] + side->limits[RIO_SENDS];
    side->limits[RIO_RECEIVES] = side->limits[RIO_SENDS] = 0;
}

/* The head request of a lane has its result. */
static void winsock__complete(rio_rq *rq, enum rio_direction direction)
{
    rio_lane *lane = &rq->lanes[direction];
    rio_request *request = rio_lane_request(lane, 0);
    int32_t status = request->status;

    lane->flight--;
    request->flags &= ~FINISHED;
    if (status != 0 && rq->retired)
        status = RIO_OPERATION_ABORTED; /* closing has many names */
    if (status == 0 && rq->stream && direction == RIO_SENDS && request->done != request->length)
        status = RIO_ECONNABORTED;
    if (status == 0 && rq->stream && direction == RIO_RECEIVES && request->done == 0)
        status = rq->broken;
    if (status != 0 && status != RIO_EMSGSIZE)
        request->done = 0;
    rio_port_statistics *counts = &rq->core->counts;
    rio_count(direction == RIO_SENDS ? &counts->bytes_sent : &counts->bytes_received,
              request->done);
    if (status == 0)
        rio_complete(rq, direction, 0);
    else
        rio_failed(rq, direction, status);
}

static void winsock__result(iocp_port *port, const RIORESULT *result)
{
    rio_rq *rq = (rio_rq *)(uintptr_t)result->SocketContext;
    enum rio_direction direction = (enum rio_direction)(result->RequestContext & 1);
    rio_lane *lane = &rq->lanes[direction];
    uint32_t ahead = ((uint32_t)(result->RequestContext >> 1) - lane->head) & TURN_MASK;

    assert(ahead < lane->flight);
    rio_request *request = rio_lane_request(lane, ahead);
    request->status = iocp_code((DWORD)result->Status);
    request->done = result->BytesTransferred < request->length ? result->BytesTransferred
                                                               : request->length;
    request->flags |= FINISHED;
    port->registered->flying--;
    rio_count(&port->core.counts.in_kernel, -1);
    while (lane->flight != 0 && (rio_lane_request(lane, 0)->flags & FINISHED))
        winsock__complete(rq, direction);
    if (rq->retired == 2) {
        winsock__leave(port->registered, rq);
        rio_rq_settle(rq);
    } else if (!rq->retired) {
        winsock__start(&port->core, rq, direction);
    }
}

/* No wait may sleep through it: the next dequeue tells. */
static void winsock__corrupted(iocp_port *port)
{
    port->registered->corrupt = 1;
    port->core.loud++;
}

/* Takes what the system has ready; no system call. 0: its queue is corrupt. */
static int winsock__drain(iocp_port *port)
{
    winsock_results *results = port->registered;
    RIORESULT batch[BATCH];
    uint32_t count = BATCH;

    while (count == BATCH && results->flying != 0 && !results->corrupt) {
        count = winrio.RIODequeueCompletion(results->queue, batch, BATCH);
        if (count == RIO_CORRUPT_CQ) {
            winsock__corrupted(port);
            break;
        }
        for (uint32_t i = 0; i < count; i++)
            winsock__result(port, &batch[i]);
    }
    return !results->corrupt;
}

/* A packet will come with the next result. */
static void winsock__arm(iocp_port *port)
{
    winsock_results *results = port->registered;

    if (results->armed || results->flying == 0 || results->corrupt)
        return;
    int32_t code = winrio.RIONotify(results->queue);
    if (code != 0) { /* the only refusal that our use leaves */
        winsock__corrupted(port);
        (void)PostQueuedCompletionStatus(port->completions, 0, IOCP_KEY, NULL);
        return;
    }
    results->armed = 1;
    rio_count(&port->core.counts.in_kernel, 1);
}

static void winsock__notified(iocp_port *port, iocp_operation *operation, int32_t code,
                              uint32_t bytes)
{
    (void)operation, (void)code, (void)bytes;
    port->registered->armed = 0;
    (void)winsock__drain(port);
    if (port->registered->ending)
        winsock__arm(port);
}

/* ---------------------------------------------------------------------------------- attachment */

static int winsock__make_queue(iocp_port *port, uint32_t size)
{
    winsock_results *results = port->registered;
    RIO_NOTIFICATION_COMPLETION how = { .Type = RIO_IOCP_COMPLETION };

    how.u.Iocp.IocpHandle = port->completions;
    how.u.Iocp.CompletionKey = (void *)IOCP_KEY;
    how.u.Iocp.Overlapped = iocp_fresh(&results->notification, NULL);
    results->queue = winrio.RIOCreateCompletionQueue(size, &how);
    results->size = results->queue != RIO_INVALID_CQ ? size : 0;
    return results->size != 0;
}

/* Room for at least so many results in the system's queue; 0 if it refuses. */
static int winsock__room(iocp_port *port, uint64_t wanted)
{
    winsock_results *results = port->registered;
    uint64_t size = results->size != 0 ? results->size : RESULTS_MIN;

    if (wanted > RIO_MAX_CQ_SIZE)
        return 0;
    while (size < wanted)
        size *= 2;
    if (results->size == 0)
        return winsock__make_queue(port, (uint32_t)size);
    if (size > results->size) {
        if (!winrio.RIOResizeCompletionQueue(results->queue, (uint32_t)size))
            return 0;
        results->size = (uint32_t)size;
    }
    return 1;
}

/* Whether a socket's transport is the one that our table is of. */
static int winsock__same_transport(rio_socket socket)
{
    RIO_EXTENSION_FUNCTION_TABLE theirs;
    return winsock_ask((SOCKET)socket, &theirs, NULL, 0) == 0 &&
           memcmp(&theirs.RIOReceive, &winrio.RIOReceive, WINSOCK_ENTRIES * sizeof(void *)) == 0;
}

static RIO_RQ winsock__create(iocp_port *port, rio_rq *rq, const uint32_t limits[2])
{
    winsock_results *results = port->registered;
    uint32_t more = limits[RIO_RECEIVES] + limits[RIO_SENDS];

    if (!winsock__room(port, (uint64_t)results->reserved + more))
        return RIO_INVALID_RQ;
    for (int again = 0;; again++) {
        RIO_RQ queue = winrio.RIOCreateRequestQueue(rq->socket, limits[RIO_RECEIVES], 1,
                                                 limits[RIO_SENDS], 1, results->queue,
                                                 results->queue, rq);
        if (queue != RIO_INVALID_RQ || again || WSAGetLastError() != WSAENOBUFS ||
            !winsock__room(port, 2 * (uint64_t)results->size + more))
            return queue;
    }
}

/* Whether RIO drives this request queue from now on. */
static int winsock__register(iocp_port *port, rio_rq *rq)
{
    winsock_side *side = winsock__side(rq);
    uint32_t limits[2];

    for (int i = 0; i < 2; i++) { /* 1 at least: a resize may be refused later */
        uint32_t limit = rq->lanes[i].limit;
        limits[i] = limit == 0 ? 1 : limit < DEPTH_MAX ? limit : DEPTH_MAX;
    }
    if (!winsock__same_transport(rq->socket))
        return 0;
    side->requests = winsock__create(port, rq, limits);
    if (side->requests == RIO_INVALID_RQ)
        return 0;
    memcpy(side->limits, limits, sizeof limits);
    port->registered->reserved += limits[RIO_RECEIVES] + limits[RIO_SENDS];
    rq->leases = 1;
    return 1;
}

static int32_t winsock__attach(rio_core *core, rio_rq *rq)
{
    int family;
    int32_t code = iocp_socket_kind(rq->socket, &rq->stream, &family);

    if (code != 0)
        return code;
    if ((family == AF_INET || family == AF_INET6) && winsock__register((iocp_port *)core, rq))
        return 0;
    return overlapped_driver.attach(core, rq);
}

static void winsock__detach(rio_core *core, rio_rq *rq)
{
    if (winsock__side(rq)->requests == RIO_INVALID_RQ)
        overlapped_driver.detach(core, rq);
    else
        winsock__leave(((iocp_port *)core)->registered, rq);
}

/* ---------------------------------------------------------------------------------- the tables */

static iocp_port *winsock__port_of(RIO_CQ handle)
{
    const rio_cq *cq = rio_handle_object(handle, RIO_KIND_CQ);
    rio_core *core = cq != NULL ? cq->core : NULL;
    return core != NULL && core->driver == &winsock_driver ? (iocp_port *)core : NULL;
}

static uint32_t RIO_CALL winsock__dequeue(RIO_CQ handle, RIORESULT *results, uint32_t size)
{
    iocp_port *port = winsock__port_of(handle);
    if (port != NULL && size != 0 && !winsock__drain(port)) {
        rio_refuse(RIO_EINVAL);
        return RIO_CORRUPT_CQ;
    }
    return rio_emulation_dequeue(handle, results, size);
}

static int32_t RIO_CALL winsock__resize_request_queue(RIO_RQ handle, uint32_t max_receives,
                                                      uint32_t max_sends)
{
    uint32_t limits[2] = { max_receives, max_sends }, more = 0;

    if (!rio_emulation_resize_request_queue(handle, max_receives, max_sends))
        return 0;
    rio_rq *rq = rio_handle_object(handle, RIO_KIND_RQ);
    winsock_side *side = rq->core->driver == &winsock_driver ? winsock__side(rq) : NULL;
    if (side == NULL || side->requests == RIO_INVALID_RQ)
        return 1;
    /* As far as the system likes: what it does not take waits in the lanes. It never shrinks. */
    iocp_port *port = (iocp_port *)rq->core;
    for (int i = 0; i < 2; i++) {
        if (limits[i] < side->limits[i])
            limits[i] = side->limits[i];
        if (limits[i] > DEPTH_MAX)
            limits[i] = DEPTH_MAX;
        more += limits[i] - side->limits[i];
    }
    if (more != 0 && winsock__room(port, (uint64_t)port->registered->reserved + more) &&
        winrio.RIOResizeRequestQueue(side->requests, limits[RIO_RECEIVES], limits[RIO_SENDS])) {
        memcpy(side->limits, limits, sizeof limits);
        port->registered->reserved += more;
    }
    return 1;
}

static int32_t winsock__wait(rio_port *handle, rio_port_event *events, uint32_t size,
                             int64_t timeout_ns)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, &winsock_driver, &code);

    if (port == NULL)
        return -code;
    uint32_t loud = port->core.loud;
    (void)winsock__drain(port);
    if (port->core.loud != loud)
        timeout_ns = 0;
    if (port->registered->corrupt)
        timeout_ns = 0; /* the next dequeue tells */
    return iocp_wait(port, events, size, timeout_ns);
}

static void winsock__progress(rio_core *core)
{
    (void)winsock__drain((iocp_port *)core);
    (void)iocp_turn((iocp_port *)core, 0);
}

static rio_core *winsock__open(const rio_port_options *options)
{
    int32_t code = winsock_load(NULL, 0);
    rio_core *core = code == 0 ? iocp_open(&winsock_driver, options) : NULL;
    if (core == NULL) {
        if (code != 0)
            rio_refuse(code);
        return NULL;
    }
    iocp_port *port = (iocp_port *)core;
    port->registered = calloc(1, sizeof *port->registered);
    if (port->registered == NULL) {
        iocp_shut(core);
        rio_refuse(RIO_ENOBUFS);
        return NULL;
    }
    port->registered->notification.done = winsock__notified;
    port->make_socket = winsock_make;
    port->before_sleep = winsock__arm;
    return core;
}

static void winsock__shut(rio_core *core)
{
    iocp_port *port = (iocp_port *)core;
    winsock_results *results = port->registered;

    rio_core_end(core);
    results->ending = 1;
    (void)winsock__drain(port);
    winsock__arm(port);
    for (int turn = 0; turn < END_TURNS && results->flying != 0 && !results->corrupt; turn++)
        (void)iocp_turn(port, END_TURN_MS);
    rio_count(&core->counts.in_kernel, -(int64_t)results->flying); /* given up, see the top */
    results->flying = 0;
    if (results->queue != RIO_INVALID_CQ)
        winrio.RIOCloseCompletionQueue(results->queue);
    (void)iocp_turn(port, 0);
    /* Of a closed queue no packet comes any more. */
    rio_count(&core->counts.in_kernel, -(int64_t)results->armed);
    results->armed = 0;
    iocp_shut(core);
    free(results);
}

static rio_port *winsock__create_port(const rio_port_options *options)
{
    return rio_core_publish(winsock__open(options));
}

static void winsock__close(rio_port *handle)
{
    rio_core *core = rio_handle_object(handle, RIO_KIND_PORT);
    if (core != NULL && core->driver == &winsock_driver)
        winsock__shut(core);
}

static int32_t winsock__probe(char *reason, uint32_t size)
{
    int32_t code = winsock_load(reason, reason != NULL ? size : 0);
    rio_core *core = code == 0 ? winsock__open(NULL) : NULL;
    if (core != NULL) {
        winsock__shut(core);
        return 0;
    }
    if (code != 0)
        return rio_errno(code);
    snprintf(reason, reason != NULL ? size : 0,
             "No I/O completion port can be made (Winsock error %d).", (int)rio_last_error());
    return rio_errno(rio_last_error());
}

/* RIO takes registered memory only. */

static int32_t winsock__send_memory(RIO_RQ handle, const void *memory, uint32_t length,
                                    uint32_t flags, void *context)
{
    (void)memory, (void)length, (void)flags, (void)context;
    return rio_refuse(rio_handle_find(handle, RIO_KIND_RQ) ? RIO_EOPNOTSUPP : RIO_EINVAL);
}

static int32_t winsock__receive_memory(RIO_RQ handle, void *memory, uint32_t length,
                                       uint32_t flags, void *context)
{
    return winsock__send_memory(handle, memory, length, flags, context);
}

/* And sends by requests: that is what it is for. */
static int64_t winsock__send_now(RIO_RQ handle, const void *memory, uint32_t length)
{
    (void)memory, (void)length;
    return -(int64_t)(rio_handle_find(handle, RIO_KIND_RQ) != NULL ? RIO_EOPNOTSUPP : RIO_EINVAL);
}

/* Registered I/O ends a receive with its socket, not before. */
static int32_t winsock__recall_receives(RIO_RQ handle)
{
    return rio_handle_find(handle, RIO_KIND_RQ) != NULL ? RIO_EOPNOTSUPP : RIO_EINVAL;
}

RIO_EMULATION_CREATORS(winsock_, &winsock_driver)

const rio_driver winsock_driver = {
    .rq_bytes = sizeof(winsock_side),
    .open = winsock__open,
    .shut = winsock__shut,
    .attach = winsock__attach,
    .detach = winsock__detach,
    .start = winsock__start,
    .progress = winsock__progress,
    .hold = winsock_hold,
    .let_go = winsock_let_go,
};

const rio_provider rio_provider_winsock = {
    .size = sizeof(rio_provider),
    .capabilities = RIO_CAP_DATAGRAM | RIO_CAP_CLOSE_ENDS,
    .name = "winsock",
    .probe = winsock__probe,
    .rio = {
        .cbSize = sizeof(RIO_EXTENSION_FUNCTION_TABLE),
        .RIOReceive = rio_emulation_receive,
        .RIOReceiveEx = rio_emulation_receive_ex,
        .RIOSend = rio_emulation_send,
        .RIOSendEx = rio_emulation_send_ex,
        .RIOCloseCompletionQueue = rio_emulation_close_completion_queue,
        .RIOCreateCompletionQueue = winsock__create_completion_queue,
        .RIOCreateRequestQueue = winsock__create_request_queue,
        .RIODequeueCompletion = winsock__dequeue,
        .RIODeregisterBuffer = winsock_deregister_buffer,
        .RIONotify = rio_emulation_notify,
        .RIORegisterBuffer = winsock_register_buffer,
        .RIOResizeCompletionQueue = rio_emulation_resize_completion_queue,
        .RIOResizeRequestQueue = winsock__resize_request_queue,
    },
    .port = {
        IOCP_PORT_ENTRIES,
        .create = winsock__create_port,
        .close = winsock__close,
        .wait = winsock__wait,
    },
    .send_memory = winsock__send_memory,
    .receive_memory = winsock__receive_memory,
    .send_now = winsock__send_now,
    IOCP_NOTHING_NOW,
    .make_socket = winsock_make_socket,
    .recall_receives = winsock__recall_receives,
};
