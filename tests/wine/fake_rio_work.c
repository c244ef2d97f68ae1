/* fake_rio_work.c: notes, sockets, and the operations under the fake's requests. */
#include "fake_rio.h"

CRITICAL_SECTION lock;
HANDLE bell;
requests *all;
int recording;
char *calls, *violations;
volatile LONG mode;
volatile LONG rules = AS_WINDOWS;

/* ---------------------------------------------------------------------------------------- notes */

static void note(char *text, const char *format, va_list arguments)
{
    size_t used = strlen(text);
    if (used + 300 > TEXT_BYTES)
        return;
    vsnprintf(text + used, 298, format, arguments);
    strcat(text + used, "\n");
}

void violated(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    note(violations, format, arguments);
    va_end(arguments);
}

void called(const char *format, ...)
{
    va_list arguments;
    if (!recording)
        return;
    va_start(arguments, format);
    note(calls, format, arguments);
    va_end(arguments);
}

int refuse(int code)
{
    WSASetLastError(code);
    return 0;
}

/* Nobody else may be inside of this queue. */
void enter(volatile LONG *busy, const char *function)
{
    int twice = InterlockedExchange(busy, 1) != 0;
    EnterCriticalSection(&lock);
    if (twice)
        violated("%s: another thread is using the same queue", function);
}

void leave(volatile LONG *busy)
{
    LeaveCriticalSection(&lock);
    InterlockedExchange(busy, 0);
}

/* -------------------------------------------------------------------------------------- sockets */

DWORD mark_of(SOCKET socket)
{
    DWORD mark = 0;
    int length = sizeof mark, error = WSAGetLastError();
    if (getsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, (char *)&mark, &length) != 0)
        mark = 0;
    WSASetLastError(error);
    return (mark & MARK_BITS) == MARK ? mark : 0;
}

int is_open(const requests *rq)
{
    return mark_of(rq->socket) == (MARK | rq->number);
}

static int code_of(DWORD status)
{
    switch (status) {
    case 0:
        return 0;
    case 0xC0000120: /* cancelled */
    case 0x8000000A: /* its handle was closed */
        return WSA_OPERATION_ABORTED;
    case 0x80000005:
        return WSAEMSGSIZE;
    case 0xC000020D:
    case 0xC000013C:
    case 0xC000023F:
        return WSAECONNRESET;
    case 0xC0000241:
    case 0xC000013B:
        return WSAECONNABORTED;
    case 0xC00000B0:
        return WSAESHUTDOWN;
    case 0xC0000140:
        return WSAENOTCONN;
    case 0xC00000B5:
        return WSAETIMEDOUT;
    default:
        return (int)status;
    }
}

/* -------------------------------------------------------------------------------------- results */

void fire(queue *cq)
{
    cq->armed = 0;
    PostQueuedCompletionStatus(cq->port, 0, (ULONG_PTR)cq->key, cq->overlapped);
}

static void finish(request *one, int code)
{
    requests *rq = one->owner;
    lane *way = &rq->lanes[one->direction];
    queue *cq = way->to;

    if (code == WSAENOTSOCK || (code != 0 && rq->ended))
        code = rules & CLOSE_ABORTS ? WSAECONNABORTED : WSA_OPERATION_ABORTED;
    way->first = one->next;
    if (way->first == NULL)
        way->last = NULL;
    if (way->committed == one)
        way->committed = NULL;
    if (!cq->alive)
        return; /* lost, as documented; the request stays with its buffers */
    if (cq->count >= cq->size) {
        violated("a completion queue of %lu overflows", cq->size);
        return;
    }
    DWORD place = (cq->head + cq->count++) % cq->size;
    cq->results[place] = (result){ code, code == 0 || code == WSAEMSGSIZE ? one->done : 0,
                                   (ULONG_PTR)rq->context, (ULONG_PTR)one->context };
    cq->owners[place] = one;
    if (one->flags & DONT_NOTIFY)
        return;
    cq->loud++;
    if (cq->armed)
        fire(cq);
}

/* ----------------------------------------------------------------------------------- operations */

/* 0 if it is under way, else the code that it failed with. */
static int begin(request *one)
{
    SOCKET socket = one->owner->socket;
    WSABUF piece = { one->length - one->done,
                     one->memory != NULL ? one->memory + one->done : NULL };
    int failed;

    memset(&one->overlapped, 0, sizeof one->overlapped);
    one->overlapped.hEvent = (HANDLE)((ULONG_PTR)bell | 1); /* no packet to the socket's port */
    one->out_flags = 0;
    one->address_length = sizeof one->address;
    if (one->direction == RECEIVES && one->owner->stream)
        failed = WSARecv(socket, &piece, 1, NULL, &one->out_flags, &one->overlapped, NULL);
    else if (one->direction == RECEIVES)
        failed = WSARecvFrom(socket, &piece, 1, NULL, &one->out_flags,
                             (struct sockaddr *)&one->address, &one->address_length,
                             &one->overlapped, NULL);
    else if (one->owner->stream || one->remote == NULL)
        failed = WSASend(socket, &piece, 1, NULL, 0, &one->overlapped, NULL);
    else
        failed = WSASendTo(socket, &piece, 1, NULL, 0, (struct sockaddr *)one->remote,
                           ((struct sockaddr *)one->remote)->sa_family == AF_INET
                               ? (int)sizeof(struct sockaddr_in)
                               : (int)sizeof(struct sockaddr_in6),
                           &one->overlapped, NULL);
    if (failed && WSAGetLastError() != WSA_IO_PENDING &&
        (DWORD)one->overlapped.Internal >> 30 != 2)
        return WSAGetLastError();
    one->owner->lanes[one->direction].active = 1;
    return 0;
}

/* Starts what may start and fails what cannot. */
void go_on(requests *rq, int direction)
{
    lane *way = &rq->lanes[direction];
    if (rq->dead && direction == RECEIVES && !rq->ended)
        return;
    while (!way->active && way->first != NULL && (way->committed != NULL || rq->ended)) {
        int code = rq->ended ? WSA_OPERATION_ABORTED : begin(way->first);
        if (code != 0)
            finish(way->first, code);
    }
}

static void write_envelope(request *one)
{
    if (one->remote != NULL) {
        int known = one->address_length < (INT)ADDRESS_BYTES ? one->address_length
                                                             : (int)ADDRESS_BYTES;
        memset(one->remote, 0, ADDRESS_BYTES);
        memcpy(one->remote, &one->address, known);
    }
    if (one->message_flags != NULL)
        memcpy(one->message_flags, &one->out_flags, sizeof one->out_flags);
}

/* The operation of the head request has ended. */
static void ended(requests *rq, int direction)
{
    lane *way = &rq->lanes[direction];
    request *one = way->first;
    DWORD bytes = (DWORD)one->overlapped.InternalHigh;
    int code = code_of((DWORD)one->overlapped.Internal);

    way->active = 0;
    if (code == WSA_OPERATION_ABORTED && !rq->ended && is_open(rq))
        return; /* not by us: once more */
    if (code == WSA_OPERATION_ABORTED)
        rq->ended = 1;
    if (!rq->stream && direction == RECEIVES && code == WSAECONNRESET)
        return; /* RIO does not tell of unreachable ports */
    if (code == 0 || code == WSAEMSGSIZE)
        one->done += bytes < one->length - one->done ? bytes : one->length - one->done;
    if (code == 0 && rq->stream && one->done < one->length && bytes != 0 &&
        (direction == SENDS || (one->flags & WAITALL)))
        return; /* not all of it yet: the rest */
    if (!rq->stream && direction == RECEIVES && (code == 0 || code == WSAEMSGSIZE))
        write_envelope(one);
    if (rq->stream && direction == RECEIVES && code == 0 && one->done == 0)
        rq->heard = 1;
    finish(one, code);
}

/* Sockets that were closed and have nothing outstanding give their reservation back. */
void reclaim(void)
{
    for (requests **link = &all; *link != NULL;) {
        requests *rq = *link;
        if (rq->lanes[0].outstanding == 0 && rq->lanes[1].outstanding == 0 && !is_open(rq)) {
            for (int i = 0; i < 2; i++)
                rq->lanes[i].to->reserved -= rq->lanes[i].limit;
            rq->alive = 0; /* its memory stays: a late use is to be noticed */
            *link = rq->next;
        } else {
            link = &rq->next;
        }
    }
}

int receives(SOCKET socket)
{
    int found = 0;
    EnterCriticalSection(&lock);
    for (const requests *rq = all; rq != NULL; rq = rq->next)
        found |= rq->socket == socket && !rq->ended && is_open(rq) && rq->stream && !rq->heard &&
                 rq->lanes[RECEIVES].outstanding != 0;
    LeaveCriticalSection(&lock);
    return found;
}

/* A socket is about to be closed: what closesocket means to its requests. */
void closing(SOCKET socket)
{
    EnterCriticalSection(&lock);
    for (requests *rq = all; rq != NULL; rq = rq->next) {
        if (rq->socket != socket || rq->ended || !is_open(rq))
            continue;
        rq->ended = 1;
        if ((rules & CLOSE_RESETS) && rq->stream && !rq->heard &&
            rq->lanes[RECEIVES].outstanding != 0) {
            struct linger none = { 1, 0 };
            setsockopt(socket, SOL_SOCKET, SO_LINGER, (char *)&none, sizeof none);
        }
        for (int direction = 0; direction < 2; direction++) {
            lane *way = &rq->lanes[direction];
            if (way->active)
                CancelIoEx((HANDLE)socket, &way->first->overlapped);
            else
                go_on(rq, direction);
        }
        for (int turn = 0; turn < CLOSING_TURNS; turn++) {
            int busy = 0;
            for (int direction = 0; direction < 2; direction++) {
                const lane *way = &rq->lanes[direction];
                busy |= way->active && way->first->overlapped.Internal == STATUS_PENDING;
            }
            if (!busy)
                break;
            Sleep(1);
        }
    }
    LeaveCriticalSection(&lock);
}

/* Nothing stands behind posted receives: what found none is gone. */
static void drop_datagrams(SOCKET socket)
{
    char byte;
    for (;;) {
        fd_set readable = { 1, { socket } };
        TIMEVAL now = { 0, 0 };
        if (select(0, &readable, NULL, NULL, &now) != 1)
            return;
        recv(socket, &byte, 1, 0); /* WSAEMSGSIZE: the rest goes, too */
    }
}

/* Whether the operation of the head request is over, and may be told. */
static int is_over(request *one)
{
    if (one->overlapped.Internal == STATUS_PENDING)
        return 0;
    if (one->direction == RECEIVES || !(rules & ACKNOWLEDGED) || one->owner->ended)
        return 1;
    if (one->due == 0)
        one->due = GetTickCount64() + ACKNOWLEDGED_MS;
    return GetTickCount64() >= one->due;
}

static void look(requests *rq, int direction)
{
    lane *way = &rq->lanes[direction];
    do {
        if (way->first == NULL)
            break;
        if (way->active && is_over(way->first))
            ended(rq, direction);
        if (!way->active && way->first != NULL && !rq->ended && !is_open(rq))
            rq->ended = 1;
        go_on(rq, direction);
    } while (way->active && is_over(way->first));
    if (!rq->stream && direction == RECEIVES && way->committed == NULL && !way->active &&
        (rules & NO_DATAGRAM_BUFFER) && !rq->ended && is_open(rq))
        drop_datagrams(rq->socket);
}

static DWORD WINAPI work(void *unused)
{
    (void)unused;
    for (unsigned turn = 0;; turn++) {
        if (rules & BURSTS)
            Sleep(BURST_MS);
        WaitForSingleObject(bell, LOOK_MS);
        EnterCriticalSection(&lock);
        if (turn % RECLAIM_TURNS == 0)
            reclaim();
        for (requests *rq = all; rq != NULL; rq = rq->next)
            for (int direction = 0; direction < 2; direction++)
                look(rq, direction);
        LeaveCriticalSection(&lock);
    }
    return 0;
}

BOOL WINAPI DllMain(HINSTANCE module, DWORD why, void *unused)
{
    (void)module, (void)unused;
    if (why != DLL_PROCESS_ATTACH)
        return TRUE;
    InitializeCriticalSection(&lock);
    calls = calloc(1, TEXT_BYTES);
    violations = calloc(1, TEXT_BYTES);
    bell = CreateEventW(NULL, FALSE, FALSE, NULL);
    return calls != NULL && violations != NULL && bell != NULL &&
           CreateThread(NULL, 0, work, NULL, 0, NULL) != NULL;
}
