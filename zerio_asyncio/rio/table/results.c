/* results.c: takes results from a completion queue, or loses them with it.
 *
 * Either way each one frees a place in its request queue (rule 5), and a retired queue ends with
 * its last one. So this is above both kinds of queue, which need not know it.
 *
 * Link:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_riodequeuecompletion
 */
#include "table/results.h"

#include "table/rq.h"

static uint32_t results__take(rio_cq *cq, RIORESULT *results, uint32_t size)
{
    uint32_t count = 0;

    while (count < size && cq->head != cq->tail) {
        const rio_entry *entry = &cq->entries[cq->head++ & cq->mask];
        uintptr_t owner = entry->owner;
        rio_rq *rq = (rio_rq *)(owner & ~CQ_OWNER_BITS);
        rio_lane *lane = &rq->lanes[owner & CQ_OWNER_SENDS];
        RIORESULT *result = &results[count++];
        result->Status = entry->status;
        result->BytesTransferred = entry->bytes;
        result->SocketContext = (uint64_t)(uintptr_t)rq->socket_context;
        result->RequestContext = entry->context;
        cq->loud -= (owner & CQ_OWNER_QUIET) == 0;
        assert(lane->outstanding > 0);
        lane->outstanding--;
        if (RIO_UNLIKELY(rq->retired))
            rq_settle(rq);
    }
    return count;
}

uint32_t RIO_CALL results_dequeue(RIO_CQ handle, RIORESULT *results, uint32_t size)
{
    rio_cq *cq = handles_object(handle, HANDLES_CQ);

    if (RIO_UNLIKELY(cq == NULL)) {
        errors_refuse(RIO_EINVAL);
        return RIO_CORRUPT_CQ;
    }
    if (RIO_UNLIKELY(cq->hub != NULL && !hub_ours(cq->hub))) {
        errors_refuse(RIO_ENETDOWN);
        return RIO_CORRUPT_CQ;
    }
    if (RIO_UNLIKELY(results == NULL && size != 0)) {
        errors_refuse(RIO_EFAULT);
        return RIO_CORRUPT_CQ;
    }
    if (RIO_UNLIKELY(cq->head == cq->tail && !cq->notifies && cq->hub != NULL && size != 0))
        cq->hub->driver->progress(cq->hub);
    return results__take(cq, results, size);
}

void RIO_CALL results_close_queue(RIO_CQ handle)
{
    rio_cq *cq = handles_object(handle, HANDLES_CQ);
    if (cq == NULL)
        return;
    rio_hub *hub = cq->hub;
    handles_close(handle);
    cq_unlink(cq);
    cq->closed = 1;
    cq->armed = 0;
    cq->attached++; /* settling below must not free it under us */
    for (; cq->head != cq->tail; cq->head++) {
        uintptr_t owner = cq->entries[cq->head & cq->mask].owner;
        rio_rq *rq = (rio_rq *)(owner & ~CQ_OWNER_BITS);
        rq->lanes[owner & CQ_OWNER_SENDS].outstanding--;
        if (rq->retired)
            rq_settle(rq);
    }
    if (cq->holds && --hub->holders == 0)
        hub->driver->shut(hub);
    cq_drop_lane(cq);
}
