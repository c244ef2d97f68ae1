/* iocp_watch.c: readiness of sockets on a completion port, by polls of iocp_poll.c.
 *
 * A poll answers once. Watches are level-triggered, so after each answer the next poll is handed
 * over when the port waits again, and answers at once if the socket is still ready.
 *
 * What can go wrong.
 *   - A watched socket that is closed ends its poll (AFD_POLL_LOCAL_CLOSE); the watch is forgotten.
 *   - A watch that is changed or stopped while its poll is under way: the poll is cancelled, and
 *     its packet arms the new wish or frees the watch.
 */
#include "windows/iocp_watch.h"

#include <stdlib.h>
#include <string.h>

#include "windows/codes.h"
#include "windows/iocp_poll.h"

#define BUCKETS 256

/* Errors and hang-ups count as both. */
#define READS (AFD_POLL_RECEIVE | AFD_POLL_DISCONNECT | AFD_POLL_ACCEPT)
#define ENDS (AFD_POLL_ABORT | AFD_POLL_CONNECT_FAIL)

typedef struct iocp_watched iocp_watched;

struct iocp_watched {
    iocp_poll poll;
    iocp_watched *next; /* in the bucket of its socket */
    iocp_watched *next_to_arm;
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
} iocp_watching;

static void iocp_watch__arm(iocp_port *, iocp_source *);
static int iocp_watch__eager(const iocp_source *);
static void iocp_watch__end(iocp_port *, iocp_source *);

static const iocp_source_kind iocp_watch__kind = {
    .bytes = sizeof(iocp_watching),
    .arm = iocp_watch__arm,
    .eager = iocp_watch__eager,
    .end = iocp_watch__end,
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
        iocp_cancel(&watch->poll.operation);
    else if (!watch->listed)
        free(watch);
}

static void iocp_watch__polled(iocp_port *port, iocp_operation *operation, int32_t code,
                               uint32_t bytes)
{
    iocp_watched *watch = CONTAINING_RECORD(operation, iocp_watched, poll.operation);
    ULONG events = iocp_poll_answer(&watch->poll, code);
    iocp_watching *watching = iocp_watch__of(port);

    (void)bytes;
    watch->busy = 0;
    if (watch->stopped) {
        if (!watch->listed)
            free(watch);
        return;
    }
    if (events != 0) {
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

static int32_t iocp_watch__ask(iocp_port *port, iocp_watched *watch)
{
    ULONG events = ENDS | (watch->mask & RIO_WATCH_READ ? READS : 0) |
                   (watch->mask & RIO_WATCH_WRITE ? AFD_POLL_SEND : 0);
    int32_t code = iocp_poll_ask(port, &watch->poll, watch->base, events);
    watch->busy = code == 0;
    return code;
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
        } else if (!watch->busy && iocp_watch__ask(port, watch) != 0) {
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
    if (getsockopt((SOCKET)socket, SOL_SOCKET, SO_TYPE, (char *)&type, &length) != 0)
        return codes_winsock((DWORD)WSAGetLastError());
    if ((code = iocp_poll_base((SOCKET)socket, &base)) != 0)
        return code;
    iocp_watched **link = iocp_watch__link(watching, (SOCKET)socket);
    iocp_watched *watch = *link;
    if (watch == NULL) {
        watch = calloc(1, sizeof *watch);
        if (watch == NULL)
            return RIO_ENOBUFS;
        watch->poll.operation.done = iocp_watch__polled;
        watch->socket = (SOCKET)socket;
        watch->next = *link;
        *link = watch;
    } else {
        events_withdraw(&port->events, socket, RIO_PORT_READY);
        if (watch->busy)
            iocp_cancel(&watch->poll.operation); /* its packet arms the new wish */
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
