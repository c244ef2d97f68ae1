/* queues.c: completion queues and request queues as objects: made, resized, retired, freed.
 *
 * Capacity. RIORESULTs are promised before they exist: RIOCreateRequestQueue reserves as many
 * entries in its completion queues as it may have requests outstanding, and is refused (WSAENOBUFS)
 * if they have not that many left. Our ring is as long as what is reserved, not as long as `size`
 * allows, so a queue of RIO_MAX_CQ_SIZE (128 Mi entries) costs nothing until it is used, and
 * RIOResizeCompletionQueue only changes a number.
 *
 * Lifetimes. A request queue is found by its handle until it is retired, and freed when it is
 * retired and its last result was dequeued; then its reservation returns. A completion queue is
 * found by its handle until it is closed, and freed when no request queue points to it any more.
 * A port knows its completion queues (to take leave when it closes) and its living request queues
 * (by descriptor, for retire and to refuse a second one).
 *
 * Queues without notification are not bound to a port by their caller. Such a queue takes the port
 * of its partner when a request queue joins the two; if both are free, a private port is made for
 * them, and closed with the last of them. Requests of a private port end with its queues.
 *
 * What can go wrong. Every function here either does all it says or changes nothing (rule 1), so
 * memory is allocated before anything is counted.
 *
 * Links:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_riocreaterequestqueue
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_riocreatecompletionqueue
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_rioresizerequestqueue
 */
#include "emulation.h"

#include <stdlib.h>
#include <string.h>

/* Rings and tables start with this many entries: smaller ones would only be grown at once. */
#define RING_MIN 64
#define TABLE_MIN 64

static uint32_t rio__power_of_two(uint32_t least)
{
    uint32_t power = 1;
    while (power < least)
        power *= 2;
    return power;
}

/* ----------------------------------------------------------------------- completion queues */

static void rio__cq_link(rio_cq *cq, rio_core *core)
{
    assert(cq->core == NULL);
    cq->core = core;
    cq->previous = NULL;
    cq->next = core->queues;
    if (core->queues != NULL)
        core->queues->previous = cq;
    core->queues = cq;
}

static void rio__cq_unlink(rio_cq *cq)
{
    rio_core *core = cq->core;
    if (core == NULL)
        return;
    *(cq->previous != NULL ? &cq->previous->next : &core->queues) = cq->next;
    if (cq->next != NULL)
        cq->next->previous = cq->previous;
    if (cq->announced) {
        rio_cq **link = &core->first_packet, *last = NULL;
        while (*link != cq) {
            last = *link;
            link = &last->next_packet;
        }
        *link = cq->next_packet;
        if (core->last_packet == cq)
            core->last_packet = last;
    }
    cq->announced = 0;
    cq->core = NULL;
}

static void rio__cq_free(rio_cq *cq)
{
    assert(cq->closed && cq->attached == 0);
    free(cq->ring);
    free(cq);
}

/* Where a notification goes: 0 and the port, or a code. */
static int32_t rio__cq_port(const RIO_NOTIFICATION_COMPLETION *notification, rio_core **core)
{
    if (notification->Type == RIO_EVENT_COMPLETION)
        return RIO_EOPNOTSUPP;
    if (notification->Type != RIO_IOCP_COMPLETION || notification->u.Iocp.Overlapped == NULL)
        return RIO_EINVAL;
    *core = rio_handle_object(notification->u.Iocp.IocpHandle, RIO_KIND_PORT);
    if (*core == NULL)
        return RIO_EINVAL;
    return rio_core_ours(*core) ? 0 : RIO_ENETDOWN;
}

RIO_CQ rio_emulation_create_completion_queue(const rio_driver *driver, uint32_t size,
                                             RIO_NOTIFICATION_COMPLETION *notification)
{
    rio_core *core = NULL;
    int32_t code = size < 1 || size > RIO_MAX_CQ_SIZE ? RIO_EINVAL : 0;

    if (code == 0 && notification != NULL)
        code = rio__cq_port(notification, &core);
    if (code == 0 && core != NULL && core->driver != driver)
        code = RIO_EINVAL; /* another provider's port */
    rio_cq *cq = code == 0 ? calloc(1, sizeof *cq) : NULL;
    if (cq != NULL)
        cq->handle = rio_handle_open(RIO_KIND_CQ, cq, 0);
    if (cq == NULL || cq->handle == NULL) {
        free(cq);
        rio_refuse(code != 0 ? code : RIO_ENOBUFS);
        return RIO_INVALID_CQ;
    }
    cq->size = size;
    if (core != NULL) {
        cq->notifies = 1;
        cq->key = (uint64_t)(uintptr_t)notification->u.Iocp.CompletionKey;
        cq->overlapped = notification->u.Iocp.Overlapped;
        rio__cq_link(cq, core);
    }
    return cq->handle;
}

void RIO_CALL rio_emulation_close_completion_queue(RIO_CQ handle)
{
    rio_cq *cq = rio_handle_object(handle, RIO_KIND_CQ);
    if (cq == NULL)
        return;
    rio_core *core = cq->core;
    rio_handle_close(handle);
    rio__cq_unlink(cq);
    cq->closed = 1;
    cq->armed = 0;
    cq->attached++; /* settling below must not free it under our feet */
    for (; cq->head != cq->tail; cq->head++) {
        uintptr_t owner = cq->ring[cq->head & cq->mask].owner;
        rio_rq *rq = (rio_rq *)(owner & ~RIO_OWNER_BITS);
        rq->lanes[owner & RIO_OWNER_SENDS].outstanding--;
        if (rq->retired)
            rio_rq_settle(rq);
    }
    if (cq->holds && --core->holders == 0)
        core->driver->shut(core);
    rio_cq_drop_lane(cq);
}

int32_t RIO_CALL rio_emulation_resize_completion_queue(RIO_CQ handle, uint32_t size)
{
    rio_cq *cq = rio_handle_object(handle, RIO_KIND_CQ);

    if (cq == NULL || size < 1 || size > RIO_MAX_CQ_SIZE)
        return rio_refuse(RIO_EINVAL);
    if (cq->core != NULL && !rio_core_ours(cq->core))
        return rio_refuse(RIO_ENETDOWN);
    if (size < cq->reserved)
        return rio_refuse(RIO_ETOOMANYREFS);
    cq->size = size;
    return 1;
}

/* Promises `more` entries: 1, or 0 when there is no room or no memory. */
int rio_cq_reserve(rio_cq *cq, uint32_t more)
{
    if (more > cq->size - cq->reserved)
        return 0;
    uint32_t reserved = cq->reserved + more;
    if (cq->ring == NULL || reserved > cq->mask + 1) {
        uint32_t length = rio__power_of_two(reserved < RING_MIN ? RING_MIN : reserved);
        rio_entry *ring = malloc((size_t)length * sizeof *ring);
        if (ring == NULL)
            return 0;
        for (uint32_t i = cq->head; i != cq->tail; i++)
            ring[i & (length - 1)] = cq->ring[i & cq->mask];
        free(cq->ring);
        cq->ring = ring;
        cq->mask = length - 1;
    }
    cq->reserved = reserved;
    return 1;
}

void rio_cq_release(rio_cq *cq, uint32_t fewer)
{
    assert(fewer <= cq->reserved);
    cq->reserved -= fewer;
}

void rio_cq_drop_lane(rio_cq *cq)
{
    assert(cq->attached > 0);
    if (--cq->attached == 0 && cq->closed)
        rio__cq_free(cq);
}

/* -------------------------------------------------------------------------- request queues */

static int rio__lane_make(const rio_rq *rq, rio_lane *lane, uint32_t limit)
{
    uint32_t length = rio__power_of_two(limit);
    rio_request *requests = malloc(length * sizeof *requests);
    rio_envelope *envelopes = rq->stream ? NULL : malloc(length * sizeof *envelopes);
    rio_lease *leases = rq->leases ? malloc(length * sizeof *leases) : NULL;
    if (requests == NULL || (!rq->stream && envelopes == NULL) ||
        (rq->leases && leases == NULL)) {
        free(requests);
        free(envelopes);
        free(leases);
        return 0;
    }
    for (uint32_t i = lane->head; i != lane->tail; i++) {
        requests[i & (length - 1)] = lane->requests[i & lane->mask];
        if (envelopes != NULL)
            envelopes[i & (length - 1)] = lane->envelopes[i & lane->mask];
        if (leases != NULL)
            leases[i & (length - 1)] = lane->leases[i & lane->mask];
    }
    free(lane->requests);
    free(lane->envelopes);
    free(lane->leases);
    lane->requests = requests;
    lane->envelopes = envelopes;
    lane->leases = leases;
    lane->mask = length - 1;
    return 1;
}

static void rio__rq_free(rio_rq *rq)
{
    for (int i = 0; i < 2; i++) {
        free(rq->lanes[i].requests);
        free(rq->lanes[i].envelopes);
        free(rq->lanes[i].leases);
    }
    free(rq);
}

static int rio__rq_reserve(rio_rq *rq, uint32_t receives, uint32_t sends)
{
    if (!rio_cq_reserve(rq->lanes[RIO_RECEIVES].cq, receives))
        return 0;
    if (rio_cq_reserve(rq->lanes[RIO_SENDS].cq, sends))
        return 1;
    rio_cq_release(rq->lanes[RIO_RECEIVES].cq, receives);
    return 0;
}

/* The port on which two completion queues meet; made if neither has one. */
static int32_t rio__common_port(const rio_driver *driver, rio_cq *one, rio_cq *other,
                                rio_core **core)
{
    if ((one->notifies && one->core == NULL) || (other->notifies && other->core == NULL))
        return RIO_EINVAL; /* their port is closed */
    if (one->core != NULL && other->core != NULL && one->core != other->core)
        return RIO_EINVAL;
    *core = one->core != NULL ? one->core : other->core;
    if (*core == NULL)
        return (*core = driver->open(NULL)) != NULL ? 0 : rio_last_error();
    if ((*core)->driver != driver)
        return RIO_EINVAL;
    return rio_core_ours(*core) ? 0 : RIO_ENETDOWN;
}

static void rio__join(rio_cq *cq, rio_core *core, int holds)
{
    if (cq->core != NULL)
        return;
    rio__cq_link(cq, core);
    cq->holds = (uint8_t)holds;
    core->holders += (uint32_t)holds;
}

static int rio__table_add(rio_core *core, rio_rq *rq)
{
    if (core->table == NULL || core->table_count > core->table_mask) {
        uint32_t length = core->table == NULL ? TABLE_MIN : 2 * (core->table_mask + 1);
        rio_rq **table = calloc(length, sizeof(rio_rq *));
        if (table == NULL)
            return 0;
        for (uint32_t i = 0; core->table != NULL && i <= core->table_mask; i++) {
            for (rio_rq *next, *each = core->table[i]; each != NULL; each = next) {
                next = each->next;
                each->next = table[each->socket & (length - 1)];
                table[each->socket & (length - 1)] = each;
            }
        }
        free(core->table);
        core->table = table;
        core->table_mask = length - 1;
    }
    rq->next = core->table[rq->socket & core->table_mask];
    core->table[rq->socket & core->table_mask] = rq;
    core->table_count++;
    return 1;
}

static void rio__table_remove(rio_core *core, rio_rq *rq)
{
    rio_rq **link = &core->table[rq->socket & core->table_mask];
    while (*link != rq)
        link = &(*link)->next;
    *link = rq->next;
    core->table_count--;
}

rio_rq *rio_core_find(const rio_core *core, rio_socket socket)
{
    if (core->table == NULL)
        return NULL;
    rio_rq *rq = core->table[socket & core->table_mask];
    while (rq != NULL && rq->socket != socket)
        rq = rq->next;
    return rq;
}

/* Everything of a new request queue that can fail, in an order that can be taken back. */
static int32_t rio__rq_build(rio_core *core, rio_rq *rq, uint32_t receives, uint32_t sends)
{
    int32_t code = RIO_ENOBUFS;

    rq->core = core;
    rq->lanes[RIO_RECEIVES].limit = receives;
    rq->lanes[RIO_SENDS].limit = sends;
    if (!rio__rq_reserve(rq, receives, sends))
        return code;
    rq->handle = rio_handle_open(RIO_KIND_RQ, rq, 0);
    if (rq->handle == NULL)
        goto release;
    if (!rio__table_add(core, rq))
        goto close;
    code = core->driver->attach(core, rq);
    if (code != 0)
        goto remove;
    code = RIO_ENOBUFS;
    if (!rio__lane_make(rq, &rq->lanes[RIO_RECEIVES], receives) ||
        !rio__lane_make(rq, &rq->lanes[RIO_SENDS], sends))
        goto detach;
    rq->lanes[RIO_RECEIVES].cq->attached++;
    rq->lanes[RIO_SENDS].cq->attached++;
    return 0;
detach:
    core->driver->detach(core, rq);
remove:
    rio__table_remove(core, rq);
close:
    rio_handle_close(rq->handle);
release:
    rio_cq_release(rq->lanes[RIO_RECEIVES].cq, receives);
    rio_cq_release(rq->lanes[RIO_SENDS].cq, sends);
    return code;
}

RIO_RQ rio_emulation_create_request_queue(const rio_driver *driver, rio_socket socket,
                                          uint32_t max_receives, uint32_t max_receive_buffers,
                                          uint32_t max_sends, uint32_t max_send_buffers,
                                          RIO_CQ receive_cq, RIO_CQ send_cq, void *context)
{
    rio_cq *receives = rio_handle_object(receive_cq, RIO_KIND_CQ);
    rio_cq *sends = rio_handle_object(send_cq, RIO_KIND_CQ);
    rio_core *core = NULL;
    int32_t code = 0;

    if (receives == NULL || sends == NULL || max_receive_buffers != 1 || max_send_buffers != 1 ||
        max_receives > RIO_LANE_MAX || max_sends > RIO_LANE_MAX || max_receives + max_sends == 0)
        code = RIO_EINVAL;
    if (code == 0)
        code = rio__common_port(driver, receives, sends, &core);
    int private_port = code == 0 && receives->core == NULL && sends->core == NULL;
    if (code == 0 && rio_core_find(core, socket) != NULL)
        code = RIO_EINVAL;
    rio_rq *rq = code == 0 ? calloc(1, sizeof *rq + driver->rq_bytes) : NULL;
    if (code == 0 && rq == NULL)
        code = RIO_ENOBUFS;
    if (code == 0) {
        rq->socket = socket;
        rq->socket_context = context;
        rq->lanes[RIO_RECEIVES].cq = receives;
        rq->lanes[RIO_SENDS].cq = sends;
        code = rio__rq_build(core, rq, max_receives, max_sends);
        if (code != 0)
            rio__rq_free(rq);
    }
    if (code != 0) {
        if (private_port)
            driver->shut(core);
        rio_refuse(code);
        return RIO_INVALID_RQ;
    }
    rio__join(receives, core, private_port);
    rio__join(sends, core, private_port);
    return rq->handle;
}

int32_t RIO_CALL rio_emulation_resize_request_queue(RIO_RQ handle, uint32_t max_receives,
                                                    uint32_t max_sends)
{
    rio_rq *rq = rio_handle_object(handle, RIO_KIND_RQ);
    uint32_t limits[2] = { max_receives, max_sends }, more[2];

    if (rq == NULL || max_receives > RIO_LANE_MAX || max_sends > RIO_LANE_MAX ||
        max_receives + max_sends == 0)
        return rio_refuse(RIO_EINVAL);
    if (!rio_core_ours(rq->core))
        return rio_refuse(RIO_ENETDOWN);
    for (int i = 0; i < 2; i++) {
        if (limits[i] < rq->lanes[i].outstanding)
            return rio_refuse(RIO_ETOOMANYREFS);
        more[i] = limits[i] > rq->lanes[i].limit ? limits[i] - rq->lanes[i].limit : 0;
    }
    if (!rio__rq_reserve(rq, more[RIO_RECEIVES], more[RIO_SENDS]))
        return rio_refuse(RIO_ENOBUFS);
    for (int i = 0; i < 2; i++) {
        rio_lane *lane = &rq->lanes[i];
        if (limits[i] > lane->mask + 1 && !rio__lane_make(rq, lane, limits[i])) {
            rio_cq_release(rq->lanes[RIO_RECEIVES].cq, more[RIO_RECEIVES]);
            rio_cq_release(rq->lanes[RIO_SENDS].cq, more[RIO_SENDS]);
            return rio_refuse(RIO_ENOBUFS);
        }
    }
    for (int i = 0; i < 2; i++) {
        rio_lane *lane = &rq->lanes[i];
        if (limits[i] < lane->limit)
            rio_cq_release(lane->cq, lane->limit - limits[i]);
        lane->limit = limits[i];
    }
    return 1;
}

void rio_rq_settle(rio_rq *rq)
{
    assert(rq->retired);
    for (int i = 0; i < 2; i++) {
        rio_lane *lane = &rq->lanes[i];
        while (lane->flight == 0 && lane->head != lane->tail)
            rio_complete(rq, (enum rio_direction)i, RIO_OPERATION_ABORTED);
    }
    if (rq->lanes[RIO_RECEIVES].outstanding != 0 || rq->lanes[RIO_SENDS].outstanding != 0)
        return;
    for (int i = 0; i < 2; i++) {
        rio_cq_release(rq->lanes[i].cq, rq->lanes[i].limit);
        rio_cq_drop_lane(rq->lanes[i].cq);
    }
    rio__rq_free(rq);
}

/* -------------------------------------------------------------------------------- the core */

void rio_core_begin(rio_core *core, const rio_driver *driver, const volatile uint32_t *mark,
                    uint32_t era)
{
    core->driver = driver;
    core->mark = mark;
    core->era = era;
}

rio_core *rio_core_of(const rio_port *handle, const rio_driver *driver, int32_t *code)
{
    rio_core *core = rio_handle_object(handle, RIO_KIND_PORT);
    if (RIO_UNLIKELY(core == NULL || (driver != NULL && core->driver != driver))) {
        *code = RIO_EINVAL;
        return NULL;
    }
    if (RIO_UNLIKELY(!rio_core_ours(core))) {
        *code = RIO_ENETDOWN;
        return NULL;
    }
    return core;
}

rio_port *rio_core_publish(rio_core *core)
{
    if (core == NULL)
        return NULL;
    core->handle = rio_handle_open(RIO_KIND_PORT, core, 0);
    if (core->handle != NULL)
        return core->handle;
    core->driver->shut(core);
    rio_refuse(RIO_ENOBUFS);
    return NULL;
}

static void rio__retire(rio_core *core, rio_rq *rq)
{
    rio__table_remove(core, rq);
    rio_handle_close(rq->handle);
    rq->retired = 1;
    core->driver->detach(core, rq);
    rq->retired = 2; /* only now: results that detach itself made must not free the queue */
    rio_rq_settle(rq);
}

void rio_core_retire(rio_core *core, rio_socket socket)
{
    rio_rq *rq = rio_core_find(core, socket);
    if (rq != NULL)
        rio__retire(core, rq);
}

void rio_core_end(rio_core *core)
{
    if (core->handle != NULL)
        rio_handle_close(core->handle);
    core->handle = NULL;
    for (uint32_t i = 0; core->table != NULL && i <= core->table_mask; i++)
        while (core->table[i] != NULL)
            rio__retire(core, core->table[i]);
    free(core->table);
    core->table = NULL;
    while (core->queues != NULL)
        rio__cq_unlink(core->queues);
}
