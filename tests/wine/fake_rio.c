/* fake_rio.c: a Registered I/O that works, watches and remembers, for systems that have none.
 *
 * Wine has sockets and completion ports but no Registered I/O, so the provider `winsock` could only
 * be read there, not run. This DLL implements the thirteen functions over overlapped operations on
 * ordinary sockets, from Microsoft's documentation, with types of its own (nothing of rio.h), and
 * more strictly than the original: what the documentation forbids is written down as a violation,
 * and the tests (fake_rio.py) fail with it.
 *
 * It is nothing but a test tool. The provider asks it only after winsock_table_replace was called
 * with its two functions that stand in for WSAIoctl and WSASocketW.
 *
 * How it works. A worker thread starts the requests, one in each direction of a socket, when the
 * bell rings and every few ms: an operation would end with the thread that began it. So results
 * come from another thread, as the kernel's do.
 *
 * How it knows sockets. A socket made with WSA_FLAG_REGISTERED_IO is marked by a receive timeout
 * that nobody else sets (17 days and some ms); its request queue's number is in it, too. So a
 * socket without the flag, a second request queue and a closed socket can be told.
 *
 * What Windows does beside its documentation, as those found who ran Registered I/O there, is done
 * here, too (the rules in fake_rio.h): what such a socket refuses, by fake_rio_hooks.c.
 *
 * Links:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/ns-mswsock-rio_extension_function_table
 */
#include "fake_rio.h"

/* ---------------------------------------------------------------------------- completion queues */

static void resize(queue *cq, DWORD size)
{
    result *results = calloc(size, sizeof *results);
    request **owners = calloc(size, sizeof *owners);
    for (DWORD i = 0; i < cq->count; i++) {
        results[i] = cq->results[(cq->head + i) % cq->size];
        owners[i] = cq->owners[(cq->head + i) % cq->size];
    }
    free(cq->results);
    free(cq->owners);
    cq->results = results;
    cq->owners = owners;
    cq->head = 0;
    cq->size = size;
}

static void *WSAAPI create_completion_queue(DWORD size, notification *how)
{
    called("RIOCreateCompletionQueue size=%lu type=%d", size, how != NULL ? how->type : 0);
    if (size < 1 || size > QUEUE_MAX || (how != NULL && how->type != 2) ||
        (how != NULL && (how->u.iocp.overlapped == NULL || how->u.iocp.port == NULL))) {
        violated("RIOCreateCompletionQueue: bad arguments, size %lu", size);
        WSASetLastError(WSAEINVAL);
        return NULL;
    }
    if ((rules & NEEDS_A_SOCKET) && !some_flagged()) {
        WSASetLastError(WSAEFAULT);
        return NULL;
    }
    queue *cq = calloc(1, sizeof *cq);
    cq->alive = 1;
    if (how != NULL) {
        cq->notifies = 1;
        cq->port = how->u.iocp.port;
        cq->key = how->u.iocp.key;
        cq->overlapped = how->u.iocp.overlapped;
    }
    resize(cq, size);
    return cq;
}

static void WSAAPI close_completion_queue(queue *cq)
{
    called("RIOCloseCompletionQueue");
    if (cq == NULL)
        return;
    enter(&cq->busy, "RIOCloseCompletionQueue");
    DWORD lost = 0;
    for (requests *rq = all; rq != NULL; rq = rq->next)
        for (int i = 0; i < 2; i++)
            lost += rq->lanes[i].to == cq ? rq->lanes[i].outstanding : 0;
    if (!cq->alive)
        violated("RIOCloseCompletionQueue: closed twice");
    else if (lost != 0)
        violated("RIOCloseCompletionQueue: %lu requests are outstanding", lost);
    cq->alive = 0;
    leave(&cq->busy);
}

static int WSAAPI resize_completion_queue(queue *cq, DWORD size)
{
    int code = 0;
    called("RIOResizeCompletionQueue size=%lu", size);
    enter(&cq->busy, "RIOResizeCompletionQueue");
    if (!cq->alive || size < 1 || size > QUEUE_MAX) {
        violated("RIOResizeCompletionQueue: bad arguments, size %lu", size);
        code = WSAEINVAL;
    } else if (size < cq->reserved) {
        code = WSAETOOMANYREFS;
    } else {
        resize(cq, size);
    }
    leave(&cq->busy);
    return code == 0 ? TRUE : refuse(code);
}

static void release(request *one)
{
    lane *way = &one->owner->lanes[one->direction];
    way->outstanding--;
    for (int i = 0; i < 3; i++)
        if (one->buffers[i] != NULL)
            one->buffers[i]->uses--;
    free(one);
}

static DWORD WSAAPI dequeue_completion(queue *cq, result *results, DWORD size)
{
    DWORD count = 0;
    if (mode == CORRUPTED)
        return CORRUPT;
    enter(&cq->busy, "RIODequeueCompletion");
    if (!cq->alive)
        violated("RIODequeueCompletion: the queue is closed");
    while (count < size && cq->count != 0) {
        results[count++] = cq->results[cq->head];
        cq->loud -= (cq->owners[cq->head]->flags & DONT_NOTIFY) == 0;
        release(cq->owners[cq->head]);
        cq->head = (cq->head + 1) % cq->size;
        cq->count--;
    }
    if (count != 0)
        called("RIODequeueCompletion size=%lu count=%lu", size, count);
    leave(&cq->busy);
    return count;
}

static INT WSAAPI notify(queue *cq)
{
    INT code = 0;
    called("RIONotify");
    enter(&cq->busy, "RIONotify");
    if (!cq->alive || !cq->notifies) {
        violated("RIONotify: a queue that cannot notify");
        code = WSAEINVAL;
    } else if (cq->armed) {
        violated("RIONotify: armed twice");
        code = WSAEALREADY;
    } else if (cq->loud != 0) {
        fire(cq);
    } else {
        cq->armed = 1;
    }
    leave(&cq->busy);
    return code;
}

/* ------------------------------------------------------------------------------- request queues */

static int reserve(queue *receives_to, DWORD receives, queue *sends_to, DWORD sends)
{
    if (receives_to == sends_to ? receives + sends > receives_to->size - receives_to->reserved
                                : receives > receives_to->size - receives_to->reserved ||
                                      sends > sends_to->size - sends_to->reserved)
        return 0;
    receives_to->reserved += receives;
    sends_to->reserved += sends;
    return 1;
}

static DWORD numbers;

static int queue_refusal(SOCKET socket, ULONG receives, ULONG receive_buffers, ULONG sends,
                         ULONG send_buffers, const queue *receives_to, const queue *sends_to)
{
    DWORD mark = mark_of(socket);
    if (receive_buffers != 1 || send_buffers != 1 || receives + sends == 0 ||
        receives_to == NULL || sends_to == NULL || !receives_to->alive || !sends_to->alive) {
        violated("RIOCreateRequestQueue: bad arguments");
        return WSAEINVAL;
    }
    if (mark == 0 || mode == REFUSES_QUEUES)
        return WSAEOPNOTSUPP; /* not made for it: the provider may ask and be told */
    return mark == MARK ? 0 : WSAEINVAL; /* it has a request queue, for its life */
}

static void *WSAAPI create_request_queue(SOCKET socket, ULONG receives, ULONG receive_buffers,
                                         ULONG sends, ULONG send_buffers, queue *receives_to,
                                         queue *sends_to, void *context)
{
    int type = 0, length = sizeof type;
    called("RIOCreateRequestQueue receives=%lu/%lu sends=%lu/%lu same=%d", receives,
           receive_buffers, sends, send_buffers, receives_to == sends_to);
    EnterCriticalSection(&lock);
    int code = queue_refusal(socket, receives, receive_buffers, sends, send_buffers, receives_to,
                             sends_to);
    if (code == 0 && !reserve(receives_to, receives, sends_to, sends)) {
        reclaim();
        code = reserve(receives_to, receives, sends_to, sends) ? 0 : WSAENOBUFS;
    }
    requests *rq = code == 0 ? calloc(1, sizeof *rq) : NULL;
    if (rq != NULL) {
        DWORD mark = MARK | (rq->number = ++numbers);
        setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, (char *)&mark, sizeof mark);
        getsockopt(socket, SOL_SOCKET, SO_TYPE, (char *)&type, &length);
        rq->alive = 1;
        rq->socket = socket;
        rq->stream = type == SOCK_STREAM;
        rq->dead = is_dead(socket);
        rq->context = context;
        rq->lanes[RECEIVES] = (lane){ .limit = receives, .to = receives_to };
        rq->lanes[SENDS] = (lane){ .limit = sends, .to = sends_to };
        rq->next = all;
        all = rq;
    }
    LeaveCriticalSection(&lock);
    WSASetLastError(code);
    return rq;
}

static int WSAAPI resize_request_queue(requests *rq, DWORD receives, DWORD sends)
{
    DWORD limits[2] = { receives, sends };
    int code = 0;
    called("RIOResizeRequestQueue receives=%lu sends=%lu", receives, sends);
    enter(&rq->busy, "RIOResizeRequestQueue");
    if (!rq->alive || receives + sends == 0) {
        violated("RIOResizeRequestQueue: bad arguments");
        code = WSAEINVAL;
    }
    for (int i = 0; i < 2 && code == 0; i++)
        code = limits[i] < rq->lanes[i].outstanding ? WSAETOOMANYREFS : 0;
    if (code == 0) {
        DWORD before[2] = { rq->lanes[0].limit, rq->lanes[1].limit };
        for (int i = 0; i < 2; i++)
            rq->lanes[i].to->reserved -= before[i];
        if (!reserve(rq->lanes[0].to, receives, rq->lanes[1].to, sends)) {
            code = WSAENOBUFS;
            limits[0] = before[0];
            limits[1] = before[1];
            for (int i = 0; i < 2; i++)
                rq->lanes[i].to->reserved += before[i];
        }
        rq->lanes[0].limit = limits[0];
        rq->lanes[1].limit = limits[1];
    }
    leave(&rq->busy);
    return code == 0 ? TRUE : refuse(code);
}

/* ------------------------------------------------------------------------------------- requests */

static char *memory_of(request *one, int place, const slice *part, const char *function)
{
    buffer *from = part->id;
    if (from == NULL || from == INVALID_BUFFER || !from->alive) {
        violated("%s: memory that is not registered", function);
        return NULL;
    }
    if (part->offset > from->length || part->length > from->length - part->offset) {
        violated("%s: bytes %lu to %lu of a buffer of %lu", function, part->offset,
                 part->offset + part->length, from->length);
        return NULL;
    }
    one->buffers[place] = from;
    return from->memory + part->offset;
}

static int bad_flags(const requests *rq, int direction, DWORD flags)
{
    return (flags & ~(DONT_NOTIFY | DEFER | WAITALL)) != 0 ||
           ((flags & WAITALL) && (direction == SENDS || !rq->stream));
}

static int fill(request *one, const slice *data, ULONG count, const slice *remote,
                const slice *message_flags, const char *function)
{
    requests *rq = one->owner;
    if (count > 1 || (count == 0) != (data == NULL) || (count == 0 && rq->stream)) {
        violated("%s: %lu buffers", function, count);
        return WSAEINVAL;
    }
    if (data != NULL) {
        if ((one->memory = memory_of(one, 0, data, function)) == NULL)
            return WSAEFAULT;
        one->length = data->length;
    }
    if (remote != NULL) {
        if (remote->length != ADDRESS_BYTES)
            violated("%s: an address of %lu bytes", function, remote->length);
        if ((one->remote = memory_of(one, 1, remote, function)) == NULL)
            return WSAEFAULT;
    }
    if (message_flags != NULL &&
        (one->message_flags = memory_of(one, 2, message_flags, function)) == NULL)
        return WSAEFAULT;
    return 0;
}

static int commit(requests *rq, int direction, const void *data, ULONG count, DWORD flags,
                  const void *context, const char *function)
{
    lane *way = &rq->lanes[direction];
    if (flags != COMMIT_ONLY || data != NULL || count != 0 || context != NULL) {
        violated("%s: a commit with more than that", function);
        return WSAEINVAL;
    }
    if (InterlockedAnd(&rules, ~COMMIT_FAILS) & COMMIT_FAILS)
        return WSAENOBUFS;
    way->committed = way->last;
    SetEvent(bell);
    return 0;
}

static int enqueue(requests *rq, int direction, const slice *data, ULONG count,
                   const slice *remote, const slice *message_flags, DWORD flags, void *context,
                   const char *function)
{
    lane *way = &rq->lanes[direction];
    if (bad_flags(rq, direction, flags)) {
        violated("%s: flags %lx", function, flags);
        return WSAEINVAL;
    }
    if (way->outstanding >= way->limit) {
        violated("%s: more than %lu requests", function, way->limit);
        return WSAENOBUFS;
    }
    request *one = calloc(1, sizeof *one);
    one->owner = rq;
    one->direction = direction;
    one->flags = flags;
    one->context = context;
    int code = fill(one, data, count, remote, message_flags, function);
    if (code != 0) {
        free(one);
        return code;
    }
    for (int i = 0; i < 3; i++)
        if (one->buffers[i] != NULL)
            one->buffers[i]->uses++;
    way->outstanding++;
    if (way->last != NULL)
        way->last->next = one;
    else
        way->first = one;
    way->last = one;
    if (!(flags & DEFER))
        way->committed = one;
    SetEvent(bell);
    return 0;
}

static int submit(requests *rq, int direction, const slice *data, ULONG count,
                  const slice *remote, const slice *message_flags, DWORD flags, void *context,
                  const char *function)
{
    int code;
    enter(&rq->busy, function);
    called("%s offset=%ld length=%ld remote=%d flags=%lu", function,
           data != NULL ? (long)data->offset : -1, data != NULL ? (long)data->length : -1,
           remote != NULL, flags);
    if (!rq->alive || !is_open(rq)) {
        violated("%s: the socket is closed", function);
        code = WSAEINVAL;
    } else if (flags & COMMIT_ONLY) {
        code = commit(rq, direction, data, count, flags, context, function);
    } else {
        code = enqueue(rq, direction, data, count, remote, message_flags, flags, context,
                       function);
    }
    leave(&rq->busy);
    return code == 0 ? TRUE : refuse(code);
}

static int WSAAPI receive(requests *rq, slice *data, ULONG count, DWORD flags, void *context)
{
    return submit(rq, RECEIVES, data, count, NULL, NULL, flags, context, "RIOReceive");
}

static int WSAAPI send_(requests *rq, slice *data, ULONG count, DWORD flags, void *context)
{
    return submit(rq, SENDS, data, count, NULL, NULL, flags, context, "RIOSend");
}

static int WSAAPI receive_ex(requests *rq, slice *data, ULONG count, slice *local, slice *remote,
                             slice *control, slice *message_flags, DWORD flags, void *context)
{
    if (local != NULL || control != NULL)
        violated("RIOReceiveEx: what nobody needs");
    return submit(rq, RECEIVES, data, count, remote, message_flags, flags, context,
                  "RIOReceiveEx");
}

static int WSAAPI send_ex(requests *rq, slice *data, ULONG count, slice *local, slice *remote,
                          slice *control, slice *message_flags, DWORD flags, void *context)
{
    if (local != NULL || control != NULL || message_flags != NULL)
        violated("RIOSendEx: what is reserved");
    return submit(rq, SENDS, data, count, remote, NULL, flags, context, "RIOSendEx");
}

/* ------------------------------------------------------------------------------------ buffers */

static void *WSAAPI register_buffer(char *memory, DWORD length)
{
    called("RIORegisterBuffer length=%lu aligned=%d", length, ((ULONG_PTR)memory & 4095) == 0);
    if (memory == NULL || length == 0) {
        violated("RIORegisterBuffer: nothing to register");
        WSASetLastError(memory == NULL ? WSAEFAULT : WSAEINVAL);
        return INVALID_BUFFER;
    }
    if (mode == REFUSES_BUFFERS || ((rules & NEEDS_A_SOCKET) && !some_flagged())) {
        WSASetLastError(mode == REFUSES_BUFFERS ? WSAENOBUFS : WSAEFAULT);
        return INVALID_BUFFER;
    }
    MEMORY_BASIC_INFORMATION pages;
    const DWORD writable = PAGE_READWRITE | PAGE_WRITECOPY | PAGE_EXECUTE_READWRITE |
                           PAGE_EXECUTE_WRITECOPY;
    if (VirtualQuery(memory, &pages, sizeof pages) == 0 || pages.State != MEM_COMMIT ||
        !(pages.Protect & writable)) {
        WSASetLastError(WSAEFAULT);
        return INVALID_BUFFER;
    }
    for (DWORD at = 0; at < length; at += 4096) /* all pages are there from now on */
        InterlockedOr((volatile LONG *)(memory + at - (ULONG_PTR)(memory + at) % 4), 0);
    buffer *made = calloc(1, sizeof *made);
    made->alive = 1;
    made->memory = memory;
    made->length = length;
    return made;
}

static void WSAAPI deregister_buffer(buffer *old)
{
    called("RIODeregisterBuffer");
    EnterCriticalSection(&lock);
    if (old == NULL || old == INVALID_BUFFER || !old->alive)
        violated("RIODeregisterBuffer: not registered");
    else if (old->uses != 0)
        violated("RIODeregisterBuffer: %u requests use it", old->uses);
    if (old != NULL && old != INVALID_BUFFER)
        old->alive = 0;
    LeaveCriticalSection(&lock);
}

/* ---------------------------------------------------------------------------------- the table */

typedef struct {
    DWORD bytes;
    void *entries[13];
} table;

static const BYTE multiple_rio[16] = { 0x81, 0xe0, 0x09, 0x85, 0xdd, 0x96, 0x05, 0x40,
                                       0xb1, 0x65, 0x9e, 0x2e, 0xe8, 0xc7, 0x9e, 0x3f };

static int WSAAPI another_notify(queue *cq)
{
    violated("RIONotify of another layer");
    return notify(cq);
}

EXPORT int WSAAPI fake_ioctl(SOCKET socket, DWORD code, void *in, DWORD in_bytes, void *out,
                             DWORD out_bytes, DWORD *bytes, OVERLAPPED *overlapped,
                             LPWSAOVERLAPPED_COMPLETION_ROUTINE routine)
{
    if (code != GET_MULTIPLE)
        return plain_wsa_ioctl(socket, code, in, in_bytes, out, out_bytes, bytes, overlapped,
                               routine);
    if (in_bytes != sizeof multiple_rio || memcmp(in, multiple_rio, sizeof multiple_rio) != 0 ||
        out_bytes != sizeof(table) || sizeof(table) != 112)
        violated("WSAIoctl: bad arguments");
    if (mode == REFUSES) {
        WSASetLastError(WSAEOPNOTSUPP);
        return SOCKET_ERROR;
    }
    table *made = out;
    *made = (table){ mode == WRONG_SIZE ? 104 : sizeof(table),
                     { receive, receive_ex, send_, send_ex, close_completion_queue,
                       create_completion_queue, create_request_queue, dequeue_completion,
                       deregister_buffer, mode == OTHER_LAYER ? (void *)another_notify : notify,
                       register_buffer, resize_completion_queue, resize_request_queue } };
    if (mode == LACKS_ENTRY)
        made->entries[9] = NULL;
    *bytes = sizeof(table);
    return 0;
}

EXPORT SOCKET WSAAPI fake_socket(int family, int type, int protocol, WSAPROTOCOL_INFOW *info,
                                 GROUP group, DWORD flags)
{
    DWORD mark = MARK;
    called("WSASocketW flags=%lx", flags);
    SOCKET made = WSASocketW(family, type, protocol, info, group, flags);
    if (made != INVALID_SOCKET && (flags & FLAG_REGISTERED)) {
        setsockopt(made, SOL_SOCKET, SO_RCVTIMEO, (char *)&mark, sizeof mark);
        remember(made);
    }
    return made;
}

/* ------------------------------------------------------------------------------ for the tests */

EXPORT void fake_mode(int wanted)
{
    mode = wanted;
}

/* Sets rules, or takes them back. */
EXPORT void fake_rules(int wanted)
{
    InterlockedExchange(&rules, wanted);
}

/* Begins to write calls down, or ends it. */
EXPORT void fake_record(int on)
{
    EnterCriticalSection(&lock);
    recording = on;
    calls[0] = 0;
    LeaveCriticalSection(&lock);
}

static void take(char *from, char *to, DWORD size)
{
    EnterCriticalSection(&lock);
    strncpy(to, from, size - 1);
    to[size - 1] = 0;
    from[0] = 0;
    LeaveCriticalSection(&lock);
}

EXPORT void fake_calls(char *text, DWORD size)
{
    take(calls, text, size);
}

EXPORT void fake_violations(char *text, DWORD size)
{
    take(violations, text, size);
}
