/* winsock_selftest.c: whether the system's Registered I/O works, tried once a process.
 *
 * Why. Windows may hand out its table and then fail to work by it: there are builds of Windows 11
 * on which the table is complete while RIORegisterBuffer answers WSAEFAULT, layered products that
 * let sockets be made and lose their results, and reports of a data path that stalls. A socket that
 * was made for Registered I/O can do nothing else, so by then it is too late for another provider.
 *
 * What is done. A connection of loopback, as the provider would make and use it, but by the
 * system's functions themselves: what fails here is the system's. Each step does one thing, waits
 * no longer than STEP_MS, and has a name, which the reason for a refusal begins with. All of them
 * take a few ms.
 *
 * What can go wrong. A step that fails may leave requests behind. Closing the sockets ends them; if
 * their results do not come, the system may still write to the memory, and so it is not given back.
 */
#include "windows/winsock_selftest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table/clock.h"
#include "windows/codes.h"
#include "windows/sockets.h"

#define STEP_MS 1000 /* loopback takes less than one; a busy machine may need more */
#define END_MS 200   /* for what a failed step has left behind */
#define NS_PER_MS 1000000
#define BURST 32u          /* messages of the burst */
#define MESSAGE_BYTES 512u /* of each */
#define HALF (BURST * MESSAGE_BYTES)
#define DEPTH 32u /* requests in each direction of each socket */
#define ADDRESS_BYTES (sizeof(SOCKADDR_STORAGE) + 16) /* as AcceptEx wants it */
#define REASON_BYTES 256

enum { CLIENT, SERVER };

/* An overlapped operation of ours, and whether its packet has come. */
typedef struct winsock_packet {
    OVERLAPPED overlapped; /* first */
    DWORD error;
    int came;
} winsock_packet;

typedef struct winsock_trial {
    HANDLE completions;
    RIO_CQ queue;
    RIO_BUFFERID buffer;
    char *memory; /* two halves: what is sent, what is received */
    SOCKET listener, sockets[2];
    RIO_RQ requests[2];
    winsock_packet accept, connect, notification;
    char addresses[2 * ADDRESS_BYTES];
    uint32_t flying; /* requests without a result */
    int64_t deadline_ns;
    char told[REASON_BYTES]; /* what went wrong, where a number does not say it */
} winsock_trial;

/* 0, or a Winsock code; -1 if `told` says it. */
typedef int32_t (*winsock_step)(winsock_trial *);

/* What a call was refused with; never 0, for it was refused. */
static int32_t winsock_selftest__refusal(void)
{
    int32_t code = WSAGetLastError();
    return code != 0 ? code : RIO_EOPNOTSUPP;
}

/* ------------------------------------------------------------------------------------- waiting */

static DWORD winsock_selftest__left_ms(const winsock_trial *trial)
{
    int64_t left_ns = trial->deadline_ns - clock_ns();
    return left_ns > 0 ? (DWORD)(left_ns / NS_PER_MS) + 1 : 0;
}

/* Waits for one packet and notes it; 0 if the time is up. */
static int winsock_selftest__packet(winsock_trial *trial)
{
    DWORD bytes, ms = winsock_selftest__left_ms(trial);
    ULONG_PTR key;
    OVERLAPPED *overlapped = NULL;
    if (ms == 0)
        return 0;
    BOOL good = GetQueuedCompletionStatus(trial->completions, &bytes, &key, &overlapped, ms);
    DWORD error = good ? 0 : GetLastError();
    if (overlapped == NULL)
        return 0;
    winsock_packet *packet = (winsock_packet *)overlapped;
    packet->error = error;
    packet->came = 1;
    return 1;
}

static int32_t winsock_selftest__wait(winsock_trial *trial, winsock_packet *packet,
                                      const char *what)
{
    while (!packet->came)
        if (!winsock_selftest__packet(trial)) {
            snprintf(trial->told, sizeof trial->told, "%s did not end in %d ms", what, STEP_MS);
            return -1;
        }
    return codes_winsock(packet->error);
}

/* At least one result and at most so many, by notifications. 0 or a code. */
static int32_t winsock_selftest__results(winsock_trial *trial, RIORESULT *results, uint32_t size,
                                         uint32_t *count)
{
    for (;;) {
        *count = winsock_table.RIODequeueCompletion(trial->queue, results, size);
        if (*count == RIO_CORRUPT_CQ) {
            snprintf(trial->told, sizeof trial->told, "the completion queue is corrupt");
            *count = 0;
            return -1;
        }
        trial->flying -= *count;
        if (*count != 0)
            return 0;
        trial->notification.came = 0;
        int32_t code = winsock_table.RIONotify(trial->queue);
        if (code != 0)
            return code;
        code = winsock_selftest__wait(trial, &trial->notification, "the wait for a result");
        if (code != 0)
            return code;
    }
}

/* The one result that is outstanding: its status, and its bytes. */
static int32_t winsock_selftest__result(winsock_trial *trial, RIORESULT *result)
{
    uint32_t count;
    return winsock_selftest__results(trial, result, 1, &count);
}

/* ------------------------------------------------------------------------------------ requests */

static int32_t winsock_selftest__receive(winsock_trial *trial, int end, uint32_t length)
{
    RIO_BUF slice = { trial->buffer, HALF, length };
    if (!winsock_table.RIOReceive(trial->requests[end], &slice, 1, 0, NULL))
        return winsock_selftest__refusal();
    trial->flying++;
    return 0;
}

static int32_t winsock_selftest__send(winsock_trial *trial, int end, uint32_t offset,
                                      uint32_t length, uint32_t flags)
{
    RIO_BUF slice = { trial->buffer, offset, length };
    if (!winsock_table.RIOSend(trial->requests[end], &slice, 1, flags, (void *)1))
        return winsock_selftest__refusal();
    trial->flying++;
    return 0;
}

/* --------------------------------------------------------------------------------------- steps */

static int32_t winsock_selftest__buffer(winsock_trial *trial)
{
    trial->memory = VirtualAlloc(NULL, 2 * HALF, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
    if (trial->memory == NULL)
        return RIO_ENOBUFS;
    trial->buffer = winsock_table.RIORegisterBuffer(trial->memory, 2 * HALF);
    return trial->buffer != RIO_INVALID_BUFFERID ? 0 : winsock_selftest__refusal();
}

static int32_t winsock_selftest__queue(winsock_trial *trial)
{
    RIO_NOTIFICATION_COMPLETION how = { .Type = RIO_IOCP_COMPLETION };
    trial->completions = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);
    if (trial->completions == NULL)
        return codes_winsock(GetLastError());
    how.u.Iocp.IocpHandle = trial->completions;
    how.u.Iocp.Overlapped = &trial->notification.overlapped;
    trial->queue = winsock_table.RIOCreateCompletionQueue(4 * DEPTH, &how);
    return trial->queue != RIO_INVALID_CQ ? 0 : winsock_selftest__refusal();
}

/* A socket as the provider's are, bound to some port of loopback, on our completion port. */
static int32_t winsock_selftest__socket(winsock_trial *trial, SOCKET *made, int bound)
{
    struct sockaddr_in own = { .sin_family = AF_INET };
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *made = winsock_table_make(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    if (*made == INVALID_SOCKET)
        return winsock_selftest__refusal();
    if (bound && bind(*made, (struct sockaddr *)&own, sizeof own) != 0)
        return winsock_selftest__refusal();
    if (CreateIoCompletionPort((HANDLE)*made, trial->completions, 0, 0) == NULL)
        return codes_winsock(GetLastError());
    return 0;
}

static int32_t winsock_selftest__listen(winsock_trial *trial)
{
    int32_t code = winsock_selftest__socket(trial, &trial->listener, 1);
    return code == 0 && listen(trial->listener, 2) != 0 ? winsock_selftest__refusal() : code;
}

static int32_t winsock_selftest__accept(winsock_trial *trial)
{
    static const GUID accept_ex = WSAID_ACCEPTEX;
    LPFN_ACCEPTEX start = (LPFN_ACCEPTEX)sockets_extension(trial->listener, accept_ex);
    DWORD bytes;
    if (start == NULL)
        return RIO_EOPNOTSUPP;
    int32_t code = winsock_selftest__socket(trial, &trial->sockets[SERVER], 0);
    if (code != 0)
        return code;
    if (!start(trial->listener, trial->sockets[SERVER], trial->addresses, 0, ADDRESS_BYTES,
               ADDRESS_BYTES, &bytes, &trial->accept.overlapped) &&
        WSAGetLastError() != WSA_IO_PENDING)
        return winsock_selftest__refusal();
    return 0;
}

static int32_t winsock_selftest__connect(winsock_trial *trial)
{
    static const GUID connect_ex = WSAID_CONNECTEX;
    struct sockaddr_in peer;
    int length = sizeof peer;
    int32_t code = winsock_selftest__socket(trial, &trial->sockets[CLIENT], 1);
    if (code != 0)
        return code;
    LPFN_CONNECTEX start =
        (LPFN_CONNECTEX)sockets_extension(trial->sockets[CLIENT], connect_ex);
    if (start == NULL)
        return RIO_EOPNOTSUPP;
    if (getsockname(trial->listener, (struct sockaddr *)&peer, &length) != 0)
        return winsock_selftest__refusal();
    if (!start(trial->sockets[CLIENT], (struct sockaddr *)&peer, length, NULL, 0, NULL,
               &trial->connect.overlapped) &&
        WSAGetLastError() != WSA_IO_PENDING)
        return winsock_selftest__refusal();
    code = winsock_selftest__wait(trial, &trial->connect, "ConnectEx");
    return code != 0 ? code : winsock_selftest__wait(trial, &trial->accept, "AcceptEx");
}

static int32_t winsock_selftest__options(winsock_trial *trial)
{
    const BOOL on = 1;
    if (setsockopt(trial->sockets[SERVER], SOL_SOCKET, SO_UPDATE_ACCEPT_CONTEXT,
                   (const char *)&trial->listener, sizeof trial->listener) != 0 ||
        setsockopt(trial->sockets[CLIENT], SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, NULL, 0) != 0)
        return winsock_selftest__refusal();
    for (int end = 0; end < 2; end++)
        if (setsockopt(trial->sockets[end], IPPROTO_TCP, TCP_NODELAY, (const char *)&on,
                       sizeof on) != 0)
            return winsock_selftest__refusal();
    struct sockaddr_in own, seen;
    int length = sizeof own, seen_length = sizeof seen;
    if (getsockname(trial->sockets[CLIENT], (struct sockaddr *)&own, &length) != 0 ||
        getpeername(trial->sockets[SERVER], (struct sockaddr *)&seen, &seen_length) != 0)
        return winsock_selftest__refusal();
    if (own.sin_port == seen.sin_port)
        return 0;
    snprintf(trial->told, sizeof trial->told, "the connection is of another client");
    return -1;
}

static int32_t winsock_selftest__requests(winsock_trial *trial)
{
    for (int end = 0; end < 2; end++) {
        trial->requests[end] =
            winsock_table.RIOCreateRequestQueue(trial->sockets[end], DEPTH, 1, DEPTH, 1,
                                                trial->queue, trial->queue, NULL);
        if (trial->requests[end] == RIO_INVALID_RQ)
            return winsock_selftest__refusal();
    }
    return 0;
}

/* So many bytes from one end to the other, in messages of a length each: deferred, one commit. */
static int32_t winsock_selftest__carry(winsock_trial *trial, int from, uint32_t count,
                                       uint32_t length)
{
    RIORESULT results[DEPTH];
    uint32_t sent = 0, got = 0, found, total = count * length;

    for (uint32_t i = 0; i < total; i++)
        trial->memory[i] = (char)(i % 251 + (uint32_t)from);
    memset(trial->memory + HALF, 0, HALF);
    for (uint32_t i = 0; i < count; i++) {
        int32_t code = winsock_selftest__send(trial, from, i * length, length,
                                              count > 1 ? RIO_MSG_DEFER : 0);
        if (code != 0)
            return code;
    }
    if (count > 1 && !winsock_table.RIOSend(trial->requests[from], NULL, 0, RIO_MSG_COMMIT_ONLY,
                                            NULL))
        return winsock_selftest__refusal();
    int32_t code = winsock_selftest__receive(trial, !from, HALF);
    while (code == 0 && (sent < count || got < total)) {
        code = winsock_selftest__results(trial, results, DEPTH, &found);
        for (uint32_t i = 0; code == 0 && i < found; i++) {
            if (results[i].Status != 0)
                return codes_winsock((DWORD)results[i].Status);
            if (results[i].RequestContext != 0) {
                sent++;
                continue;
            }
            if (memcmp(trial->memory + got, trial->memory + HALF, results[i].BytesTransferred))
                got = total + 1; /* told below */
            got += results[i].BytesTransferred;
            if (results[i].BytesTransferred == 0 || got > total)
                break;
            if (got < total)
                code = winsock_selftest__receive(trial, !from, HALF);
        }
        if (code == 0 && (got > total || (trial->flying == 0 && got < total))) {
            snprintf(trial->told, sizeof trial->told, "other bytes came than were sent");
            return -1;
        }
    }
    return code;
}

static int32_t winsock_selftest__bytes(winsock_trial *trial)
{
    int32_t code = winsock_selftest__carry(trial, CLIENT, 1, 1);
    return code != 0 ? code : winsock_selftest__carry(trial, SERVER, 1, 1);
}

static int32_t winsock_selftest__burst(winsock_trial *trial)
{
    int32_t code = winsock_selftest__carry(trial, CLIENT, BURST, MESSAGE_BYTES);
    return code != 0 ? code : winsock_selftest__carry(trial, SERVER, BURST, MESSAGE_BYTES);
}

static int32_t winsock_selftest__shutdown(winsock_trial *trial)
{
    RIORESULT result;
    int32_t code = winsock_selftest__receive(trial, SERVER, HALF);
    if (code != 0)
        return code;
    if (shutdown(trial->sockets[CLIENT], SD_SEND) != 0)
        return winsock_selftest__refusal();
    if ((code = winsock_selftest__result(trial, &result)) != 0)
        return code;
    if (result.Status == 0 && result.BytesTransferred == 0)
        return winsock_selftest__carry(trial, SERVER, 1, 1); /* the other direction still is open */
    snprintf(trial->told, sizeof trial->told, "the peer saw status %d with %u bytes, not the end",
             (int)result.Status, (unsigned)result.BytesTransferred);
    return -1;
}

static int32_t winsock_selftest__close(winsock_trial *trial)
{
    RIORESULT result;
    int32_t code = winsock_selftest__receive(trial, CLIENT, HALF);
    if (code != 0)
        return code;
    (void)closesocket(trial->sockets[CLIENT]);
    trial->sockets[CLIENT] = INVALID_SOCKET;
    if ((code = winsock_selftest__result(trial, &result)) != 0)
        return code;
    if (result.Status != 0)
        return 0;
    snprintf(trial->told, sizeof trial->told, "the receive ended as if %u bytes had come",
             (unsigned)result.BytesTransferred);
    return -1;
}

static const struct {
    const char *name;
    winsock_step run;
} winsock_selftest__steps[] = {
    { "registering a buffer", winsock_selftest__buffer },
    { "making a completion queue", winsock_selftest__queue },
    { "listening", winsock_selftest__listen },
    { "AcceptEx", winsock_selftest__accept },
    { "ConnectEx", winsock_selftest__connect },
    { "setting options", winsock_selftest__options },
    { "making request queues", winsock_selftest__requests },
    { "a byte each way", winsock_selftest__bytes },
    { "a burst each way", winsock_selftest__burst },
    { "a shutdown", winsock_selftest__shutdown },
    { "a close with a receive outstanding", winsock_selftest__close },
};

/* ----------------------------------------------------------------------------------- the whole */

/* Ends everything, or gives up what the system may still write to. */
static void winsock_selftest__end(winsock_trial *trial)
{
    RIORESULT results[DEPTH];
    uint32_t count;

    for (int end = 0; end < 2; end++)
        if (trial->sockets[end] != INVALID_SOCKET)
            (void)closesocket(trial->sockets[end]);
    if (trial->listener != INVALID_SOCKET)
        (void)closesocket(trial->listener);
    trial->deadline_ns = clock_ns() + (int64_t)END_MS * NS_PER_MS;
    while (trial->flying != 0 &&
           winsock_selftest__results(trial, results, DEPTH, &count) == 0)
        continue;
    while ((trial->accept.overlapped.Internal == STATUS_PENDING && !trial->accept.came) ||
           (trial->connect.overlapped.Internal == STATUS_PENDING && !trial->connect.came))
        if (!winsock_selftest__packet(trial))
            break;
    int left = trial->flying != 0 || trial->accept.overlapped.Internal == STATUS_PENDING ||
               trial->connect.overlapped.Internal == STATUS_PENDING;
    if (trial->queue != RIO_INVALID_CQ && trial->flying == 0)
        winsock_table.RIOCloseCompletionQueue(trial->queue);
    if (trial->completions != NULL)
        (void)CloseHandle(trial->completions);
    if (left)
        return; /* see the top */
    if (trial->buffer != RIO_INVALID_BUFFERID)
        winsock_table.RIODeregisterBuffer(trial->buffer);
    if (trial->memory != NULL)
        (void)VirtualFree(trial->memory, 0, MEM_RELEASE);
    free(trial);
}

static int32_t winsock_selftest__run(char *reason, uint32_t size)
{
    winsock_trial *trial = calloc(1, sizeof *trial);
    int32_t code = 0;
    size_t step = 0;

    if (trial == NULL)
        return RIO_ENOBUFS;
    trial->buffer = RIO_INVALID_BUFFERID;
    trial->listener = trial->sockets[CLIENT] = trial->sockets[SERVER] = INVALID_SOCKET;
    for (;;) {
        trial->deadline_ns = clock_ns() + (int64_t)STEP_MS * NS_PER_MS;
        code = winsock_selftest__steps[step].run(trial);
        if (code != 0 ||
            step + 1 == sizeof winsock_selftest__steps / sizeof winsock_selftest__steps[0])
            break;
        step++;
    }
    if (code == -1)
        snprintf(reason, size, "Windows' Registered I/O failed its self-test at %s: %s.",
                 winsock_selftest__steps[step].name, trial->told);
    else if (code != 0)
        snprintf(reason, size,
                 "Windows' Registered I/O failed its self-test at %s (Winsock error %d).",
                 winsock_selftest__steps[step].name, (int)code);
    winsock_selftest__end(trial);
    return code != -1 ? code : RIO_EOPNOTSUPP;
}

static SRWLOCK winsock_selftest__lock = SRWLOCK_INIT;
static RIO_EXTENSION_FUNCTION_TABLE winsock_selftest__tried; /* the table that it was done with */
static int32_t winsock_selftest__code;
static char winsock_selftest__reason[REASON_BYTES + 128];

int32_t winsock_selftest(char *reason, uint32_t size)
{
    AcquireSRWLockExclusive(&winsock_selftest__lock);
    if (memcmp(&winsock_selftest__tried, &winsock_table, sizeof winsock_table) != 0) {
        winsock_selftest__code =
            winsock_selftest__run(winsock_selftest__reason, sizeof winsock_selftest__reason);
        winsock_selftest__tried = winsock_table;
    }
    int32_t code = winsock_selftest__code;
    if (code != 0 && size != 0)
        snprintf(reason, size, "%s", winsock_selftest__reason);
    ReleaseSRWLockExclusive(&winsock_selftest__lock);
    return code;
}
