/* iocp_accept.c: accepting on Windows, by AcceptEx, or by accept when the listener is ready.
 *
 * AcceptEx is for listeners of this process alone, and those of the provider's own kind. It takes a
 * socket that will become the connection, and writes both addresses behind a first message that we
 * do not ask for; GetAcceptExSockaddrs finds the peer's there. It is called some times ahead, so
 * that a burst of clients finds a socket each, and leaves the new connection without its context
 * (getpeername, shutdown, inherited options) until an option is set.
 *
 * A listener that other processes may share (workers of a supervisor, a reloader) is different. Its
 * file belongs for life to the first completion port that took it, and who calls AcceptEx ahead
 * takes connections that it may be too busy to serve. So each process asks the driver whether the
 * listener is ready (iocp_poll.c), which needs no port, and takes one connection in its wait.
 *
 * What can go wrong.
 *   - A client that is gone before it was accepted ends one AcceptEx (WSAECONNRESET and the like);
 *     the listener goes on. Any other error is the listener's: it is reported, accepting stops.
 *   - No socket left: reported when no AcceptEx is pending any more, so nothing busies itself.
 *   - Stopping leaves operations behind; they end by their packets and free themselves.
 *   - A listener closed without accept_stop: its operations end. Their packets are looked at before
 *     a listener with its number is taken for it.
 *
 * Links:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nf-mswsock-acceptex
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nf-mswsock-getacceptexsockaddrs
 */
#include "windows/iocp_accept.h"

#include <stdlib.h>
#include <string.h>

#include "windows/codes.h"
#include "windows/iocp_poll.h"
#include "windows/sockets.h"

/* AcceptEx calls that wait at one listener; each holds a socket. */
#define AHEAD 8

#define ADDRESS_BYTES (sizeof(SOCKADDR_STORAGE) + 16) /* as AcceptEx wants it */

typedef struct iocp_listener iocp_listener;

/* The address of an accepted connection: its event's until it was told, then the port's. */
typedef struct iocp_peer {
    rio_peer peer; /* first: events carry its address */
    struct iocp_peer *next;
} iocp_peer;

typedef struct iocp_slot {
    iocp_operation operation;
    iocp_listener *accepts;
    SOCKET socket;
    uint8_t busy;
    char addresses[2 * ADDRESS_BYTES];
} iocp_slot;

/* What happens at one listener. Freed when stopped and no slot is busy. */
struct iocp_listener {
    iocp_listener *next;
    LPFN_ACCEPTEX accept;
    LPFN_GETACCEPTEXSOCKADDRS addresses; /* or null */
    SOCKET listener;
    uint64_t key;
    int family, type, protocol;
    uint32_t busy; /* operations whose packets will come */
    uint8_t stopped;
    uint8_t made;   /* of the provider's own kind, and so are its connections */
    uint8_t polled; /* by accept, when it is ready */
    uint8_t asked;  /* its poll is under way */
    uint8_t alone;
    SOCKET base; /* that the driver knows */
    iocp_poll poll;
    iocp_slot slots[AHEAD];
};

/* The source: all listeners of a port. */
typedef struct iocp_accepting {
    iocp_source source; /* first */
    iocp_listener *accepts;
    iocp_peer *first_told, *last_told;
    uint32_t told, told_last; /* peers in this list, and how many of them are the last wait's */
} iocp_accepting;

static void iocp_accept__arm(iocp_port *, iocp_source *);
static void iocp_accept__told(iocp_port *, iocp_source *, const rio_port_event *, uint32_t count);
static void iocp_accept__end(iocp_port *, iocp_source *);
static void iocp_accept__close(iocp_source *);

static const iocp_source_kind iocp_accept__kind = {
    .bytes = sizeof(iocp_accepting),
    .arm = iocp_accept__arm,
    .told = iocp_accept__told,
    .end = iocp_accept__end,
    .close = iocp_accept__close,
};

/* Errors that concern one client that is gone, not the listener. Wine says "not connected", too. */
static int iocp_accept__survives(int32_t code)
{
    return code == RIO_ECONNRESET || code == RIO_ECONNABORTED || code == RIO_ETIMEDOUT ||
           code == RIO_ENOTCONN || code == RIO_ENETRESET || code == RIO_ENETUNREACH ||
           code == RIO_EHOSTUNREACH;
}

static iocp_accepting *iocp_accept__of(const iocp_port *port)
{
    return (iocp_accepting *)iocp_source_of(port, &iocp_accept__kind);
}

static iocp_listener *iocp_accept__find(const iocp_port *port, SOCKET listener)
{
    const iocp_accepting *accepting = iocp_accept__of(port);
    iocp_listener *accepts = accepting != NULL ? accepting->accepts : NULL;
    while (accepts != NULL && accepts->listener != listener)
        accepts = accepts->next;
    return accepts;
}

/* A socket for the next connection, of the listener's kind. */
static SOCKET iocp_accept__socket(const iocp_port *port, const iocp_listener *accepts)
{
    if (accepts->made)
        return port->make_socket(accepts->family, accepts->type, accepts->protocol);
    return WSASocketW(accepts->family, accepts->type, accepts->protocol, NULL, 0,
                      WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
}

/* One AcceptEx more. 0 or a code. */
static int32_t iocp_accept__await(iocp_port *port, iocp_slot *slot)
{
    iocp_listener *accepts = slot->accepts;
    DWORD bytes;

    slot->socket = iocp_accept__socket(port, accepts);
    counts_add(&port->hub.counts.system_calls, 2);
    if (slot->socket == INVALID_SOCKET)
        return codes_winsock((DWORD)WSAGetLastError());
    if (!accepts->accept(accepts->listener, slot->socket, slot->addresses, 0, ADDRESS_BYTES,
                         ADDRESS_BYTES, &bytes,
                         iocp_fresh(&slot->operation, (HANDLE)accepts->listener)) &&
        WSAGetLastError() != WSA_IO_PENDING) {
        int32_t code = codes_winsock((DWORD)WSAGetLastError());
        closesocket(slot->socket);
        return code;
    }
    iocp_expect(port, &slot->operation);
    slot->busy = 1;
    accepts->busy++;
    return 0;
}

/* Accepting is over: no event carries its key any more, but the one that is told now. */
static void iocp_accept__over(iocp_port *port, iocp_listener *accepts, int32_t code)
{
    iocp_listener **link = &iocp_accept__of(port)->accepts;
    while (*link != accepts)
        link = &(*link)->next;
    *link = accepts->next;
    accepts->stopped = 1;
    for (int i = 0; i < AHEAD; i++)
        if (accepts->slots[i].busy)
            iocp_cancel(&accepts->slots[i].operation);
    if (accepts->asked)
        iocp_cancel(&accepts->poll.operation);
    if (code != 0) {
        rio_port_event event = { .kind = RIO_PORT_ACCEPT,
                                 .status = code,
                                 .key = accepts->key,
                                 .value = (uint64_t)RIO_INVALID_SOCKET };
        (void)events_put(&port->events, &event, (rio_socket)accepts->listener);
    }
}

/* Fills the free slots; when there is none at all, accepting is over. */
static void iocp_accept__fill(iocp_port *port, iocp_listener *accepts)
{
    int32_t code = 0;
    for (int i = 0; i < AHEAD && code == 0; i++)
        if (!accepts->slots[i].busy)
            do
                code = iocp_accept__await(port, &accepts->slots[i]);
            while (iocp_accept__survives(code));
    if (accepts->busy == 0)
        iocp_accept__over(port, accepts, code);
}

/* The new connection, as sockets of a loop are: complete, and not blocking, which those of the
 * provider's own kind never are, and refuse to be told. 0 or a code. */
static int32_t iocp_accept__adopt(const iocp_listener *accepts, SOCKET socket)
{
    u_long on = 1;
    if (setsockopt(socket, SOL_SOCKET, SO_UPDATE_ACCEPT_CONTEXT, (const char *)&accepts->listener,
                   sizeof accepts->listener) != 0 ||
        (!accepts->made && ioctlsocket(socket, FIONBIO, &on) != 0))
        return codes_winsock((DWORD)WSAGetLastError());
    return 0;
}

static iocp_peer *iocp_accept__named(const void *address, int length)
{
    iocp_peer *peer = NULL;
    if (address != NULL && length > 0 && (size_t)length <= sizeof peer->peer.address)
        peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        return NULL;
    memcpy(peer->peer.address, address, (size_t)length);
    peer->peer.length = (uint64_t)length;
    return peer;
}

/* Whom the new connection is from; null if that cannot be said. */
static iocp_peer *iocp_accept__peer(const iocp_listener *accepts, iocp_slot *slot)
{
    struct sockaddr *own = NULL, *remote = NULL;
    int own_length = 0, length = 0;

    if (accepts->addresses == NULL)
        return NULL;
    accepts->addresses(slot->addresses, 0, ADDRESS_BYTES, ADDRESS_BYTES, &own, &own_length, &remote,
                       &length);
    return iocp_accept__named(remote, length);
}

static void iocp_accept__accepted(iocp_port *port, iocp_operation *operation, int32_t code,
                                  uint32_t bytes)
{
    iocp_slot *slot = CONTAINING_RECORD(operation, iocp_slot, operation);
    iocp_listener *accepts = slot->accepts;
    rio_port_event event = { .kind = RIO_PORT_ACCEPT,
                             .key = accepts->key,
                             .value = (uint64_t)slot->socket };

    (void)bytes;
    slot->busy = 0;
    accepts->busy--;
    if (code == 0 && !accepts->stopped)
        event.overlapped = iocp_accept__peer(accepts, slot);
    if (code != 0 || accepts->stopped || iocp_accept__adopt(accepts, slot->socket) != 0 ||
        !events_put(&port->events, &event, (rio_socket)accepts->listener)) {
        closesocket(slot->socket);
        free(event.overlapped);
    }
    if (!accepts->stopped) {
        if (code != 0 && !iocp_accept__survives(code))
            iocp_accept__over(port, accepts, code);
        else
            iocp_accept__fill(port, accepts);
    }
    if (accepts->stopped && accepts->busy == 0)
        free(accepts);
}

/* ---------------------------------------------------------------------- shared listeners */

static void iocp_accept__ask(iocp_port *port, iocp_listener *accepts)
{
    int32_t code = iocp_poll_ask(port, &accepts->poll, accepts->base, AFD_POLL_ACCEPT);
    accepts->asked = code == 0;
    if (code == 0)
        accepts->busy++;
    else
        iocp_accept__over(port, accepts, code);
}

/* Takes one connection, if nobody else has. 0, or the code of the last attempt. */
static int32_t iocp_accept__take(iocp_port *port, iocp_listener *accepts)
{
    SOCKADDR_STORAGE address;
    int length = sizeof address;
    u_long on = 1;
    rio_port_event event = { .kind = RIO_PORT_ACCEPT, .key = accepts->key };

    counts_add(&port->hub.counts.system_calls, 1);
    SOCKET made = accept(accepts->listener, (struct sockaddr *)&address, &length);
    if (made == INVALID_SOCKET)
        return codes_winsock((DWORD)WSAGetLastError());
    event.value = (uint64_t)made;
    event.overlapped = iocp_accept__named(&address, length);
    if (!SetHandleInformation((HANDLE)made, HANDLE_FLAG_INHERIT, 0) ||
        ioctlsocket(made, FIONBIO, &on) != 0 ||
        !events_put(&port->events, &event, (rio_socket)accepts->listener)) {
        closesocket(made);
        free(event.overlapped);
    }
    return 0;
}

static void iocp_accept__ready(iocp_port *port, iocp_operation *operation, int32_t code,
                               uint32_t bytes)
{
    iocp_listener *accepts = CONTAINING_RECORD(operation, iocp_listener, poll.operation);

    (void)bytes;
    accepts->asked = 0;
    accepts->busy--;
    if (accepts->polled && !accepts->stopped) {
        ULONG events = iocp_poll_answer(&accepts->poll, code);
        if (events & AFD_POLL_LOCAL_CLOSE)
            code = RIO_ENOTSOCK;
        for (int i = 0; code == 0 && events != 0 && i < (accepts->alone ? AHEAD : 1); i++)
            code = iocp_accept__take(port, accepts);
        if (code == 0 || code == RIO_EWOULDBLOCK || iocp_accept__survives(code))
            iocp_accept__ask(port, accepts);
        else
            iocp_accept__over(port, accepts, code);
    } else if (!accepts->stopped) {
        iocp_accept__fill(port, accepts); /* what accept_alone had no room for */
    }
    if (accepts->stopped && accepts->busy == 0)
        free(accepts);
}

/* By readiness, if the driver knows the listener and it will not block. */
static int iocp_accept__can_poll(iocp_listener *accepts)
{
    u_long on = 1;
    return !accepts->made && iocp_poll_base(accepts->listener, &accepts->base) == 0 &&
           ioctlsocket(accepts->listener, FIONBIO, &on) == 0;
}

/* --------------------------------------------------------------------------------- the entries */

static int32_t iocp_accept__listens(SOCKET listener, iocp_listener *accepts)
{
    WSAPROTOCOL_INFOW protocol;
    BOOL listens;
    int length = sizeof protocol;
    if (getsockopt(listener, SOL_SOCKET, SO_PROTOCOL_INFOW, (char *)&protocol, &length) != 0)
        return codes_winsock((DWORD)WSAGetLastError());
    length = sizeof listens;
    if (getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, (char *)&listens, &length) != 0)
        return codes_winsock((DWORD)WSAGetLastError());
    accepts->family = protocol.iAddressFamily;
    accepts->type = protocol.iSocketType;
    accepts->protocol = protocol.iProtocol;
    return listens ? 0 : RIO_EINVAL;
}

int32_t iocp_accept(rio_port *handle, rio_socket listener, uint64_t key)
{
    static const GUID accept_ex = WSAID_ACCEPTEX;
    static const GUID accept_addresses = WSAID_GETACCEPTEXSOCKADDRS;
    iocp_listener asked = { .listener = (SOCKET)listener, .key = key };
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);

    if (port == NULL || (code = iocp_accept__listens(asked.listener, &asked)) != 0)
        return code;
    iocp_listener *accepts = iocp_accept__find(port, asked.listener);
    if (accepts != NULL) {
        (void)iocp_turn(port, 0); /* it is over if that was another listener with this number */
        accepts = iocp_accept__find(port, asked.listener);
        if (accepts != NULL) {
            accepts->key = key;
            return 0;
        }
        events_withdraw(&port->events, listener, RIO_PORT_ACCEPT);
    }
    asked.made = port->is_made != NULL && port->is_made(asked.listener);
    asked.polled = (uint8_t)iocp_accept__can_poll(&asked);
    if (!asked.polled && (code = iocp_join(port, asked.listener)) != 0)
        return code;
    asked.accept = (LPFN_ACCEPTEX)sockets_extension(asked.listener, accept_ex);
    if (asked.accept == NULL)
        return RIO_EOPNOTSUPP;
    asked.addresses =
        (LPFN_GETACCEPTEXSOCKADDRS)sockets_extension(asked.listener, accept_addresses);
    iocp_accepting *accepting = (iocp_accepting *)iocp_source_made(port, &iocp_accept__kind);
    accepts = accepting != NULL ? malloc(sizeof *accepts) : NULL;
    if (accepts == NULL)
        return RIO_ENOBUFS;
    *accepts = asked;
    for (int i = 0; i < AHEAD; i++) {
        accepts->slots[i].accepts = accepts;
        accepts->slots[i].operation.done = iocp_accept__accepted;
    }
    accepts->poll.operation.done = iocp_accept__ready;
    accepts->next = accepting->accepts;
    accepting->accepts = accepts;
    if (accepts->polled)
        iocp_accept__ask(port, accepts);
    else
        iocp_accept__fill(port, accepts);
    if (accepts->stopped) /* it has told why */
        free(accepts);
    return 0;
}

/* Alone: by AcceptEx from now on, unless the listener's file belongs to another port. What AcceptEx
 * has posted stays: a listener is shared before it is accepted on, or not at all. */
int32_t iocp_accept_alone(rio_port *handle, rio_socket listener, uint32_t alone)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);
    if (port == NULL)
        return code;
    iocp_listener *accepts = iocp_accept__find(port, (SOCKET)listener);
    if (accepts == NULL)
        return RIO_EINVAL;
    accepts->alone = alone != 0;
    if (!alone || !accepts->polled || iocp_join(port, accepts->listener) != 0)
        return 0;
    accepts->polled = 0;
    if (accepts->asked)
        iocp_cancel(&accepts->poll.operation);
    iocp_accept__fill(port, accepts);
    return 0;
}

int32_t iocp_accept_stop(rio_port *handle, rio_socket listener)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);
    if (port == NULL)
        return code;
    iocp_listener *accepts = iocp_accept__find(port, (SOCKET)listener);
    if (accepts != NULL) {
        if (!accepts->made)
            iocp_forget(port, accepts->listener);
        iocp_accept__over(port, accepts, 0); /* at least one operation is left: its packet frees */
        (void)iocp_turn(port, 0);
    }
    events_withdraw(&port->events, listener, RIO_PORT_ACCEPT);
    return 0;
}

/* --------------------------------------------------------------------------------- the source */

static void iocp_accept__told(iocp_port *port, iocp_source *source, const rio_port_event *events,
                              uint32_t count)
{
    iocp_accepting *accepting = (iocp_accepting *)source;

    (void)port;
    accepting->told_last = 0;
    for (uint32_t i = 0; i < count; i++) {
        iocp_peer *peer = events[i].overlapped;
        if (events[i].kind != RIO_PORT_ACCEPT || peer == NULL)
            continue;
        *(accepting->last_told != NULL ? &accepting->last_told->next : &accepting->first_told) =
            peer;
        accepting->last_told = peer;
        accepting->told++;
        accepting->told_last++;
    }
}

static void iocp_accept__forget(iocp_accepting *accepting, uint32_t keep)
{
    while (accepting->told > keep) {
        iocp_peer *peer = accepting->first_told;
        accepting->first_told = peer->next;
        if (accepting->first_told == NULL)
            accepting->last_told = NULL;
        free(peer);
        accepting->told--;
    }
}

/* A wait begins: addresses that were told go, but for the last ones. */
static void iocp_accept__arm(iocp_port *port, iocp_source *source)
{
    iocp_accepting *accepting = (iocp_accepting *)source;
    (void)port;
    iocp_accept__forget(accepting, accepting->told_last > RIO_PEERS_KEPT ? accepting->told_last
                                                                         : RIO_PEERS_KEPT);
}

static void iocp_accept__end(iocp_port *port, iocp_source *source)
{
    iocp_accepting *accepting = (iocp_accepting *)source;
    while (accepting->accepts != NULL)
        iocp_accept__over(port, accepting->accepts, 0);
}

static void iocp_accept__close(iocp_source *source)
{
    iocp_accept__forget((iocp_accepting *)source, 0);
}
