/* cq.c: completion queues as objects: made, resized, notified, freed.
 *
 * Capacity. RIORESULTs are promised before they exist: RIOCreateRequestQueue reserves as many
 * entries in its completion queues as it may have requests outstanding, and is refused (WSAENOBUFS)
 * if they have fewer left. Our ring has room for what is reserved, not for all that `size` allows,
 * so a queue of RIO_MAX_CQ_SIZE (128 Mi entries) costs nothing until it is used, and
 * RIOResizeCompletionQueue only changes a number.
 *
 * Notification. RIONotify arms; the first loud result disarms and makes one packet, which the
 * port's next wait returns. `loud` counts the waiting results without RIO_MSG_DONT_NOTIFY, so an
 * armed queue never misses one that came between the last dequeue and the arming (rule 7).
 *
 * Lifetime. A completion queue is found by its handle until it is closed, and freed when no request
 * queue points to it any more. Its port knows it, and forgets it when it closes.
 *
 * Links:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_riocreatecompletionqueue
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_rionotify
 */
#include "table/cq.h"

#include <assert.h>
#include <stdlib.h>

#include "table/errors.h"

#define ENTRIES_MIN 64 /* a smaller ring would have to grow at once */

static void cq__link(rio_cq *cq, rio_hub *hub)
{
    assert(cq->hub == NULL);
    cq->hub = hub;
    cq->previous = NULL;
    cq->next = hub->queues;
    if (hub->queues != NULL)
        hub->queues->previous = cq;
    hub->queues = cq;
}

void cq_unlink(rio_cq *cq)
{
    rio_hub *hub = cq->hub;
    if (hub == NULL)
        return;
    *(cq->previous != NULL ? &cq->previous->next : &hub->queues) = cq->next;
    if (cq->next != NULL)
        cq->next->previous = cq->previous;
    if (cq->announced) {
        rio_cq **link = &hub->first_packet, *last = NULL;
        while (*link != cq) {
            last = *link;
            link = &last->next_packet;
        }
        *link = cq->next_packet;
        if (hub->last_packet == cq)
            hub->last_packet = last;
    }
    cq->announced = 0;
    cq->hub = NULL;
}

static void cq__free(rio_cq *cq)
{
    assert(cq->closed && cq->attached == 0);
    free(cq->entries);
    free(cq);
}

/* Where a notification goes: 0 and the port, or a code. */
static int32_t cq__port(const RIO_NOTIFICATION_COMPLETION *notification, rio_hub **hub)
{
    if (notification->Type == RIO_EVENT_COMPLETION)
        return RIO_EOPNOTSUPP;
    if (notification->Type != RIO_IOCP_COMPLETION || notification->u.Iocp.Overlapped == NULL)
        return RIO_EINVAL;
    *hub = handles_object(notification->u.Iocp.IocpHandle, HANDLES_PORT);
    if (*hub == NULL)
        return RIO_EINVAL;
    return hub_ours(*hub) ? 0 : RIO_ENETDOWN;
}

RIO_CQ cq_create(const rio_driver *driver, uint32_t size, RIO_NOTIFICATION_COMPLETION *notification)
{
    rio_hub *hub = NULL;
    int32_t code = size < 1 || size > RIO_MAX_CQ_SIZE ? RIO_EINVAL : 0;

    if (code == 0 && notification != NULL)
        code = cq__port(notification, &hub);
    if (code == 0 && hub != NULL && hub->driver != driver)
        code = RIO_EINVAL; /* another provider's port */
    rio_cq *cq = code == 0 ? calloc(1, sizeof *cq) : NULL;
    if (cq != NULL)
        cq->handle = handles_open(HANDLES_CQ, cq, 0);
    if (cq == NULL || cq->handle == NULL) {
        free(cq);
        errors_refuse(code != 0 ? code : RIO_ENOBUFS);
        return RIO_INVALID_CQ;
    }
    cq->size = size;
    if (hub != NULL) {
        cq->notifies = 1;
        cq->key = (uint64_t)(uintptr_t)notification->u.Iocp.CompletionKey;
        cq->overlapped = notification->u.Iocp.Overlapped;
        cq__link(cq, hub);
    }
    return cq->handle;
}

int32_t RIO_CALL cq_resize(RIO_CQ handle, uint32_t size)
{
    rio_cq *cq = handles_object(handle, HANDLES_CQ);

    if (cq == NULL || size < 1 || size > RIO_MAX_CQ_SIZE)
        return errors_refuse(RIO_EINVAL);
    if (cq->hub != NULL && !hub_ours(cq->hub))
        return errors_refuse(RIO_ENETDOWN);
    if (size < cq->reserved)
        return errors_refuse(RIO_ETOOMANYREFS);
    cq->size = size;
    return 1;
}

/* Promises `more` entries: 1, or 0 if there is no room or no memory. */
int cq_reserve(rio_cq *cq, uint32_t more)
{
    if (more > cq->size - cq->reserved)
        return 0;
    uint32_t reserved = cq->reserved + more;
    if (cq->entries == NULL || reserved > cq->mask + 1) {
        uint32_t length = cq_length(reserved < ENTRIES_MIN ? ENTRIES_MIN : reserved);
        rio_entry *entries = malloc((size_t)length * sizeof *entries);
        if (entries == NULL)
            return 0;
        for (uint32_t i = cq->head; i != cq->tail; i++)
            entries[i & (length - 1)] = cq->entries[i & cq->mask];
        free(cq->entries);
        cq->entries = entries;
        cq->mask = length - 1;
    }
    cq->reserved = reserved;
    return 1;
}

void cq_release(rio_cq *cq, uint32_t fewer)
{
    assert(fewer <= cq->reserved);
    cq->reserved -= fewer;
}

void cq_drop_lane(rio_cq *cq)
{
    assert(cq->attached > 0);
    if (--cq->attached == 0 && cq->closed)
        cq__free(cq);
}

void cq_join(rio_cq *cq, rio_hub *hub, int holds)
{
    if (cq->hub != NULL)
        return;
    cq__link(cq, hub);
    cq->holds = (uint8_t)holds;
    hub->holders += (uint32_t)holds;
}

int32_t RIO_CALL cq_notify(RIO_CQ handle)
{
    rio_cq *cq = handles_object(handle, HANDLES_CQ);

    if (RIO_UNLIKELY(cq == NULL || !cq->notifies || cq->hub == NULL))
        return RIO_EINVAL;
    if (RIO_UNLIKELY(!hub_ours(cq->hub)))
        return RIO_ENETDOWN;
    if (cq->armed)
        return RIO_EALREADY;
    cq->armed = 1;
    if (cq->loud != 0)
        cq_fire(cq);
    return 0;
}

void cq_fire(rio_cq *cq)
{
    rio_hub *hub = cq->hub;

    assert(cq->armed && cq->notifies && !cq->closed);
    cq->armed = 0;
    if (hub == NULL || cq->announced)
        return; /* a packet that nobody has taken yet already says so */
    cq->announced = 1;
    cq->next_packet = NULL;
    if (hub->last_packet != NULL)
        hub->last_packet->next_packet = cq;
    else
        hub->first_packet = cq;
    hub->last_packet = cq;
}

/* Takes due notifications, at most `size`; the port's wait calls it. */
uint32_t cq_packets(rio_hub *hub, rio_port_event *events, uint32_t size)
{
    uint32_t count = 0;

    while (count < size && hub->first_packet != NULL) {
        rio_cq *cq = hub->first_packet;
        rio_port_event *event = &events[count++];
        event->kind = RIO_PORT_NOTIFY;
        event->status = 0;
        event->key = cq->key;
        event->overlapped = cq->overlapped;
        event->value = 0;
        cq->announced = 0;
        hub->first_packet = cq->next_packet;
        if (hub->first_packet == NULL)
            hub->last_packet = NULL;
    }
    return count;
}
