/* emulation.c: requests, results, notifications and buffers of Registered I/O in user space.
 *
 * What it is. Windows keeps RIO's queues in memory that the kernel shares. Where the system has no
 * such thing, this file and queues.c keep them, and a driver (epoll.c, uring.c) moves the bytes:
 *
 *     RIOReceive, RIOSend ─→ lane of the request queue ─→ driver ─→ completion queue ─→ Dequeue
 *                            (ring, preallocated)                   (ring, reserved)
 *
 * A request is 32 bytes in a ring that RIOCreateRequestQueue allocated; nothing is allocated
 * or cleared for a request. A driver works on the head of a lane only, so results come in the
 * order of the requests whatever the system does underneath (rule 2). A result takes a place that
 * was reserved when the request queue was made, so a completion queue cannot overflow (rule 5).
 *
 * Registered buffers. A registration is a slot of the handle table: address and length. It is
 * resolved to an address when the request is made and not needed after that, so a buffer that is
 * deregistered while requests are in flight refuses new ones (WSAEFAULT) and harms none that are
 * under way; there is nothing to count. The memory itself belongs to whoever registered it. It is
 * not pinned: handing registered memory to io_uring was measured and gained nothing.
 *
 * Notification. RIONotify arms; the first loud result disarms and makes one packet, which the
 * port's next wait returns. `loud` counts the waiting results without RIO_MSG_DONT_NOTIFY, so an
 * armed queue never misses one that came between the last dequeue and the arming (rule 7).
 *
 * What can go wrong. A caller may pass anything (rule 13): handles are checked by handles.c, slices
 * against the length of their registration, flags against what Microsoft documents. A retired queue
 * (closed socket) lives on until its last result is dequeued, because results carry its address. A
 * completion queue that is closed under its request queues stays as a husk for the same reason.
 *
 * Links:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_riosend
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_rioreceiveex
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_rionotify
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_riodequeuecompletion
 */
#include "emulation.h"

#include <string.h>

/* ------------------------------------------------------------------------------- requests */

/* What a request may say of each direction, RIO_MSG_COMMIT_ONLY apart. */
static const uint32_t rio__flags_of[2] = {
    [RIO_RECEIVES] = RIO_MSG_DONT_NOTIFY | RIO_MSG_DEFER | RIO_MSG_WAITALL,
    [RIO_SENDS] = RIO_MSG_DONT_NOTIFY | RIO_MSG_DEFER,
};

static rio_rq *rio__queue(RIO_RQ handle, int32_t *code)
{
    rio_rq *rq = rio_handle_object(handle, RIO_KIND_RQ);
    if (RIO_UNLIKELY(rq == NULL)) {
        *code = RIO_EINVAL;
        return NULL;
    }
    if (RIO_UNLIKELY(!rio_core_ours(rq->core))) {
        *code = RIO_ENETDOWN;
        return NULL;
    }
    return rq;
}

/* The memory of a slice, or null when it is not one of a living registration. */
static inline char *rio__slice(const RIO_BUF *slice, uint32_t least, void **registration)
{
    rio_handle *slot = rio_handle_find(slice->BufferId, RIO_KIND_BUFFER);
    if (RIO_UNLIKELY(slot == NULL))
        return NULL;
    if (RIO_UNLIKELY((uint64_t)slice->Offset + slice->Length > slot->extent ||
                     slice->Length < least))
        return NULL;
    *registration = slot->u.registration;
    return (char *)slot->object + slice->Offset;
}

/* Everything deferred in this direction may go now. */
static inline void rio__start(rio_rq *rq, enum rio_direction direction)
{
    rio_lane *lane = &rq->lanes[direction];
    lane->posted = lane->tail;
    rq->core->driver->start(rq->core, rq, direction);
}

static int32_t rio__commit(rio_rq *rq, enum rio_direction direction, const void *data,
                           uint32_t count, uint32_t flags, const void *context)
{
    if (flags != RIO_MSG_COMMIT_ONLY || data != NULL || count != 0 || context != NULL)
        return rio_refuse(RIO_EINVAL);
    if (rio_lane_waiting(&rq->lanes[direction]) != 0 ||
        rq->lanes[direction].posted != rq->lanes[direction].tail)
        rio__start(rq, direction);
    return 1;
}

static void rio__hold(const rio_driver *driver, const rio_lease *lease)
{
    void *const held[] = { lease->data, lease->remote, lease->flags };
    for (int i = 0; i < 3; i++)
        if (held[i] != NULL)
            driver->hold(held[i]);
}

void rio_lease_end(const rio_driver *driver, const rio_lease *lease)
{
    void *const held[] = { lease->data, lease->remote, lease->flags };
    for (int i = 0; i < 3; i++)
        if (held[i] != NULL)
            driver->let_go(held[i]);
}

/* Whether all memory that a request names is registered with the queue's own provider. */
static int rio__leased(const rio_lease *lease, const char *memory, const rio_envelope *envelope)
{
    return (memory == NULL || lease->data != NULL) &&
           (envelope == NULL || ((envelope->remote == NULL || lease->remote != NULL) &&
                                 (envelope->flags == NULL || lease->flags != NULL)));
}

/* The one place where a request is accepted: all arguments were checked. */
static inline int32_t rio__post(rio_rq *rq, enum rio_direction direction, char *memory,
                                uint32_t length, uint32_t flags, void *context,
                                const rio_envelope *envelope, const rio_lease *lease)
{
    rio_lane *lane = &rq->lanes[direction];

    if (RIO_UNLIKELY(flags & ~rio__flags_of[direction]))
        return rio_refuse(RIO_EINVAL);
    /* A result of 0 bytes would not be the end (rule 8), unless nothing was asked for. */
    if (RIO_UNLIKELY(rq->stream ? length == 0 && (memory != NULL || direction == RIO_SENDS)
                                : (flags & RIO_MSG_WAITALL) != 0))
        return rio_refuse(RIO_EINVAL);
    if (RIO_UNLIKELY(lane->outstanding >= lane->limit))
        return rio_refuse(RIO_ENOBUFS);
    if (RIO_UNLIKELY(lane->cq->closed))
        return rio_refuse(RIO_EINVAL); /* nobody could ever dequeue the result */
    assert(!rq->retired && lane->tail - lane->head <= lane->mask);
    if (RIO_UNLIKELY(lane->leases != NULL)) {
        if (!rio__leased(lease, memory, envelope))
            return rio_refuse(RIO_EFAULT);
        lane->leases[lane->tail & lane->mask] = *lease;
        rio__hold(rq->core->driver, lease);
    }
    rio_request *request = &lane->requests[lane->tail & lane->mask];
    if (RIO_UNLIKELY(lane->envelopes != NULL))
        lane->envelopes[lane->tail & lane->mask] =
            envelope != NULL ? *envelope : (rio_envelope){ NULL, NULL };
    request->memory = memory;
    request->context = (uint64_t)(uintptr_t)context;
    request->length = length;
    request->done = 0;
    request->flags = flags;
    lane->tail++;
    lane->outstanding++;
    if ((flags & RIO_MSG_DEFER) == 0)
        rio__start(rq, direction);
    return 1;
}

/* RIOReceive and RIOSend, and the part of their extended forms that is the same. */
static inline int32_t rio__request(RIO_RQ handle, enum rio_direction direction,
                                   const RIO_BUF *data, uint32_t count, uint32_t flags,
                                   void *context)
{
    int32_t code;
    char *memory;
    rio_lease lease = { NULL, NULL, NULL };
    rio_rq *rq = rio__queue(handle, &code);

    if (RIO_UNLIKELY(rq == NULL))
        return rio_refuse(code);
    if (RIO_UNLIKELY(flags & RIO_MSG_COMMIT_ONLY))
        return rio__commit(rq, direction, data, count, flags, context);
    if (RIO_UNLIKELY(count != 1)) {
        if (count != 0 || data != NULL || rq->stream)
            return rio_refuse(RIO_EINVAL);
        return rio__post(rq, direction, NULL, 0, flags, context, NULL, &lease);
    }
    if (RIO_UNLIKELY(data == NULL || (memory = rio__slice(data, 0, &lease.data)) == NULL))
        return rio_refuse(RIO_EFAULT);
    return rio__post(rq, direction, memory, data->Length, flags, context, NULL, &lease);
}

int32_t RIO_CALL rio_emulation_receive(RIO_RQ handle, RIO_BUF *data, uint32_t count,
                                       uint32_t flags, void *context)
{
    return rio__request(handle, RIO_RECEIVES, data, count, flags, context);
}

int32_t RIO_CALL rio_emulation_send(RIO_RQ handle, RIO_BUF *data, uint32_t count, uint32_t flags,
                                    void *context)
{
    return rio__request(handle, RIO_SENDS, data, count, flags, context);
}

/* The extended forms on a datagram socket. Local addresses and control messages are refused. */
static int32_t rio__request_ex(RIO_RQ handle, enum rio_direction direction, const RIO_BUF *data,
                               uint32_t count, const RIO_BUF *remote, const RIO_BUF *message_flags,
                               uint32_t flags, void *context)
{
    int32_t code;
    rio_envelope envelope = { NULL, NULL };
    rio_lease lease = { NULL, NULL, NULL };
    rio_rq *rq = rio__queue(handle, &code);

    if (rq == NULL)
        return rio_refuse(code);
    if (flags & RIO_MSG_COMMIT_ONLY)
        return rio_refuse(RIO_EINVAL);
    if (rq->stream)
        return rio_refuse(RIO_EOPNOTSUPP);
    if (count > 1 || (count == 0) != (data == NULL))
        return rio_refuse(count > 1 || data != NULL ? RIO_EINVAL : RIO_EFAULT);
    if (remote != NULL &&
        (envelope.remote = rio__slice(remote, sizeof(RIO_SOCKADDR_INET), &lease.remote)) == NULL)
        return rio_refuse(RIO_EFAULT);
    if (message_flags != NULL &&
        (envelope.flags = rio__slice(message_flags, sizeof(uint32_t), &lease.flags)) == NULL)
        return rio_refuse(RIO_EFAULT);
    char *memory = NULL;
    if (data != NULL && (memory = rio__slice(data, 0, &lease.data)) == NULL)
        return rio_refuse(RIO_EFAULT);
    return rio__post(rq, direction, memory, data != NULL ? data->Length : 0, flags, context,
                     &envelope, &lease);
}

int32_t RIO_CALL rio_emulation_receive_ex(RIO_RQ handle, RIO_BUF *data, uint32_t count,
                                          RIO_BUF *local, RIO_BUF *remote, RIO_BUF *control,
                                          RIO_BUF *flags_out, uint32_t flags, void *context)
{
    if (local == NULL && remote == NULL && control == NULL && flags_out == NULL)
        return rio__request(handle, RIO_RECEIVES, data, count, flags, context);
    if (local != NULL || control != NULL)
        return rio_refuse(rio_handle_find(handle, RIO_KIND_RQ) ? RIO_EOPNOTSUPP : RIO_EINVAL);
    return rio__request_ex(handle, RIO_RECEIVES, data, count, remote, flags_out, flags, context);
}

int32_t RIO_CALL rio_emulation_send_ex(RIO_RQ handle, RIO_BUF *data, uint32_t count,
                                       RIO_BUF *local, RIO_BUF *remote, RIO_BUF *control,
                                       RIO_BUF *flags_in, uint32_t flags, void *context)
{
    if (local == NULL && remote == NULL && control == NULL && flags_in == NULL)
        return rio__request(handle, RIO_SENDS, data, count, flags, context);
    if (local != NULL || control != NULL || flags_in != NULL)
        return rio_refuse(rio_handle_find(handle, RIO_KIND_RQ) ? RIO_EOPNOTSUPP : RIO_EINVAL);
    return rio__request_ex(handle, RIO_SENDS, data, count, remote, NULL, flags, context);
}

static int32_t rio__memory(RIO_RQ handle, enum rio_direction direction, char *memory,
                           uint32_t length, uint32_t flags, void *context)
{
    int32_t code;
    rio_rq *rq = rio__queue(handle, &code);

    if (RIO_UNLIKELY(rq == NULL))
        return rio_refuse(code);
    if (RIO_UNLIKELY(memory == NULL && length != 0))
        return rio_refuse(RIO_EFAULT);
    if (RIO_UNLIKELY(rq->leases))
        return rio_refuse(RIO_EOPNOTSUPP); /* its system takes registered memory only */
    return rio__post(rq, direction, memory, length, flags, context, NULL, NULL);
}

int32_t rio_emulation_send_memory(RIO_RQ handle, const void *memory, uint32_t length,
                                  uint32_t flags, void *context)
{
    return rio__memory(handle, RIO_SENDS, (char *)(uintptr_t)memory, length, flags, context);
}

int32_t rio_emulation_receive_memory(RIO_RQ handle, void *memory, uint32_t length, uint32_t flags,
                                     void *context)
{
    return rio__memory(handle, RIO_RECEIVES, memory, length, flags, context);
}

int32_t rio_emulation_statistics(rio_port *handle, rio_port_statistics *statistics)
{
    int32_t code = 0;
    const rio_core *core = rio_core_of(handle, NULL, &code);
    if (core != NULL && statistics == NULL)
        return RIO_EFAULT;
    if (core != NULL) { /* word by word, while its thread counts */
        *statistics = (rio_port_statistics){
            .submissions = rio_counted(&core->counts.submissions),
            .completions = rio_counted(&core->counts.completions),
            .system_calls = rio_counted(&core->counts.system_calls),
            .waits = rio_counted(&core->counts.waits),
            .bytes_received = rio_counted(&core->counts.bytes_received),
            .bytes_sent = rio_counted(&core->counts.bytes_sent),
            .gathered = rio_counted(&core->counts.gathered),
            .in_kernel = rio_counted(&core->counts.in_kernel),
        };
    }
    return code;
}

static int64_t rio__now(RIO_RQ handle, enum rio_direction direction, char *memory, uint32_t length)
{
    int32_t code;
    rio_rq *rq = rio__queue(handle, &code);

    if (RIO_UNLIKELY(rq == NULL))
        return -(int64_t)code;
    if (RIO_UNLIKELY(!rq->stream))
        return -(int64_t)RIO_EOPNOTSUPP;
    if (RIO_UNLIKELY(memory == NULL && length != 0))
        return -(int64_t)RIO_EFAULT;
    if (rq->lanes[direction].outstanding != 0)
        return -(int64_t)RIO_EALREADY;
    if (length == 0)
        return -(int64_t)RIO_EINVAL; /* 0 bytes would look like the end */
    int64_t moved = rq->core->driver->now(rq, direction, memory, length);
    rio_port_statistics *counts = &rq->core->counts;
    rio_count(&counts->system_calls, 1);
    if (moved > 0)
        rio_count(direction == RIO_SENDS ? &counts->bytes_sent : &counts->bytes_received, moved);
    else if (rio_code_is_death((int32_t)-moved) && rq->broken == 0)
        rq->broken = (int32_t)-moved;
    return moved;
}

int64_t rio_emulation_send_now(RIO_RQ handle, const void *memory, uint32_t length)
{
    return rio__now(handle, RIO_SENDS, (char *)(uintptr_t)memory, length);
}

int64_t rio_emulation_receive_now(RIO_RQ handle, void *memory, uint32_t length)
{
    return rio__now(handle, RIO_RECEIVES, memory, length);
}

int64_t rio_emulation_send_datagrams_now(RIO_RQ handle, const rio_datagram *datagrams,
                                         uint32_t count)
{
    int32_t code;
    rio_rq *rq = rio__queue(handle, &code);

    if (RIO_UNLIKELY(rq == NULL))
        return -(int64_t)code;
    if (RIO_UNLIKELY(rq->stream))
        return -(int64_t)RIO_EOPNOTSUPP;
    if (RIO_UNLIKELY(count == 0))
        return -(int64_t)RIO_EINVAL;
    if (RIO_UNLIKELY(datagrams == NULL))
        return -(int64_t)RIO_EFAULT;
    for (uint32_t i = 0; i < count; i++)
        if (RIO_UNLIKELY(datagrams[i].memory == NULL && datagrams[i].length != 0))
            return -(int64_t)RIO_EFAULT;
    if (rq->lanes[RIO_SENDS].outstanding != 0)
        return -(int64_t)RIO_EALREADY;
    return rq->core->driver->datagrams_now(rq, datagrams, count);
}

int32_t rio_emulation_recall_receives(RIO_RQ handle)
{
    int32_t code = 0;
    rio_rq *rq = rio__queue(handle, &code);

    if (RIO_UNLIKELY(rq == NULL))
        return code;
    rio_lane *lane = &rq->lanes[RIO_RECEIVES];
    uint32_t end = lane->tail;
    if (lane->flight != 0)
        code = rq->core->driver->recall(rq->core, rq);
    if (code != 0)
        return code;
    assert(end == lane->tail);
    for (uint32_t i = lane->head; i != end; i++)
        lane->requests[i & lane->mask].flags |= RIO_RECALLED;
    lane->posted = end;
    rio_recall(rq);
    return 0;
}

int32_t rio_emulation_guard(RIO_RQ handle, uint64_t identity)
{
    int32_t code = 0;
    rio_rq *rq = rio__queue(handle, &code);

    if (rq != NULL)
        rq->identity = identity;
    return code;
}

/* ------------------------------------------------------------------------------- datagrams */

void rio_datagram_received(rio_rq *rq, uint32_t bytes, const void *address, uint32_t length,
                           uint32_t flags, int truncated)
{
    rio_lane *lane = &rq->lanes[RIO_RECEIVES];
    rio_request *request = rio_lane_request(lane, 0);
    const rio_envelope *envelope = rio_lane_envelope(lane, 0);

    assert(bytes <= request->length);
    if (envelope->remote != NULL) {
        RIO_SOCKADDR_INET remote = { 0 };
        memcpy(&remote, address, length < sizeof remote ? length : sizeof remote);
        memcpy(envelope->remote, &remote, sizeof remote);
    }
    if (envelope->flags != NULL)
        memcpy(envelope->flags, &flags, sizeof flags);
    rio_count(&rq->core->counts.bytes_received, bytes);
    request->done = bytes;
    rio_complete(rq, RIO_RECEIVES, truncated ? RIO_EMSGSIZE : 0);
}

void rio_datagram_sent(rio_rq *rq, uint32_t bytes)
{
    rio_request *request = rio_lane_request(&rq->lanes[RIO_SENDS], 0);
    rio_count(&rq->core->counts.bytes_sent, bytes);
    request->done = bytes;
    rio_complete(rq, RIO_SENDS, bytes == request->length ? 0 : RIO_EMSGSIZE);
}

/* --------------------------------------------------------------------------------- results */

static uint32_t rio__take(rio_cq *cq, RIORESULT *results, uint32_t size)
{
    uint32_t count = 0;

    while (count < size && cq->head != cq->tail) {
        const rio_entry *entry = &cq->ring[cq->head++ & cq->mask];
        uintptr_t owner = entry->owner;
        rio_rq *rq = (rio_rq *)(owner & ~RIO_OWNER_BITS);
        rio_lane *lane = &rq->lanes[owner & RIO_OWNER_SENDS];
        RIORESULT *result = &results[count++];
        result->Status = entry->status;
        result->BytesTransferred = entry->bytes;
        result->SocketContext = (uint64_t)(uintptr_t)rq->socket_context;
        result->RequestContext = entry->context;
        cq->loud -= (owner & RIO_OWNER_QUIET) == 0;
        assert(lane->outstanding > 0);
        lane->outstanding--;
        if (RIO_UNLIKELY(rq->retired))
            rio_rq_settle(rq);
    }
    return count;
}

uint32_t RIO_CALL rio_emulation_dequeue(RIO_CQ handle, RIORESULT *results, uint32_t size)
{
    rio_cq *cq = rio_handle_object(handle, RIO_KIND_CQ);

    if (RIO_UNLIKELY(cq == NULL)) {
        rio_refuse(RIO_EINVAL);
        return RIO_CORRUPT_CQ;
    }
    if (RIO_UNLIKELY(cq->core != NULL && !rio_core_ours(cq->core))) {
        rio_refuse(RIO_ENETDOWN);
        return RIO_CORRUPT_CQ;
    }
    if (RIO_UNLIKELY(results == NULL && size != 0)) {
        rio_refuse(RIO_EFAULT);
        return RIO_CORRUPT_CQ;
    }
    if (RIO_UNLIKELY(cq->head == cq->tail && !cq->notifies && cq->core != NULL && size != 0))
        cq->core->driver->progress(cq->core);
    return rio__take(cq, results, size);
}

int32_t RIO_CALL rio_emulation_notify(RIO_CQ handle)
{
    rio_cq *cq = rio_handle_object(handle, RIO_KIND_CQ);

    if (RIO_UNLIKELY(cq == NULL || !cq->notifies || cq->core == NULL))
        return RIO_EINVAL;
    if (RIO_UNLIKELY(!rio_core_ours(cq->core)))
        return RIO_ENETDOWN;
    if (cq->armed)
        return RIO_EALREADY;
    cq->armed = 1;
    if (cq->loud != 0)
        rio_cq_fire(cq);
    return 0;
}

void rio_cq_fire(rio_cq *cq)
{
    rio_core *core = cq->core;

    assert(cq->armed && cq->notifies && !cq->closed);
    cq->armed = 0;
    if (core == NULL || cq->announced)
        return; /* a packet that nobody has taken yet says it already */
    cq->announced = 1;
    cq->next_packet = NULL;
    if (core->last_packet != NULL)
        core->last_packet->next_packet = cq;
    else
        core->first_packet = cq;
    core->last_packet = cq;
}

/* The notifications that are due, at most `size`; the port's wait calls it. */
uint32_t rio_core_packets(rio_core *core, rio_port_event *events, uint32_t size)
{
    uint32_t count = 0;

    while (count < size && core->first_packet != NULL) {
        rio_cq *cq = core->first_packet;
        rio_port_event *event = &events[count++];
        event->kind = RIO_PORT_NOTIFY;
        event->status = 0;
        event->key = cq->key;
        event->overlapped = cq->overlapped;
        event->value = 0;
        cq->announced = 0;
        core->first_packet = cq->next_packet;
        if (core->first_packet == NULL)
            core->last_packet = NULL;
    }
    return count;
}

/* --------------------------------------------------------------------------------- buffers */

RIO_BUFFERID RIO_CALL rio_emulation_register_buffer(char *memory, uint32_t length)
{
    int outside = memory == NULL || (uintptr_t)memory + length < (uintptr_t)memory;
    if (length == 0 || outside) {
        rio_refuse(outside ? RIO_EFAULT : RIO_EINVAL);
        return RIO_INVALID_BUFFERID;
    }
    void *handle = rio_handle_open(RIO_KIND_BUFFER, memory, length);
    if (handle == NULL) {
        rio_refuse(RIO_ENOBUFS);
        return RIO_INVALID_BUFFERID;
    }
    return handle;
}

void RIO_CALL rio_emulation_deregister_buffer(RIO_BUFFERID buffer)
{
    if (rio_handle_find(buffer, RIO_KIND_BUFFER) != NULL)
        rio_handle_close(buffer);
}
