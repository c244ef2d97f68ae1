/* iocp_watch.c: readiness of sockets on a completion port, by asking Winsock's own driver.
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
#include "windows/iocp_watch.h"

#include <stdlib.h>
#include <string.h>
#include <winternl.h>

#include "windows/codes.h"

#define BUCKETS 256

#define LAYERS_MAX 16 /* of providers over a socket; more is a layer that answers with itself */

#ifndef SIO_BSP_HANDLE_POLL
#define SIO_BSP_HANDLE_POLL _WSAIOR(IOC_WS2, 29)
#endif

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

typedef struct iocp_watched iocp_watched;

struct iocp_watched {
    iocp_operation operation;
    iocp_watched *next;        /* in the bucket of its socket */
    iocp_watched *next_to_arm;
    afd_question question;
    SOCKET socket, base;
    uint64_t key;
    uint32_t mask;
    uint8_t busy;   /* its poll is under way */
    uint8_t listed; /* waits to be armed */
    uint8_t stopped;
    uint8_t once; /* RIO_WATCH_ONCE */
};

/* The source: all watches of a port. */
typedef struct iocp_watching {
    iocp_source source; /* first */
    iocp_watched *watches[BUCKETS];
    iocp_watched *to_arm;
    HANDLE afd; /* null: not opened yet */
} iocp_watching;

static void iocp_watch__arm(iocp_port *, iocp_source *);
static int iocp_watch__eager(const iocp_source *);
static void iocp_watch__end(iocp_port *, iocp_source *);
static void iocp_watch__close(iocp_source *);

static const iocp_source_kind iocp_watch__kind = {
    .bytes = sizeof(iocp_watching),
    .arm = iocp_watch__arm,
    .eager = iocp_watch__eager,
    .end = iocp_watch__end,
    .close = iocp_watch__close,
};

static iocp_watching *iocp_watch__of(const iocp_port *port)
{
    return (iocp_watching *)iocp_source_of(port, &iocp_watch__kind);
}

static iocp_watched **iocp_watch__link(iocp_watching *watching, SOCKET socket)
{
    iocp_watched **link = &watching->watches[(socket >> 2) % BUCKETS];
    while (*link != NULL && (*link)->socket != socket)
        link = &(*link)->next;
    return link;
}

static void iocp_watch__list(iocp_watching *watching, iocp_watched *watch)
{
    if (watch->listed)
        return;
    watch->listed = 1;
    watch->next_to_arm = watching->to_arm;
    watching->to_arm = watch;
}

/* Takes a watch out of its bucket; freed when neither the driver nor the list has it. */
static void iocp_watch__drop(iocp_watched **link)
{
    iocp_watched *watch = *link;
    *link = watch->next;
    watch->stopped = 1;
    if (watch->busy)
        iocp_cancel(&watch->operation);
    else if (!watch->listed)
        free(watch);
}

static void iocp_watch__polled(iocp_port *port, iocp_operation *operation, int32_t code,
                               uint32_t bytes)
{
    iocp_watched *watch = CONTAINING_RECORD(operation, iocp_watched, operation);
    ULONG events = watch->question.handles[0].events;
    iocp_watching *watching = iocp_watch__of(port);

    (void)bytes;
    watch->busy = 0;
    if (watch->stopped) {
        if (!watch->listed)
            free(watch);
        return;
    }
    if (code == 0 && watch->question.count != 0) {
        if (events & AFD_POLL_LOCAL_CLOSE) {
            iocp_watch__drop(iocp_watch__link(watching, watch->socket));
            return;
        }
        uint32_t mask = (events & (READS | ENDS) ? RIO_WATCH_READ : 0) |
                        (events & (AFD_POLL_SEND | ENDS) ? RIO_WATCH_WRITE : 0);
        rio_port_event event = { .kind = RIO_PORT_READY,
                                 .key = watch->key,
                                 .value = mask & watch->mask };
        events_withdraw(&port->events, (rio_socket)watch->socket, RIO_PORT_READY);
        if (event.value != 0) {
            (void)events_put(&port->events, &event, (rio_socket)watch->socket);
            if (watch->once) {
                watch->mask = 0; /* the next call of watch begins anew */
                return;
            }
        }
    }
    if (watch->mask != 0)
        iocp_watch__list(watching, watch);
}

/* The way to the driver: a handle of its own, that belongs to this port. 0 or a code. */
static int32_t iocp_watch__open(iocp_port *port, iocp_watching *watching)
{
    static const WCHAR text[] = L"\\Device\\Afd\\zerio";
    UNICODE_STRING name = { sizeof text - sizeof text[0], sizeof text, (WCHAR *)(uintptr_t)text };
    OBJECT_ATTRIBUTES attributes = { .Length = sizeof attributes, .ObjectName = &name };
    IO_STATUS_BLOCK status;
    HANDLE afd;

    if (watching->afd != NULL)
        return 0;
    if (NtCreateFile(&afd, SYNCHRONIZE, &attributes, &status, NULL, 0,
                     FILE_SHARE_READ | FILE_SHARE_WRITE, FILE_OPEN, 0, NULL, 0) != 0)
        return RIO_EOPNOTSUPP;
    int32_t code = iocp_join(port, (SOCKET)afd);
    if (code != 0) {
        CloseHandle(afd);
        return code;
    }
    watching->afd = afd;
    return 0;
}

static int32_t iocp_watch__poll(iocp_port *port, const iocp_watching *watching, iocp_watched *watch)
{
    OVERLAPPED *overlapped = iocp_fresh(&watch->operation, watching->afd);
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
    counts_add(&port->hub.counts.system_calls, 1);
    NTSTATUS status = NtDeviceIoControlFile(watching->afd, NULL, NULL, overlapped,
                                            (IO_STATUS_BLOCK *)&overlapped->Internal, AFD_POLL,
                                            question, sizeof *question, question, sizeof *question);
    if (status != 0 && status != 0x103)
        return codes_winsock(RtlNtStatusToDosError(status));
    iocp_began(port);
    watch->busy = 1;
    return 0;
}

static void iocp_watch__arm(iocp_port *port, iocp_source *source)
{
    iocp_watching *watching = (iocp_watching *)source;

    while (watching->to_arm != NULL) {
        iocp_watched *watch = watching->to_arm;
        watching->to_arm = watch->next_to_arm;
        watch->listed = 0;
        if (watch->stopped) {
            if (!watch->busy)
                free(watch);
        } else if (!watch->busy && iocp_watch__poll(port, watching, watch) != 0) {
            iocp_watch__drop(iocp_watch__link(watching, watch->socket)); /* closed without a word */
        }
    }
}

static void iocp_watch__stop(iocp_port *port, SOCKET socket)
{
    iocp_watching *watching = iocp_watch__of(port);
    iocp_watched **link = watching != NULL ? iocp_watch__link(watching, socket) : NULL;
    if (link != NULL && *link != NULL)
        iocp_watch__drop(link);
    events_withdraw(&port->events, (rio_socket)socket, RIO_PORT_READY);
}

/* The socket that AFD knows; 0 and WSAGetLastError if there is none. Some layers do not say what is
 * below all of them, but pass on what polls ask for: the socket below the first, and so on. */
static int iocp_watch__base(SOCKET socket, SOCKET *base)
{
    DWORD bytes;
    for (int layer = 0; layer < LAYERS_MAX; layer++) {
        if (WSAIoctl(socket, SIO_BASE_HANDLE, NULL, 0, base, sizeof *base, &bytes, NULL, NULL) == 0)
            return 1;
        int error = WSAGetLastError();
        if (error == WSAENOTSOCK || WSAIoctl(socket, SIO_BSP_HANDLE_POLL, NULL, 0, base,
                                             sizeof *base, &bytes, NULL, NULL) != 0 ||
            *base == socket) {
            WSASetLastError(error);
            return 0;
        }
        socket = *base;
    }
    return 0;
}

int32_t iocp_watch(rio_port *handle, rio_socket socket, uint32_t mask, uint64_t key)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);
    SOCKET base;
    int type, length = sizeof type;

    if (port == NULL)
        return code;
    if (!events_watchable(mask))
        return RIO_EINVAL;
    if (mask == 0) {
        iocp_watch__stop(port, (SOCKET)socket);
        return 0;
    }
    iocp_watching *watching = (iocp_watching *)iocp_source_made(port, &iocp_watch__kind);
    if (watching == NULL)
        return RIO_ENOBUFS;
    uint8_t once = (mask & RIO_WATCH_ONCE) != 0;
    mask &= RIO_WATCH_READ | RIO_WATCH_WRITE;
    /* Wine tells the base handle of a plain file, too. */
    if (getsockopt((SOCKET)socket, SOL_SOCKET, SO_TYPE, (char *)&type, &length) != 0 ||
        !iocp_watch__base((SOCKET)socket, &base))
        return codes_winsock((DWORD)WSAGetLastError());
    if ((code = iocp_watch__open(port, watching)) != 0)
        return code;
    iocp_watched **link = iocp_watch__link(watching, (SOCKET)socket);
    iocp_watched *watch = *link;
    if (watch == NULL) {
        watch = calloc(1, sizeof *watch);
        if (watch == NULL)
            return RIO_ENOBUFS;
        watch->operation.done = iocp_watch__polled;
        watch->socket = (SOCKET)socket;
        watch->next = *link;
        *link = watch;
    } else {
        events_withdraw(&port->events, socket, RIO_PORT_READY);
        if (watch->busy)
            iocp_cancel(&watch->operation); /* its packet arms the new wish */
    }
    watch->base = base;
    watch->once = once;
    watch->mask = mask;
    watch->key = key;
    if (!watch->busy)
        iocp_watch__list(watching, watch);
    return 0;
}

/* -------------------------------------------------------------------------------- the source */

static int iocp_watch__eager(const iocp_source *source)
{
    return ((const iocp_watching *)source)->to_arm != NULL;
}

static void iocp_watch__end(iocp_port *port, iocp_source *source)
{
    iocp_watching *watching = (iocp_watching *)source;
    for (int i = 0; i < BUCKETS; i++)
        while (watching->watches[i] != NULL)
            iocp_watch__drop(&watching->watches[i]);
    iocp_watch__arm(port, source); /* frees what only waited to be armed */
}

static void iocp_watch__close(iocp_source *source)
{
    const iocp_watching *watching = (const iocp_watching *)source;
    if (watching->afd != NULL)
        CloseHandle(watching->afd);
}
