/* requests.c: checks requests, puts them into the lane of their direction, and starts them.
 *
 * A request is 32 bytes in a ring that RIOCreateRequestQueue allocated; nothing is allocated or
 * cleared per request. A driver works only on the head of a lane, so results come in the order of
 * the requests whatever the system does underneath (rule 2). A result takes a place that was
 * reserved when the request queue was made, so a completion queue cannot overflow (rule 5).
 *
 * What can go wrong. A caller may pass anything (rule 13): handles are checked by handles.c, slices
 * against the length of their registration, flags against what Microsoft documents.
 *
 * Links:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_riosend
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_rioreceiveex
 */
#include "table/requests.h"

#include "table/rq.h"

/* What a request may specify in each direction, apart from RIO_MSG_COMMIT_ONLY. */
static const uint32_t requests__flags_of[2] = {
    [RIO_RECEIVES] = RIO_MSG_DONT_NOTIFY | RIO_MSG_DEFER | RIO_MSG_WAITALL,
    [RIO_SENDS] = RIO_MSG_DONT_NOTIFY | RIO_MSG_DEFER,
};

static rio_rq *requests__queue(RIO_RQ handle, int32_t *code)
{
    rio_rq *rq = handles_object(handle, HANDLES_RQ);
    if (RIO_UNLIKELY(rq == NULL)) {
        *code = RIO_EINVAL;
        return NULL;
    }
    if (RIO_UNLIKELY(!hub_ours(rq->hub))) {
        *code = RIO_ENETDOWN;
        return NULL;
    }
    return rq;
}

/* The memory of a slice, or null if it is not in a live registration. */
static inline char *requests__slice(const RIO_BUF *slice, uint32_t least, void **registration)
{
    handles_slot *slot = handles_find(slice->BufferId, HANDLES_BUFFER);
    if (RIO_UNLIKELY(slot == NULL))
        return NULL;
    if (RIO_UNLIKELY((uint64_t)slice->Offset + slice->Length > slot->extent ||
                     slice->Length < least))
        return NULL;
    *registration = slot->u.registration;
    return (char *)slot->object + slice->Offset;
}

/* Everything deferred in this direction may go now. */
static inline void requests__start(rio_rq *rq, enum rio_direction direction)
{
    rio_lane *lane = &rq->lanes[direction];
    lane->posted = lane->tail;
    rq->hub->driver->start(rq->hub, rq, direction);
}

static int32_t requests__commit(rio_rq *rq, enum rio_direction direction, const void *data,
                                uint32_t count, uint32_t flags, const void *context)
{
    if (flags != RIO_MSG_COMMIT_ONLY || data != NULL || count != 0 || context != NULL)
        return errors_refuse(RIO_EINVAL);
    if (rq_waiting(&rq->lanes[direction]) != 0 ||
        rq->lanes[direction].posted != rq->lanes[direction].tail)
        requests__start(rq, direction);
    if (rq->lanes[direction].refused != 0)
        return errors_refuse(rq->lanes[direction].refused);
    return 1;
}

static void requests__hold(const rio_driver *driver, const rio_lease *lease)
{
    void *const held[] = { lease->data, lease->remote, lease->flags };
    for (int i = 0; i < 3; i++)
        if (held[i] != NULL)
            driver->hold(held[i]);
}

/* Whether all memory that a request names is registered with the queue's own provider. */
static int requests__leased(const rio_lease *lease, const char *memory,
                            const rio_envelope *envelope)
{
    return (memory == NULL || lease->data != NULL) &&
           (envelope == NULL || ((envelope->remote == NULL || lease->remote != NULL) &&
                                 (envelope->flags == NULL || lease->flags != NULL)));
}

/* The one place where a request is accepted: all arguments have been checked. */
static inline int32_t requests__post(rio_rq *rq, enum rio_direction direction, char *memory,
                                     uint32_t length, uint32_t flags, void *context,
                                     const rio_envelope *envelope, const rio_lease *lease)
{
    rio_lane *lane = &rq->lanes[direction];

    if (RIO_UNLIKELY(flags & ~requests__flags_of[direction]))
        return errors_refuse(RIO_EINVAL);
    /* A result of 0 bytes would look like the end (rule 8), unless nothing was asked for. */
    if (RIO_UNLIKELY(rq->stream ? length == 0 && (memory != NULL || direction == RIO_SENDS)
                                : (flags & RIO_MSG_WAITALL) != 0))
        return errors_refuse(RIO_EINVAL);
    if (RIO_UNLIKELY(lane->outstanding >= lane->limit))
        return errors_refuse(RIO_ENOBUFS);
    if (RIO_UNLIKELY(lane->cq->closed))
        return errors_refuse(RIO_EINVAL); /* nobody could ever dequeue the result */
    if (RIO_UNLIKELY(lane->requests == NULL) && !rq_begin(rq, lane))
        return errors_refuse(RIO_ENOBUFS);
    assert(!rq->retired && lane->tail - lane->head <= lane->mask);
    if (RIO_UNLIKELY(lane->leases != NULL)) {
        if (!requests__leased(lease, memory, envelope))
            return errors_refuse(RIO_EFAULT);
        lane->leases[lane->tail & lane->mask] = *lease;
        requests__hold(rq->hub->driver, lease);
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
        requests__start(rq, direction);
    return 1;
}

/* RIOReceive and RIOSend, and what their extended forms share with them. */
static inline int32_t requests__request(RIO_RQ handle, enum rio_direction direction,
                                        const RIO_BUF *data, uint32_t count, uint32_t flags,
                                        void *context)
{
    int32_t code;
    char *memory;
    rio_lease lease = { NULL, NULL, NULL };
    rio_rq *rq = requests__queue(handle, &code);

    if (RIO_UNLIKELY(rq == NULL))
        return errors_refuse(code);
    if (RIO_UNLIKELY(flags & RIO_MSG_COMMIT_ONLY))
        return requests__commit(rq, direction, data, count, flags, context);
    if (RIO_UNLIKELY(count != 1)) {
        if (count != 0 || data != NULL || rq->stream)
            return errors_refuse(RIO_EINVAL);
        return requests__post(rq, direction, NULL, 0, flags, context, NULL, &lease);
    }
    if (RIO_UNLIKELY(data == NULL || (memory = requests__slice(data, 0, &lease.data)) == NULL))
        return errors_refuse(RIO_EFAULT);
    return requests__post(rq, direction, memory, data->Length, flags, context, NULL, &lease);
}

int32_t RIO_CALL requests_receive(RIO_RQ handle, RIO_BUF *data, uint32_t count, uint32_t flags,
                                  void *context)
{
    return requests__request(handle, RIO_RECEIVES, data, count, flags, context);
}

int32_t RIO_CALL requests_send(RIO_RQ handle, RIO_BUF *data, uint32_t count, uint32_t flags,
                               void *context)
{
    return requests__request(handle, RIO_SENDS, data, count, flags, context);
}

/* The extended forms on a datagram socket. Local addresses and control messages are refused. */
static int32_t requests__request_ex(RIO_RQ handle, enum rio_direction direction,
                                    const RIO_BUF *data, uint32_t count, const RIO_BUF *remote,
                                    const RIO_BUF *message_flags, uint32_t flags, void *context)
{
    int32_t code;
    rio_envelope envelope = { NULL, NULL };
    rio_lease lease = { NULL, NULL, NULL };
    rio_rq *rq = requests__queue(handle, &code);

    if (rq == NULL)
        return errors_refuse(code);
    if (flags & RIO_MSG_COMMIT_ONLY)
        return errors_refuse(RIO_EINVAL);
    if (rq->stream)
        return errors_refuse(RIO_EOPNOTSUPP);
    if (count > 1 || (count == 0) != (data == NULL))
        return errors_refuse(count > 1 || data != NULL ? RIO_EINVAL : RIO_EFAULT);
    if (remote != NULL && (envelope.remote = requests__slice(remote, sizeof(RIO_SOCKADDR_INET),
                                                             &lease.remote)) == NULL)
        return errors_refuse(RIO_EFAULT);
    if (message_flags != NULL &&
        (envelope.flags = requests__slice(message_flags, sizeof(uint32_t), &lease.flags)) == NULL)
        return errors_refuse(RIO_EFAULT);
    char *memory = NULL;
    if (data != NULL && (memory = requests__slice(data, 0, &lease.data)) == NULL)
        return errors_refuse(RIO_EFAULT);
    return requests__post(rq, direction, memory, data != NULL ? data->Length : 0, flags, context,
                          &envelope, &lease);
}

int32_t RIO_CALL requests_receive_ex(RIO_RQ handle, RIO_BUF *data, uint32_t count, RIO_BUF *local,
                                     RIO_BUF *remote, RIO_BUF *control, RIO_BUF *flags_out,
                                     uint32_t flags, void *context)
{
    if (local == NULL && remote == NULL && control == NULL && flags_out == NULL)
        return requests__request(handle, RIO_RECEIVES, data, count, flags, context);
    if (local != NULL || control != NULL)
        return errors_refuse(handles_find(handle, HANDLES_RQ) ? RIO_EOPNOTSUPP : RIO_EINVAL);
    return requests__request_ex(handle, RIO_RECEIVES, data, count, remote, flags_out, flags,
                                context);
}

int32_t RIO_CALL requests_send_ex(RIO_RQ handle, RIO_BUF *data, uint32_t count, RIO_BUF *local,
                                  RIO_BUF *remote, RIO_BUF *control, RIO_BUF *flags_in,
                                  uint32_t flags, void *context)
{
    if (local == NULL && remote == NULL && control == NULL && flags_in == NULL)
        return requests__request(handle, RIO_SENDS, data, count, flags, context);
    if (local != NULL || control != NULL || flags_in != NULL)
        return errors_refuse(handles_find(handle, HANDLES_RQ) ? RIO_EOPNOTSUPP : RIO_EINVAL);
    return requests__request_ex(handle, RIO_SENDS, data, count, remote, NULL, flags, context);
}

/* --------------------------------------------------------------------- without a registration */

static int32_t requests__memory(RIO_RQ handle, enum rio_direction direction, char *memory,
                                uint32_t length, uint32_t flags, void *context)
{
    int32_t code;
    rio_rq *rq = requests__queue(handle, &code);

    if (RIO_UNLIKELY(rq == NULL))
        return errors_refuse(code);
    if (RIO_UNLIKELY(memory == NULL && length != 0))
        return errors_refuse(RIO_EFAULT);
    if (RIO_UNLIKELY(rq->leases))
        return errors_refuse(RIO_EOPNOTSUPP); /* its system takes only registered memory */
    return requests__post(rq, direction, memory, length, flags, context, NULL, NULL);
}

int32_t requests_send_memory(RIO_RQ handle, const void *memory, uint32_t length, uint32_t flags,
                             void *context)
{
    return requests__memory(handle, RIO_SENDS, (char *)(uintptr_t)memory, length, flags, context);
}

int32_t requests_receive_memory(RIO_RQ handle, void *memory, uint32_t length, uint32_t flags,
                                void *context)
{
    return requests__memory(handle, RIO_RECEIVES, memory, length, flags, context);
}

/* -------------------------------------------------------------------------- without a request */

static int64_t requests__now(RIO_RQ handle, enum rio_direction direction, char *memory,
                             uint32_t length)
{
    int32_t code;
    rio_rq *rq = requests__queue(handle, &code);

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
    int64_t moved = rq->hub->driver->now(rq, direction, memory, length);
    rio_port_statistics *counts = &rq->hub->counts;
    counts_add(&counts->system_calls, 1);
    if (moved > 0)
        counts_add(direction == RIO_SENDS ? &counts->bytes_sent : &counts->bytes_received, moved);
    else if (errors_end_a_stream((int32_t)-moved) && rq->broken == 0)
        rq->broken = (int32_t)-moved;
    return moved;
}

int64_t requests_send_now(RIO_RQ handle, const void *memory, uint32_t length)
{
    return requests__now(handle, RIO_SENDS, (char *)(uintptr_t)memory, length);
}

int64_t requests_receive_now(RIO_RQ handle, void *memory, uint32_t length)
{
    return requests__now(handle, RIO_RECEIVES, memory, length);
}

int64_t requests_send_datagrams_now(RIO_RQ handle, const rio_datagram *datagrams, uint32_t count)
{
    int32_t code;
    rio_rq *rq = requests__queue(handle, &code);

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
    return rq->hub->driver->datagrams_now(rq, datagrams, count);
}

/* --------------------------------------------------------------------------- of a whole queue */

int32_t requests_recall(RIO_RQ handle)
{
    int32_t code = 0;
    rio_rq *rq = requests__queue(handle, &code);

    if (RIO_UNLIKELY(rq == NULL))
        return code;
    rio_lane *lane = &rq->lanes[RIO_RECEIVES];
    uint32_t end = lane->tail;
    if (lane->flight != 0)
        code = rq->hub->driver->recall(rq->hub, rq);
    if (code != 0)
        return code;
    assert(end == lane->tail);
    for (uint32_t i = lane->head; i != end; i++)
        lane->requests[i & lane->mask].flags |= RQ_RECALLED;
    lane->posted = end;
    rq_recall(rq);
    return 0;
}

int32_t requests_guard(RIO_RQ handle, uint64_t identity)
{
    int32_t code = 0;
    rio_rq *rq = requests__queue(handle, &code);

    if (rq != NULL)
        rq->identity = identity;
    return code;
}
