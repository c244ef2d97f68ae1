/* winsock.c: the provider that is Windows' own Registered I/O.
 *
 * How RIO works. WSAIoctl hands out a table of functions. Queues are memory shared with the kernel:
 * a request is written, a result read there without a system call; one notification for each
 * RIONotify goes to the completion port. Sockets must be made for it (WSA_FLAG_REGISTERED_IO).
 *
 * What we do. The queues that callers see are the emulation's, as on every provider: arbitrary
 * handles are refused and never crash, and a slot is counted as Microsoft documents. This file is
 * their driver. All request queues of a port share one completion queue of the system:
 *
 *     lane ──start──▶ RIOReceive, RIOSend ──▶ RIODequeueCompletion ──drain──▶ queue of ours
 *
 * A socket that was not made for RIO is driven by overlapped.c instead, on the same port, and
 * nobody above notices: a user's own socket, one of socket.share(), AF_UNIX. One that was made for
 * it can do nothing else: if RIO refuses its request queue, the caller is told.
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
 *     last. A refused commit ends its lane: the call says so, the deferred end with the socket.
 *   - There is no cancelling but closing the socket (RIO_CAP_CLOSE_ENDS). What a close ends has
 *     WSAECONNABORTED there; callers see WSA_OPERATION_ABORTED, as everywhere.
 *   - A connection is what its listener is: one of a listener that was not made for RIO would take
 *     receives and never end them (is_made).
 *
 * What can go wrong. The table may be there and not work: probe runs winsock_selftest, once a
 * process. RIO_CORRUPT_CQ: the system's queue is damaged, every dequeue says so from then on. A
 * port is closed before sockets with requests: results are lost, what belongs to them is given up.
 *
 * Links:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/ns-mswsock-rio_extension_function_table
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_riocreaterequestqueue
 */
#include "windows/winsock_table.h"

#include <stdio.h>
#include <string.h>

#include "windows/codes.h"
#include "windows/entries.h"
#include "windows/overlapped.h"
#include "windows/sockets.h"
#include "windows/winsock_buffers.h"
#include "windows/winsock_selftest.h"

/* Requests in one direction that the system holds for one socket; more wait in their lane. Each
 * takes room in the completion queue whether it is used or not. */
#define DEPTH_MAX 256u

#define RESULTS_MIN 256u /* first size of the system's completion queue: 6 KiB */
#define BATCH 64u        /* results of one dequeue */
#define END_TURNS 20     /* of 10 ms: how long a closing port waits for results */
#define END_TURN_MS 10

#define FINISHED 0x10000u /* in a request's flags: its result is here, an earlier one's not */
#define TURN_MASK 0x7FFFFFFFu /* what a request context carries beside the direction */

/* The port's part: the system's completion queue, a source of events. */
typedef struct winsock_results {
    iocp_source source; /* first */
    iocp_operation notification; /* its packet says that there are results */
    RIO_CQ queue; /* made for the first request queue */
    uint32_t size, reserved;
    uint32_t flying; /* requests that the system holds */
    uint8_t armed;
    uint8_t ending; /* nobody waits on the port any more but its end */
    uint8_t corrupt;
} winsock_results;

/* The driver's part of a request queue. */
typedef struct winsock_side {
    overlapped_side overlapped; /* first: overlapped.c finds it here */
    RIO_RQ requests; /* null: driven by overlapped.c */
    uint32_t limits[2]; /* by enum rio_direction; 0 when given back */
} winsock_side;

static const rio_driver winsock__driver;

/* A port of this provider. */
typedef struct winsock_port {
    iocp_port base; /* first */
    winsock_results results;
} winsock_port;

static inline winsock_results *winsock__results(iocp_port *port)
{
    return &((winsock_port *)port)->results;
}

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
    const rio_request *request = rq_request(lane, lane->flight);
    const rio_lease *lease = rq_lease(lane, lane->flight);
    RIO_RQ queue = winsock__side(rq)->requests;
    RIO_BUF slices[3];
    RIO_BUF *data = winsock__slice(&slices[0], lease->data, request->memory, request->length);
    RIO_BUF *remote = NULL, *message_flags = NULL;
    uint32_t turn = (lane->head + lane->flight) & TURN_MASK;
    void *context = (void *)(((uintptr_t)turn << 1) | (uintptr_t)direction);
    int32_t accepted;

    flags |= request->flags & (RIO_MSG_DONT_NOTIFY | RIO_MSG_WAITALL);
    if (lane->envelopes != NULL) {
        const rio_envelope *envelope = rq_envelope(lane, lane->flight);
        remote =
            winsock__slice(&slices[1], lease->remote, envelope->remote, sizeof(RIO_SOCKADDR_INET));
        message_flags = winsock__slice(&slices[2], lease->flags, envelope->flags, sizeof(uint32_t));
    }
    if (direction == RIO_SENDS)
        accepted = remote != NULL
                       ? winsock_table.RIOSendEx(queue, data, data != NULL, NULL, remote, NULL,
                                                 NULL, flags, context)
                       : winsock_table.RIOSend(queue, data, data != NULL, flags, context);
    else
        accepted = remote != NULL || message_flags != NULL
                       ? winsock_table.RIOReceiveEx(queue, data, data != NULL, NULL, remote, NULL,
                                                    message_flags, flags, context)
                       : winsock_table.RIOReceive(queue, data, data != NULL, flags, context);
    return accepted ? 0 : codes_winsock((DWORD)WSAGetLastError());
}

static int32_t winsock__commit(RIO_RQ queue, enum rio_direction direction)
{
    int32_t accepted = direction == RIO_SENDS
                           ? winsock_table.RIOSend(queue, NULL, 0, RIO_MSG_COMMIT_ONLY, NULL)
                           : winsock_table.RIOReceive(queue, NULL, 0, RIO_MSG_COMMIT_ONLY, NULL);
    return accepted ? 0 : codes_winsock((DWORD)WSAGetLastError());
}

/* Hands over what waits, as much as the system may have. */
static void winsock__hand_over(rio_hub *hub, rio_rq *rq, enum rio_direction direction,
                               uint32_t flags)
{
    const winsock_side *side = winsock__side(rq);
    iocp_port *port = (iocp_port *)hub;
    rio_lane *lane = &rq->lanes[direction];
    uint32_t issued = 0;

    while (rq_waiting(lane) != 0 && lane->flight < side->limits[direction] && !rq->retired &&
           lane->refused == 0) {
        int32_t code = winsock__issue(rq, direction, flags);
        if (code == 0) {
            lane->flight++;
            issued++;
            winsock__results(port)->flying++;
            iocp_began(port);
        } else if (lane->flight != 0) {
            break; /* tried again with the next result */
        } else {
            rq_failed(rq, direction, code);
        }
    }
    if (flags != 0 && issued != 0) {
        counts_add(&hub->counts.gathered, issued - 1);
        lane->refused = winsock__commit(side->requests, direction);
    }
}

static void winsock__start(rio_hub *hub, rio_rq *rq, enum rio_direction direction)
{
    const winsock_side *side = winsock__side(rq);

    if (side->requests == RIO_INVALID_RQ)
        overlapped_driver.start(hub, rq, direction);
    else
        winsock__hand_over(hub, rq, direction,
                           rq_waiting(&rq->lanes[direction]) > 1 ? RIO_MSG_DEFER : 0);
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
    rio_request *request = rq_request(lane, 0);
    int32_t status = request->status;

    lane->flight--;
    request->flags &= ~FINISHED;
    if (status != 0 && (rq->retired || (status == RIO_ECONNABORTED &&
                                        !winsock_table_made((SOCKET)rq->socket))))
        status = RIO_OPERATION_ABORTED; /* closing has many names */
    else if (status != 0 && lane->refused != 0)
        status = lane->refused;
    if (status == 0 && rq->stream && direction == RIO_SENDS && request->done != request->length)
        status = RIO_ECONNABORTED;
    if (status == 0 && rq->stream && direction == RIO_RECEIVES && request->done == 0)
        status = rq->broken;
    if (status != 0 && status != RIO_EMSGSIZE)
        request->done = 0;
    rio_port_statistics *counts = &rq->hub->counts;
    counts_add(direction == RIO_SENDS ? &counts->bytes_sent : &counts->bytes_received,
               request->done);
    if (status == 0)
        rq_complete(rq, direction, 0);
    else
        rq_failed(rq, direction, status);
}

static void winsock__result(iocp_port *port, const RIORESULT *result)
{
    rio_rq *rq = (rio_rq *)(uintptr_t)result->SocketContext;
    enum rio_direction direction = (enum rio_direction)(result->RequestContext & 1);
    rio_lane *lane = &rq->lanes[direction];
    uint32_t ahead = ((uint32_t)(result->RequestContext >> 1) - lane->head) & TURN_MASK;

    assert(ahead < lane->flight);
    rio_request *request = rq_request(lane, ahead);
    request->status = codes_winsock((DWORD)result->Status);
    request->done =
        result->BytesTransferred < request->length ? result->BytesTransferred : request->length;
    request->flags |= FINISHED;
    winsock__results(port)->flying--;
    counts_add(&port->hub.counts.in_kernel, -1);
    while (lane->flight != 0 && (rq_request(lane, 0)->flags & FINISHED))
        winsock__complete(rq, direction);
    if (rq->retired == 2) {
        winsock__leave(winsock__results(port), rq);
        rq_settle(rq);
    } else if (!rq->retired) {
        winsock__hand_over(&port->hub, rq, direction, 0); /* mostly one, and nobody to be told */
    }
}

/* No wait may sleep through it: the next dequeue tells. */
static void winsock__corrupted(iocp_port *port)
{
    winsock__results(port)->corrupt = 1;
    port->hub.loud++;
}

/* Takes what the system has ready; no system call. 0: its queue is corrupt. */
static int winsock__drain(iocp_port *port)
{
    winsock_results *results = winsock__results(port);
    RIORESULT batch[BATCH];
    uint32_t count = BATCH;

    while (count == BATCH && results->flying != 0 && !results->corrupt) {
        count = winsock_table.RIODequeueCompletion(results->queue, batch, BATCH);
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
    winsock_results *results = winsock__results(port);

    if (results->armed || results->flying == 0 || results->corrupt)
        return;
    int32_t code = winsock_table.RIONotify(results->queue);
    if (code != 0) { /* the only refusal that our use leaves */
        winsock__corrupted(port);
        (void)PostQueuedCompletionStatus(port->completions, 0, IOCP_KEY, NULL);
        return;
    }
    results->armed = 1;
    iocp_expect(port, &results->notification);
}

static void winsock__before_sleep(iocp_port *port, iocp_source *source)
{
    (void)source;
    winsock__arm(port);
}

static const iocp_source_kind winsock__source = { .before_sleep = winsock__before_sleep };

static void winsock__notified(iocp_port *port, iocp_operation *operation, int32_t code,
                              uint32_t bytes)
{
    (void)operation, (void)code, (void)bytes;
    winsock__results(port)->armed = 0;
    (void)winsock__drain(port);
    if (winsock__results(port)->ending)
        winsock__arm(port);
}

/* ---------------------------------------------------------------------------------- attachment */

static int winsock__make_queue(iocp_port *port, uint32_t size)
{
    winsock_results *results = winsock__results(port);
    RIO_NOTIFICATION_COMPLETION how = { .Type = RIO_IOCP_COMPLETION };

    how.u.Iocp.IocpHandle = port->completions;
    how.u.Iocp.CompletionKey = (void *)IOCP_KEY;
    how.u.Iocp.Overlapped = iocp_fresh(&results->notification, NULL);
    results->queue = winsock_table.RIOCreateCompletionQueue(size, &how);
    results->size = results->queue != RIO_INVALID_CQ ? size : 0;
    return results->size != 0;
}

/* Room for at least so many results in the system's queue; 0 if it refuses. */
static int winsock__room(iocp_port *port, uint64_t wanted)
{
    winsock_results *results = winsock__results(port);
    uint64_t size = results->size != 0 ? results->size : RESULTS_MIN;

    if (wanted > RIO_MAX_CQ_SIZE)
        return 0;
    while (size < wanted)
        size *= 2;
    if (results->size == 0)
        return winsock__make_queue(port, (uint32_t)size);
    if (size > results->size) {
        if (!winsock_table.RIOResizeCompletionQueue(results->queue, (uint32_t)size))
            return 0;
        results->size = (uint32_t)size;
    }
    return 1;
}

static RIO_RQ winsock__create(iocp_port *port, rio_rq *rq, const uint32_t limits[2])
{
    winsock_results *results = winsock__results(port);
    uint32_t more = limits[RIO_RECEIVES] + limits[RIO_SENDS];

    if (!winsock__room(port, (uint64_t)results->reserved + more))
        return RIO_INVALID_RQ;
    for (int again = 0;; again++) {
        RIO_RQ queue = winsock_table.RIOCreateRequestQueue(rq->socket, limits[RIO_RECEIVES], 1,
                                                           limits[RIO_SENDS], 1, results->queue,
                                                           results->queue, rq);
        if (queue != RIO_INVALID_RQ || again || WSAGetLastError() != WSAENOBUFS ||
            !winsock__room(port, 2 * (uint64_t)results->size + more))
            return queue;
    }
}

/* RIO drives this request queue from now on: 0, or a code. */
static int32_t winsock__register(iocp_port *port, rio_rq *rq)
{
    winsock_side *side = winsock__side(rq);
    uint32_t limits[2];

    for (int i = 0; i < 2; i++) { /* 1 at least: a resize may be refused later */
        uint32_t limit = rq->lanes[i].limit;
        limits[i] = limit == 0 ? 1 : limit < DEPTH_MAX ? limit : DEPTH_MAX;
    }
    side->requests = winsock__create(port, rq, limits);
    if (side->requests == RIO_INVALID_RQ) {
        int32_t code = codes_winsock((DWORD)WSAGetLastError());
        return code != 0 ? code : RIO_ENOBUFS;
    }
    memcpy(side->limits, limits, sizeof limits);
    winsock__results(port)->reserved += limits[RIO_RECEIVES] + limits[RIO_SENDS];
    rq->leases = 1;
    return 0;
}

static int32_t winsock__attach(rio_hub *hub, rio_rq *rq)
{
    int family;

    if (!winsock_table_made((SOCKET)rq->socket))
        return overlapped_driver.attach(hub, rq);
    int32_t code = sockets_kind(rq->socket, &rq->stream, &family);
    return code != 0 ? code : winsock__register((iocp_port *)hub, rq);
}

static void winsock__detach(rio_hub *hub, rio_rq *rq)
{
    if (winsock__side(rq)->requests == RIO_INVALID_RQ)
        overlapped_driver.detach(hub, rq);
    else
        winsock__leave(winsock__results((iocp_port *)hub), rq);
}

/* ---------------------------------------------------------------------------------- the tables */

static iocp_port *winsock__port_of(RIO_CQ handle)
{
    const rio_cq *cq = handles_object(handle, HANDLES_CQ);
    rio_hub *hub = cq != NULL ? cq->hub : NULL;
    return hub != NULL && hub->driver == &winsock__driver ? (iocp_port *)hub : NULL;
}

static uint32_t RIO_CALL winsock__dequeue(RIO_CQ handle, RIORESULT *results, uint32_t size)
{
    iocp_port *port = winsock__port_of(handle);
    if (port != NULL && size != 0 && !winsock__drain(port)) {
        errors_refuse(RIO_EINVAL);
        return RIO_CORRUPT_CQ;
    }
    return results_dequeue(handle, results, size);
}

static int32_t RIO_CALL winsock__resize_request_queue(RIO_RQ handle, uint32_t max_receives,
                                                      uint32_t max_sends)
{
    uint32_t limits[2] = { max_receives, max_sends }, more = 0;

    if (!rq_resize(handle, max_receives, max_sends))
        return 0;
    rio_rq *rq = handles_object(handle, HANDLES_RQ);
    winsock_side *side = rq->hub->driver == &winsock__driver ? winsock__side(rq) : NULL;
    if (side == NULL || side->requests == RIO_INVALID_RQ)
        return 1;
    /* As far as the system likes: what it does not take waits in the lanes. It never shrinks. */
    iocp_port *port = (iocp_port *)rq->hub;
    for (int i = 0; i < 2; i++) {
        if (limits[i] < side->limits[i])
            limits[i] = side->limits[i];
        if (limits[i] > DEPTH_MAX)
            limits[i] = DEPTH_MAX;
        more += limits[i] - side->limits[i];
    }
    if (more != 0 && winsock__room(port, (uint64_t)winsock__results(port)->reserved + more) &&
        winsock_table.RIOResizeRequestQueue(side->requests, limits[RIO_RECEIVES],
                                            limits[RIO_SENDS])) {
        memcpy(side->limits, limits, sizeof limits);
        winsock__results(port)->reserved += more;
    }
    return 1;
}

static int32_t winsock__wait(rio_port *handle, rio_port_event *events, uint32_t size,
                             int64_t timeout_ns)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, &winsock__driver, &code);

    if (port == NULL)
        return -code;
    uint32_t loud = port->hub.loud;
    (void)winsock__drain(port);
    if (port->hub.loud != loud)
        timeout_ns = 0;
    if (winsock__results(port)->corrupt)
        timeout_ns = 0; /* the next dequeue tells */
    return iocp_wait(port, events, size, timeout_ns);
}

static void winsock__progress(rio_hub *hub)
{
    (void)winsock__drain((iocp_port *)hub);
    (void)iocp_turn((iocp_port *)hub, 0);
}

static rio_hub *winsock__open(const rio_port_options *options)
{
    int32_t code = winsock_table_load(NULL, 0);
    rio_hub *hub = code == 0 ? iocp_open(&winsock__driver, options, sizeof(winsock_port)) : NULL;
    if (hub == NULL) {
        if (code != 0)
            errors_refuse(code);
        return NULL;
    }
    iocp_port *port = (iocp_port *)hub;
    winsock__results(port)->notification.done = winsock__notified;
    iocp_source_add(port, &winsock__results(port)->source, &winsock__source);
    port->make_socket = winsock_table_make;
    port->is_made = winsock_table_made;
    return hub;
}

static void winsock__shut(rio_hub *hub)
{
    iocp_port *port = (iocp_port *)hub;
    winsock_results *results = winsock__results(port);

    rq_end_all(hub);
    results->ending = 1;
    (void)winsock__drain(port);
    winsock__arm(port);
    for (int turn = 0; turn < END_TURNS && results->flying != 0 && !results->corrupt; turn++)
        (void)iocp_turn(port, END_TURN_MS);
    counts_add(&hub->counts.in_kernel, -(int64_t)results->flying); /* given up, see the top */
    results->flying = 0;
    if (results->queue != RIO_INVALID_CQ)
        winsock_table.RIOCloseCompletionQueue(results->queue);
    (void)iocp_turn(port, 0);
    /* Of a closed queue no packet comes any more. */
    counts_add(&hub->counts.in_kernel, -(int64_t)results->armed);
    results->armed = 0;
    iocp_shut(hub);
}

static rio_port *winsock__create_port(const rio_port_options *options)
{
    return hub_publish(winsock__open(options));
}

static void winsock__close(rio_port *handle)
{
    rio_hub *hub = handles_object(handle, HANDLES_PORT);
    if (hub != NULL && hub->driver == &winsock__driver)
        winsock__shut(hub);
}

static int32_t winsock__probe(char *reason, uint32_t size)
{
    int32_t code = winsock_table_load(reason, reason != NULL ? size : 0);
    if (code == 0)
        code = winsock_selftest(reason, reason != NULL ? size : 0);
    rio_hub *hub = code == 0 ? winsock__open(NULL) : NULL;
    if (hub != NULL) {
        winsock__shut(hub);
        return 0;
    }
    if (code != 0)
        return rio_errno(code);
    snprintf(reason, reason != NULL ? size : 0,
             "No I/O completion port can be made (Winsock error %d).", (int)rio_last_error());
    return rio_errno(rio_last_error());
}

EMULATION_CREATORS(winsock_, &winsock__driver)

static const rio_driver winsock__driver = {
    .rq_bytes = sizeof(winsock_side),
    .open = winsock__open,
    .shut = winsock__shut,
    .attach = winsock__attach,
    .detach = winsock__detach,
    .start = winsock__start,
    .progress = winsock__progress,
    .hold = winsock_buffers_hold,
    .let_go = winsock_buffers_let_go,
};

const rio_provider winsock_provider = {
    .size = sizeof(rio_provider),
    .capabilities = RIO_CAP_DATAGRAM | RIO_CAP_CLOSE_ENDS,
    .name = "winsock",
    .probe = winsock__probe,
    .rio = {
        .cbSize = sizeof(RIO_EXTENSION_FUNCTION_TABLE),
        .RIOReceive = requests_receive,
        .RIOReceiveEx = requests_receive_ex,
        .RIOSend = requests_send,
        .RIOSendEx = requests_send_ex,
        .RIOCloseCompletionQueue = results_close_queue,
        .RIOCreateCompletionQueue = winsock__create_completion_queue,
        .RIOCreateRequestQueue = winsock__create_request_queue,
        .RIODequeueCompletion = winsock__dequeue,
        .RIODeregisterBuffer = winsock_buffers_deregister,
        .RIONotify = cq_notify,
        .RIORegisterBuffer = winsock_buffers_register,
        .RIOResizeCompletionQueue = cq_resize,
        .RIOResizeRequestQueue = winsock__resize_request_queue,
    },
    .port = {
        ENTRIES_OF_PORT,
        .create = winsock__create_port,
        .close = winsock__close,
        .wait = winsock__wait,
    },
    .send_memory = refusals_send_memory, /* RIO takes registered memory only */
    .receive_memory = refusals_receive_memory,
    .send_now = refusals_send_now, /* sends by requests are what it is for */
    ENTRIES_OF_PROVIDER,
    .make_socket = winsock_table_make_socket,
    .is_made = winsock_table_is_made,
    .recall_receives = refusals_recall, /* it ends a receive with its socket, not before */
};
