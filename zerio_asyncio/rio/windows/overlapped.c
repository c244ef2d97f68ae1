/* overlapped.c: the provider for any socket of Windows: RIO's queues over WSARecv and WSASend.
 *
 * Registered I/O needs sockets that were made for it (WSA_FLAG_REGISTERED_IO), and a transport that
 * offers it. Users' own sockets, sockets of other processes and some layered transports are not
 * that; for them the same table stands on overlapped operations, which every socket has.
 *
 * A request queue has at most one operation in each direction, because two overlapped receives may
 * end in either order. A send takes all waiting requests of a stream, up to RQ_GATHER_MAX pieces.
 * Requests that are made meanwhile wait in their lane and go when the operation ends.
 *
 * What can go wrong.
 *   - Memory of a request belongs to the system until the packet is here. retire cancels and then
 *     handles packets until the socket is free, for a moment; later packets find the queue by its
 *     operation, which lives as long as a result is outstanding.
 *   - A receive that was taken back may end with bytes all the same; that is a result like any
 *     other. Whoever waits behind it ends when its packet has come, for the order of results.
 *   - A cancelled send may have been sent in part. Nobody sends on after a retire.
 *   - Datagrams to where nobody listens make later receives of the same socket fail; asked to, the
 *     system keeps that to itself (SIO_UDP_CONNRESET) on sockets that are not connected, as RIO
 *     does.
 *
 * Links:
 *   https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsarecv
 *   https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsasend
 *   https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsarecvfrom
 */
#include "windows/overlapped.h"

#include <stdio.h>
#include <string.h>

#include "windows/codes.h"
#include "windows/entries.h"
#include "windows/sockets.h"

#define RETIRE_TURNS 50 /* of 1 ms: then the results come with a later wait */

static inline overlapped_side *overlapped__side(rio_rq *rq)
{
    return (overlapped_side *)rq->driver;
}

/* ------------------------------------------------------------------------------------ requests */

/* Whether a call that failed at once has its packet all the same: one is queued for every status
 * that is no error, and a warning is none. A datagram that is too long can be one. */
static inline int overlapped__warned(const OVERLAPPED *overlapped)
{
    return (uint32_t)overlapped->Internal >> 30 == 2;
}

/* Each returns 0 if a packet will come, else the code that the head request failed with. */

static int32_t overlapped__receive(rio_rq *rq)
{
    overlapped_side *side = overlapped__side(rq);
    rio_request *request = rq_request(&rq->lanes[RIO_RECEIVES], 0);
    iocp_operation *operation = &side->operations[RIO_RECEIVES];
    uint32_t rest = request->length - request->done;
    WSABUF piece = { rest < RQ_TRANSFER_MAX ? rest : RQ_TRANSFER_MAX,
                     request->memory != NULL ? request->memory + request->done : NULL };
    OVERLAPPED *overlapped = iocp_fresh(operation, (HANDLE)rq->socket);
    int result;

    side->flags = 0;
    counts_add(&rq->hub->counts.system_calls, 1);
    if (rq->stream) {
        result = WSARecv((SOCKET)rq->socket, &piece, 1, NULL, &side->flags, overlapped, NULL);
    } else {
        side->address_length = sizeof side->address;
        result =
            WSARecvFrom((SOCKET)rq->socket, &piece, 1, NULL, &side->flags,
                        (struct sockaddr *)&side->address, &side->address_length, overlapped, NULL);
    }
    if (result == 0 || WSAGetLastError() == WSA_IO_PENDING || overlapped__warned(overlapped))
        return 0;
    return codes_winsock((DWORD)WSAGetLastError());
}

static int32_t overlapped__send(rio_rq *rq)
{
    rio_lane *lane = &rq->lanes[RIO_SENDS];
    OVERLAPPED *overlapped =
        iocp_fresh(&overlapped__side(rq)->operations[RIO_SENDS], (HANDLE)rq->socket);
    WSABUF pieces[RQ_GATHER_MAX];
    uint32_t count = rq->stream ? rq_waiting(lane) : 1, total = 0, used = 0;
    int result;

    for (; used < count && used < RQ_GATHER_MAX && total < RQ_TRANSFER_MAX; used++) {
        rio_request *request = rq_request(lane, used);
        uint32_t rest = request->length - request->done;
        if (rest > RQ_TRANSFER_MAX - total)
            rest = RQ_TRANSFER_MAX - total;
        pieces[used] =
            (WSABUF){ rest, request->memory != NULL ? request->memory + request->done : NULL };
        total += rest;
    }
    counts_add(&rq->hub->counts.system_calls, 1);
    if (rq->stream) {
        result = WSASend((SOCKET)rq->socket, pieces, used, NULL, 0, overlapped, NULL);
    } else {
        const struct sockaddr *remote = (struct sockaddr *)rq_envelope(lane, 0)->remote;
        int length = remote == NULL                 ? 0
                     : remote->sa_family == AF_INET ? (int)sizeof(struct sockaddr_in)
                                                    : (int)sizeof(struct sockaddr_in6);
        result =
            WSASendTo((SOCKET)rq->socket, pieces, 1, NULL, 0, remote, length, overlapped, NULL);
    }
    if (result != 0 && WSAGetLastError() != WSA_IO_PENDING && !overlapped__warned(overlapped))
        return codes_winsock((DWORD)WSAGetLastError());
    counts_add(&rq->hub->counts.gathered, used - 1);
    lane->flight = used;
    return 0;
}

static void overlapped__start(rio_hub *hub, rio_rq *rq, enum rio_direction direction)
{
    rio_lane *lane = &rq->lanes[direction];

    if (direction == RIO_RECEIVES)
        rq_recall(rq);
    while (lane->flight == 0 && rq_waiting(lane) != 0 && !rq->retired) {
        int32_t code = direction == RIO_RECEIVES ? overlapped__receive(rq) : overlapped__send(rq);
        if (code == 0) {
            if (lane->flight == 0)
                lane->flight = 1;
            iocp_expect((iocp_port *)hub, &overlapped__side(rq)->operations[direction]);
            return;
        }
        rq_failed(rq, direction, code);
    }
}

/* The result follows with its packet. Those behind it are marked, and end when it has come. */
static int32_t overlapped__recall(rio_hub *hub, rio_rq *rq)
{
    (void)hub;
    iocp_cancel(&overlapped__side(rq)->operations[RIO_RECEIVES]);
    return 0;
}

/* A send without an overlapped structure is answered here, not by a packet. */
static int64_t overlapped__now(rio_rq *rq, enum rio_direction direction, char *memory,
                               uint32_t length)
{
    (void)direction; /* there is no receive_now */
    uint32_t part = length < RQ_TRANSFER_MAX ? length : RQ_TRANSFER_MAX;
    int sent = send((SOCKET)rq->socket, memory, (int)part, 0);
    return sent != SOCKET_ERROR ? sent : -(int64_t)codes_winsock((DWORD)WSAGetLastError());
}

/* ------------------------------------------------------------------------------------- results */

/* The direction is free again: its queue may end, or go on. */
static void overlapped__next(rio_rq *rq, enum rio_direction direction)
{
    if (rq->retired == 2)
        rq_settle(rq);
    else if (!rq->retired)
        overlapped__start(rq->hub, rq, direction);
}

static void overlapped__received(iocp_port *port, iocp_operation *operation, int32_t code,
                                 uint32_t bytes)
{
    overlapped_side *side = CONTAINING_RECORD(operation, overlapped_side, operations[RIO_RECEIVES]);
    rio_rq *rq = side->rq;
    rio_lane *lane = &rq->lanes[RIO_RECEIVES];

    (void)port;
    lane->flight = 0;
    if (!rq->stream && (code == 0 || code == RIO_EMSGSIZE)) {
        rio_request *request = rq_request(lane, 0);
        rq_datagram_received(rq, bytes < request->length ? bytes : request->length, &side->address,
                             (uint32_t)side->address_length, side->flags, code != 0);
    } else if (code == RIO_OPERATION_ABORTED && (rq_request(lane, 0)->flags & RQ_RECALLED) != 0) {
        rq_recall(rq);
    } else if (code != 0) {
        rq_failed(rq, RIO_RECEIVES, code);
    } else if (rq_probes(rq_request(lane, 0))) {
        rq_complete(rq, RIO_RECEIVES, 0);
    } else {
        rq_received(rq, bytes);
    }
    overlapped__next(rq, RIO_RECEIVES);
}

static void overlapped__sent(iocp_port *port, iocp_operation *operation, int32_t code,
                             uint32_t bytes)
{
    overlapped_side *side = CONTAINING_RECORD(operation, overlapped_side, operations[RIO_SENDS]);
    rio_rq *rq = side->rq;

    (void)port;
    rq->lanes[RIO_SENDS].flight = 0;
    if (code != 0)
        rq_failed(rq, RIO_SENDS, code);
    else if (rq->stream)
        rq_sent(rq, bytes);
    else
        rq_datagram_sent(rq, bytes);
    overlapped__next(rq, RIO_SENDS);
}

/* ---------------------------------------------------------------------------------- attachment */

static int32_t overlapped__attach(rio_hub *hub, rio_rq *rq)
{
    overlapped_side *side = overlapped__side(rq);
    int family;
    int32_t code = sockets_kind(rq->socket, &rq->stream, &family);

    if (code == 0)
        code = iocp_join((iocp_port *)hub, (SOCKET)rq->socket);
    if (code != 0)
        return code;
    side->rq = rq;
    side->operations[RIO_RECEIVES].done = overlapped__received;
    side->operations[RIO_SENDS].done = overlapped__sent;
    SOCKADDR_STORAGE peer;
    int length = sizeof peer;
    if (!rq->stream && getpeername((SOCKET)rq->socket, (struct sockaddr *)&peer, &length) != 0) {
        BOOL report = FALSE;
        DWORD unused;
        (void)WSAIoctl((SOCKET)rq->socket, SIO_UDP_CONNRESET, &report, sizeof report, NULL, 0,
                       &unused, NULL, NULL);
    }
    return 0;
}

static void overlapped__detach(rio_hub *hub, rio_rq *rq)
{
    overlapped_side *side = overlapped__side(rq);

    for (int i = 0; i < 2; i++)
        if (rq->lanes[i].flight != 0)
            iocp_cancel(&side->operations[i]);
    for (int turn = 0; turn < RETIRE_TURNS; turn++) {
        if (rq->lanes[RIO_RECEIVES].flight == 0 && rq->lanes[RIO_SENDS].flight == 0)
            return;
        (void)iocp_turn((iocp_port *)hub, turn == 0 ? 0 : 1);
    }
}

/* ---------------------------------------------------------------------------------- the tables */

static int32_t overlapped__wait(rio_port *handle, rio_port_event *events, uint32_t size,
                                int64_t timeout_ns)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, &overlapped_driver, &code);
    return port != NULL ? iocp_wait(port, events, size, timeout_ns) : -code;
}

static void overlapped__progress(rio_hub *hub)
{
    (void)iocp_turn((iocp_port *)hub, 0);
}

static rio_hub *overlapped__open(const rio_port_options *options)
{
    return iocp_open(&overlapped_driver, options, sizeof(iocp_port));
}

static rio_port *overlapped__create(const rio_port_options *options)
{
    return hub_publish(overlapped__open(options));
}

static void overlapped__close(rio_port *handle)
{
    rio_hub *hub = handles_object(handle, HANDLES_PORT);
    if (hub != NULL && hub->driver == &overlapped_driver)
        iocp_shut(hub);
}

static int32_t overlapped__probe(char *reason, uint32_t size)
{
    rio_hub *hub = overlapped__open(NULL);
    if (hub != NULL) {
        iocp_shut(hub);
        return 0;
    }
    if (reason != NULL && size != 0)
        snprintf(reason, size, "No I/O completion port can be made (Winsock error %d).",
                 (int)rio_last_error());
    return rio_errno(rio_last_error());
}

EMULATION_CREATORS(overlapped_, &overlapped_driver)

const rio_driver overlapped_driver = {
    .rq_bytes = sizeof(overlapped_side),
    .open = overlapped__open,
    .shut = iocp_shut,
    .attach = overlapped__attach,
    .detach = overlapped__detach,
    .start = overlapped__start,
    .recall = overlapped__recall,
    .now = overlapped__now,
    .progress = overlapped__progress,
};

const rio_provider overlapped_provider = {
    .size = sizeof(rio_provider),
    .capabilities = RIO_CAP_SEND_MEMORY | RIO_CAP_RECEIVE_MEMORY | RIO_CAP_DATAGRAM |
                    RIO_CAP_SEND_NOW,
    .name = "overlapped",
    .probe = overlapped__probe,
    .rio = EMULATION_TABLE(overlapped__create_completion_queue,
                               overlapped__create_request_queue),
    .port = {
        ENTRIES_OF_PORT,
        .create = overlapped__create,
        .close = overlapped__close,
        .wait = overlapped__wait,
    },
    .send_memory = requests_send_memory,
    .receive_memory = requests_receive_memory,
    .send_now = requests_send_now,
    ENTRIES_OF_PROVIDER,
    .make_socket = hub_any_socket,
    .is_made = hub_not_made,
    .recall_receives = requests_recall,
};
