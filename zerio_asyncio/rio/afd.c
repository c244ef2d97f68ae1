/* afd.c: readiness of sockets on a completion port, by asking Winsock's own driver.
 *
 * select() and WSAPoll() are built on the driver AFD, which can be asked directly: one request
 * (IOCTL_AFD_POLL) waits until a socket has one of some events, and ends with a packet like any
 * overlapped operation. That is how libuv, wepoll, mio and others wait for readiness on a
 * completion port; the driver's interface is not documented, but has not changed since Windows
 * Vista, and too much rests on it.
 *
 * A poll answers once. Watches are level-triggered, so after each answer the next poll is handed
 * over when the port waits again, and answers at once if the socket is still ready.
 *
 * What can go wrong.
 *   - Layered service providers wrap sockets; AFD wants the one below (SIO_BASE_HANDLE).
 *   - A watched socket that is closed ends its poll (AFD_POLL_LOCAL_CLOSE); the watch is forgotten.
 *   - A watch that is changed or stopped while its poll is under way: the poll is cancelled, and
 *     its packet arms the new wish or frees the watch.
 */
#include "iocp.h"

#include <stdlib.h>
#include <string.h>
#include <winternl.h>

#define AFD_POLL 0x00012024u

#define AFD_POLL_RECEIVE 0x0001u
#define AFD_POLL_SEND 0x0004u
#define AFD_POLL_DISCONNECT 0x0008u
#define AFD_POLL_ABORT 0x0010u
#define AFD_POLL_LOCAL_CLOSE 0x0020u
#define AFD_POLL_ACCEPT 0x0080u
#define AFD_POLL_CONNECT_FAIL 0x0100u

/* Errors and hang-ups count as both. */
#define READS (AFD_POLL_RECEIVE | AFD_POLL_DISCONNECT | AFD_POLL_ACCEPT)
#define ENDS (AFD_POLL_ABORT | AFD_POLL_CONNECT_FAIL)

typedef struct afd_question {
    LARGE_INTEGER timeout;
    ULONG count;
    ULONG exclusive;
    struct {
        HANDLE handle;
        ULONG events;
        NTSTATUS status;
    } handles[1];
} afd_question;

struct iocp_watch {
    iocp_operation operation;
    iocp_watch *next;        /* in the bucket of its socket */
    iocp_watch *next_to_arm;
    afd_question question;
    SOCKET socket, base;
    uint64_t key;
    uint32_t mask;
    uint8_t busy;   /* its poll is under way */
    uint8_t listed; /* waits to be armed */
    uint8_t stopped;
    uint8_t once; /* RIO_WATCH_ONCE */
};

static iocp_watch **afd__link(iocp_port *port, SOCKET socket)
{
    iocp_watch **link = &port->watches[(socket >> 2) % IOCP_WATCH_BUCKETS];
    while (*link != NULL && (*link)->socket != socket)
        link = &(*link)->next;
    return link;
}

static void afd__list(iocp_port *port, iocp_watch *watch)
{
    if (watch->listed)
        return;
    watch->listed = 1;
    watch->next_to_arm = port->to_arm;
    port->to_arm = watch;
}

/* Takes a watch out of its bucket; freed when neither the driver nor the list has it. */
static void afd__drop(iocp_watch **link)
{
    iocp_watch *watch = *link;
    *link = watch->next;
    watch->stopped = 1;
    if (watch->busy)
        iocp_cancel(&watch->operation);
    else if (!watch->listed)
        free(watch);
}

static void afd__polled(iocp_port *port, iocp_operation *operation, int32_t code, uint32_t bytes)
{
    iocp_watch *watch = CONTAINING_RECORD(operation, iocp_watch, operation);
    ULONG events = watch->question.handles[0].events;

    (void)bytes;
    watch->busy = 0;
    if (watch->stopped) {
        if (!watch->listed)
            free(watch);
        return;
    }
    if (code == 0 && watch->question.count != 0) {
        if (events & AFD_POLL_LOCAL_CLOSE) {
            afd__drop(afd__link(port, watch->socket));
            return;
        }
        uint32_t mask = (events & (READS | ENDS) ? RIO_WATCH_READ : 0) |
                        (events & (AFD_POLL_SEND | ENDS) ? RIO_WATCH_WRITE : 0);
        rio_port_event event = { .kind = RIO_PORT_READY,
                                 .key = watch->key,
                                 .value = mask & watch->mask };
        rio_inbox_withdraw(&port->inbox, (rio_socket)watch->socket, RIO_PORT_READY);
        if (event.value != 0) {
            (void)rio_inbox_put(&port->inbox, &event, (rio_socket)watch->socket);
            if (watch->once) {
                watch->mask = 0; /* the next call of watch begins anew */
                return;
            }
        }
    }
    if (watch->mask != 0)
        afd__list(port, watch);
}

/* The way to the driver: a handle of its own, that belongs to this port. 0 or a code. */
static int32_t afd__open(iocp_port *port)
{
    static const WCHAR text[] = L"\\Device\\Afd\\zerio";
    UNICODE_STRING name = { sizeof text - sizeof text[0], sizeof text, (WCHAR *)(uintptr_t)text };
    OBJECT_ATTRIBUTES attributes = { .Length = sizeof attributes, .ObjectName = &name };
    IO_STATUS_BLOCK status;
    HANDLE afd;

    if (port->afd != INVALID_HANDLE_VALUE)
        return 0;
    if (NtCreateFile(&afd, SYNCHRONIZE, &attributes, &status, NULL, 0,
                     FILE_SHARE_READ | FILE_SHARE_WRITE, FILE_OPEN, 0, NULL, 0) != 0)
        return RIO_EOPNOTSUPP;
    int32_t code = iocp_join(port, (SOCKET)afd);
    if (code != 0) {
        CloseHandle(afd);
        return code;
    }
    port->afd = afd;
    return 0;
}

static int32_t afd__poll(iocp_port *port, iocp_watch *watch)
{
    OVERLAPPED *overlapped = iocp_fresh(&watch->operation, port->afd);
    afd_question *question = &watch->question;

    question->timeout.QuadPart = INT64_MAX;
    question->count = 1;
    question->exclusive = FALSE;
    question->handles[0].handle = (HANDLE)watch->base;
    question->handles[0].events = AFD_POLL_LOCAL_CLOSE | ENDS |
                                  (watch->mask & RIO_WATCH_READ ? READS : 0) |
                                  (watch->mask & RIO_WATCH_WRITE ? AFD_POLL_SEND : 0);
    question->handles[0].status = 0;
    overlapped->Internal = (ULONG_PTR)0x103; /* STATUS_PENDING */
    rio_count(&port->core.counts.system_calls, 1);
    NTSTATUS status = NtDeviceIoControlFile(port->afd, NULL, NULL, overlapped,
                                            (IO_STATUS_BLOCK *)&overlapped->Internal, AFD_POLL,
                                            question, sizeof *question, question, sizeof *question);
    if (status != 0 && status != 0x103)
        return iocp_code(RtlNtStatusToDosError(status));
    iocp_began(port);
    watch->busy = 1;
    return 0;
}

void iocp_watches_arm(iocp_port *port)
{
    while (port->to_arm != NULL) {
        iocp_watch *watch = port->to_arm;
        port->to_arm = watch->next_to_arm;
        watch->listed = 0;
        if (watch->stopped) {
            if (!watch->busy)
                free(watch);
        } else if (!watch->busy && afd__poll(port, watch) != 0) {
            afd__drop(afd__link(port, watch->socket)); /* closed without a word */
        }
    }
}

int32_t iocp_watch_change(rio_port *handle, rio_socket socket, uint32_t mask, uint64_t key)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);
    DWORD bytes;
    SOCKET base;
    int type, length = sizeof type;

    if (port == NULL)
        return code;
    int once = (mask & RIO_WATCH_ONCE) != 0;
    if (mask & ~(RIO_WATCH_READ | RIO_WATCH_WRITE | RIO_WATCH_ONCE) || mask == RIO_WATCH_ONCE)
        return RIO_EINVAL;
    mask &= RIO_WATCH_READ | RIO_WATCH_WRITE;
    iocp_watch **link = afd__link(port, (SOCKET)socket);
    if (mask == 0) {
        if (*link != NULL)
            afd__drop(link);
        rio_inbox_withdraw(&port->inbox, socket, RIO_PORT_READY);
        return 0;
    }
    /* Wine tells the base handle of a plain file, too. */
    if (getsockopt((SOCKET)socket, SOL_SOCKET, SO_TYPE, (char *)&type, &length) != 0 ||
        WSAIoctl((SOCKET)socket, SIO_BASE_HANDLE, NULL, 0, &base, sizeof base, &bytes, NULL,
                 NULL) != 0)
        return iocp_code((DWORD)WSAGetLastError());
    if ((code = afd__open(port)) != 0)
        return code;
    iocp_watch *watch = *link;
    if (watch == NULL) {
        watch = calloc(1, sizeof *watch);
        if (watch == NULL)
            return RIO_ENOBUFS;
        watch->operation.done = afd__polled;
        watch->socket = (SOCKET)socket;
        watch->next = *link;
        *link = watch;
    } else {
        rio_inbox_withdraw(&port->inbox, socket, RIO_PORT_READY);
        if (watch->busy)
            iocp_cancel(&watch->operation); /* its packet arms the new wish */
    }
    watch->base = base;
    watch->once = (uint8_t)once;
    watch->mask = mask;
    watch->key = key;
    if (!watch->busy)
        afd__list(port, watch);
    return 0;
}

void iocp_watches_end(iocp_port *port)
{
    for (int i = 0; i < IOCP_WATCH_BUCKETS; i++)
        while (port->watches[i] != NULL)
            afd__drop(&port->watches[i]);
    iocp_watches_arm(port); /* frees what only waited to be armed */
}
