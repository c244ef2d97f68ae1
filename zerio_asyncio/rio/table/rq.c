/* rq.c: request queues as objects: made, resized, retired, freed.
 *
 * Lifetime. A request queue is found by its handle until it is retired, and freed when it is
 * retired and its last result was dequeued, because results carry its address; then its reservation
 * returns. A port knows its live request queues by descriptor, to retire them and to refuse a
 * second one.
 *
 * A caller does not bind queues without notification to a port. Such a queue takes the port of its
 * partner when a request queue joins the two; if both are free, a private port is made for them,
 * and closed with the last of them. Requests of a private port end with its queues.
 *
 * What can go wrong. Every function here either does everything or changes nothing (rule 1), so
 * memory is allocated before anything is counted. That of the sends is allocated with the first
 * one: most connections send by calls (send_now) alone.
 *
 * Links:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_riocreaterequestqueue
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_rioresizerequestqueue
 */
#include "table/rq.h"

#include <stdlib.h>
#include <string.h>

#define TABLE_MIN 64 /* descriptors: a smaller table would have to grow at once */

static int rq__lane_make(const rio_rq *rq, rio_lane *lane, uint32_t limit)
{
    uint32_t length = cq_length(limit);
    rio_request *requests = malloc(length * sizeof *requests);
    rio_envelope *envelopes = rq->stream ? NULL : malloc(length * sizeof *envelopes);
    rio_lease *leases = rq->leases ? malloc(length * sizeof *leases) : NULL;
    if (requests == NULL || (!rq->stream && envelopes == NULL) || (rq->leases && leases == NULL)) {
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

int rq_begin(const rio_rq *rq, rio_lane *lane)
{
    return rq__lane_make(rq, lane, lane->limit);
}

static void rq__free(rio_rq *rq)
{
    for (int i = 0; i < 2; i++) {
        free(rq->lanes[i].requests);
        free(rq->lanes[i].envelopes);
        free(rq->lanes[i].leases);
    }
    free(rq);
}

static int rq__reserve(rio_rq *rq, uint32_t receives, uint32_t sends)
{
    if (!cq_reserve(rq->lanes[RIO_RECEIVES].cq, receives))
        return 0;
    if (cq_reserve(rq->lanes[RIO_SENDS].cq, sends))
        return 1;
    cq_release(rq->lanes[RIO_RECEIVES].cq, receives);
    return 0;
}

/* The port on which two completion queues meet; made if neither has one. */
static int32_t rq__common_port(const rio_driver *driver, rio_cq *one, rio_cq *other, rio_hub **hub)
{
    if ((one->notifies && one->hub == NULL) || (other->notifies && other->hub == NULL))
        return RIO_EINVAL; /* their port is closed */
    if (one->hub != NULL && other->hub != NULL && one->hub != other->hub)
        return RIO_EINVAL;
    *hub = one->hub != NULL ? one->hub : other->hub;
    if (*hub == NULL)
        return (*hub = driver->open(NULL)) != NULL ? 0 : rio_last_error();
    if ((*hub)->driver != driver)
        return RIO_EINVAL;
    return hub_ours(*hub) ? 0 : RIO_ENETDOWN;
}

static int rq__table_add(rio_hub *hub, rio_rq *rq)
{
    if (hub->table == NULL || hub->table_count > hub->table_mask) {
        uint32_t length = hub->table == NULL ? TABLE_MIN : 2 * (hub->table_mask + 1);
        rio_rq **table = calloc(length, sizeof(rio_rq *));
        if (table == NULL)
            return 0;
        for (uint32_t i = 0; hub->table != NULL && i <= hub->table_mask; i++) {
            for (rio_rq *next, *each = hub->table[i]; each != NULL; each = next) {
                next = each->next;
                each->next = table[each->socket & (length - 1)];
                table[each->socket & (length - 1)] = each;
            }
        }
        free(hub->table);
        hub->table = table;
        hub->table_mask = length - 1;
    }
    rq->next = hub->table[rq->socket & hub->table_mask];
    hub->table[rq->socket & hub->table_mask] = rq;
    hub->table_count++;
    return 1;
}

static void rq__table_remove(rio_hub *hub, rio_rq *rq)
{
    rio_rq **link = &hub->table[rq->socket & hub->table_mask];
    while (*link != rq)
        link = &(*link)->next;
    *link = rq->next;
    hub->table_count--;
}

rio_rq *rq_find(const rio_hub *hub, rio_socket socket)
{
    if (hub->table == NULL)
        return NULL;
    rio_rq *rq = hub->table[socket & hub->table_mask];
    while (rq != NULL && rq->socket != socket)
        rq = rq->next;
    return rq;
}

/* Everything in making a request queue that can fail, in an order that can be undone. */
static int32_t rq__build(rio_hub *hub, rio_rq *rq, uint32_t receives, uint32_t sends)
{
    int32_t code = RIO_ENOBUFS;

    rq->hub = hub;
    rq->lanes[RIO_RECEIVES].limit = receives;
    rq->lanes[RIO_SENDS].limit = sends;
    if (!rq__reserve(rq, receives, sends))
        return code;
    rq->handle = handles_open(HANDLES_RQ, rq, 0);
    if (rq->handle == NULL)
        goto release;
    if (!rq__table_add(hub, rq))
        goto close;
    code = hub->driver->attach(hub, rq);
    if (code != 0)
        goto remove;
    code = RIO_ENOBUFS;
    if (!rq__lane_make(rq, &rq->lanes[RIO_RECEIVES], receives))
        goto detach;
    rq->lanes[RIO_RECEIVES].cq->attached++;
    rq->lanes[RIO_SENDS].cq->attached++;
    return 0;
detach:
    hub->driver->detach(hub, rq);
remove:
    rq__table_remove(hub, rq);
close:
    handles_close(rq->handle);
release:
    cq_release(rq->lanes[RIO_RECEIVES].cq, receives);
    cq_release(rq->lanes[RIO_SENDS].cq, sends);
    return code;
}

RIO_RQ rq_create(const rio_driver *driver, rio_socket socket, uint32_t max_receives,
                 uint32_t max_receive_buffers, uint32_t max_sends, uint32_t max_send_buffers,
                 RIO_CQ receive_cq, RIO_CQ send_cq, void *context)
{
    rio_cq *receives = handles_object(receive_cq, HANDLES_CQ);
    rio_cq *sends = handles_object(send_cq, HANDLES_CQ);
    rio_hub *hub = NULL;
    int32_t code = 0;

    if (receives == NULL || sends == NULL || max_receive_buffers != 1 || max_send_buffers != 1 ||
        max_receives > RQ_LANE_MAX || max_sends > RQ_LANE_MAX || max_receives + max_sends == 0)
        code = RIO_EINVAL;
    if (code == 0)
        code = rq__common_port(driver, receives, sends, &hub);
    int private_port = code == 0 && receives->hub == NULL && sends->hub == NULL;
    if (code == 0 && rq_find(hub, socket) != NULL)
        code = RIO_EINVAL;
    rio_rq *rq = code == 0 ? calloc(1, sizeof *rq + driver->rq_bytes) : NULL;
    if (code == 0 && rq == NULL)
        code = RIO_ENOBUFS;
    if (code == 0) {
        rq->socket = socket;
        rq->socket_context = context;
        rq->lanes[RIO_RECEIVES].cq = receives;
        rq->lanes[RIO_SENDS].cq = sends;
        code = rq__build(hub, rq, max_receives, max_sends);
        if (code != 0)
            rq__free(rq);
    }
    if (hub != NULL)
        hub->known = RIO_INVALID_SOCKET;
    if (code != 0) {
        if (private_port)
            driver->shut(hub);
        errors_refuse(code);
        return RIO_INVALID_RQ;
    }
    cq_join(receives, hub, private_port);
    cq_join(sends, hub, private_port);
    return rq->handle;
}

int32_t RIO_CALL rq_resize(RIO_RQ handle, uint32_t max_receives, uint32_t max_sends)
{
    rio_rq *rq = handles_object(handle, HANDLES_RQ);
    uint32_t limits[2] = { max_receives, max_sends }, more[2];

    if (rq == NULL || max_receives > RQ_LANE_MAX || max_sends > RQ_LANE_MAX ||
        max_receives + max_sends == 0)
        return errors_refuse(RIO_EINVAL);
    if (!hub_ours(rq->hub))
        return errors_refuse(RIO_ENETDOWN);
    for (int i = 0; i < 2; i++) {
        if (limits[i] < rq->lanes[i].outstanding)
            return errors_refuse(RIO_ETOOMANYREFS);
        more[i] = limits[i] > rq->lanes[i].limit ? limits[i] - rq->lanes[i].limit : 0;
    }
    if (!rq__reserve(rq, more[RIO_RECEIVES], more[RIO_SENDS]))
        return errors_refuse(RIO_ENOBUFS);
    for (int i = 0; i < 2; i++) {
        rio_lane *lane = &rq->lanes[i];
        if (lane->requests != NULL && limits[i] > lane->mask + 1 &&
            !rq__lane_make(rq, lane, limits[i])) {
            cq_release(rq->lanes[RIO_RECEIVES].cq, more[RIO_RECEIVES]);
            cq_release(rq->lanes[RIO_SENDS].cq, more[RIO_SENDS]);
            return errors_refuse(RIO_ENOBUFS);
        }
    }
    for (int i = 0; i < 2; i++) {
        rio_lane *lane = &rq->lanes[i];
        if (limits[i] < lane->limit)
            cq_release(lane->cq, lane->limit - limits[i]);
        lane->limit = limits[i];
    }
    return 1;
}

void rq_settle(rio_rq *rq)
{
    assert(rq->retired);
    for (int i = 0; i < 2; i++) {
        rio_lane *lane = &rq->lanes[i];
        while (lane->flight == 0 && lane->head != lane->tail)
            rq_complete(rq, (enum rio_direction)i, RIO_OPERATION_ABORTED);
    }
    if (rq->lanes[RIO_RECEIVES].outstanding != 0 || rq->lanes[RIO_SENDS].outstanding != 0)
        return;
    for (int i = 0; i < 2; i++) {
        cq_release(rq->lanes[i].cq, rq->lanes[i].limit);
        cq_drop_lane(rq->lanes[i].cq);
    }
    rq__free(rq);
}

static void rq__retire(rio_hub *hub, rio_rq *rq)
{
    rq__table_remove(hub, rq);
    handles_close(rq->handle);
    rq->retired = 1;
    hub->driver->detach(hub, rq);
    rq->retired = 2; /* only now: results that detach made must not free the queue */
    rq_settle(rq);
}

void rq_retire(rio_hub *hub, rio_socket socket)
{
    rio_rq *rq = rq_find(hub, socket);
    if (rq != NULL)
        rq__retire(hub, rq);
}

void rq_end_all(rio_hub *hub)
{
    if (hub->handle != NULL)
        handles_close(hub->handle);
    hub->handle = NULL;
    for (uint32_t i = 0; hub->table != NULL && i <= hub->table_mask; i++)
        while (hub->table[i] != NULL)
            rq__retire(hub, hub->table[i]);
    free(hub->table);
    hub->table = NULL;
    while (hub->queues != NULL)
        cq_unlink(hub->queues);
}

/* -------------------------------------------------------------------------- requests that end */

void rq_end_lease(const rio_driver *driver, const rio_lease *lease)
{
    void *const held[] = { lease->data, lease->remote, lease->flags };
    for (int i = 0; i < 3; i++)
        if (held[i] != NULL)
            driver->let_go(held[i]);
}

void rq_datagram_received(rio_rq *rq, uint32_t bytes, const void *address, uint32_t length,
                          uint32_t flags, int truncated)
{
    rio_lane *lane = &rq->lanes[RIO_RECEIVES];
    rio_request *request = rq_request(lane, 0);
    const rio_envelope *envelope = rq_envelope(lane, 0);

    assert(bytes <= request->length);
    if (envelope->remote != NULL) {
        RIO_SOCKADDR_INET remote = { 0 };
        memcpy(&remote, address, length < sizeof remote ? length : sizeof remote);
        memcpy(envelope->remote, &remote, sizeof remote);
    }
    if (envelope->flags != NULL)
        memcpy(envelope->flags, &flags, sizeof flags);
    counts_add(&rq->hub->counts.bytes_received, bytes);
    request->done = bytes;
    rq_complete(rq, RIO_RECEIVES, truncated ? RIO_EMSGSIZE : 0);
}

void rq_datagram_sent(rio_rq *rq, uint32_t bytes)
{
    rio_request *request = rq_request(&rq->lanes[RIO_SENDS], 0);
    counts_add(&rq->hub->counts.bytes_sent, bytes);
    request->done = bytes;
    rq_complete(rq, RIO_SENDS, bytes == request->length ? 0 : RIO_EMSGSIZE);
}
