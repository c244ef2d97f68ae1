/* connections.c: accepting and connecting on Windows, by AcceptEx and ConnectEx.
 *
 * AcceptEx takes a socket that will become the connection, and writes both addresses behind a
 * first message that we do not ask for; GetAcceptExSockaddrs finds the peer's there. It is called
 * some times ahead, so that a burst of clients finds a socket each. ConnectEx wants its socket
 * bound. Either leaves the new connection without its context (getpeername, shutdown, inherited
 * options) until an option is set.
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
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_connectex
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nf-mswsock-getacceptexsockaddrs
 */
#include "iocp.h"

#include <stdlib.h>
#include <string.h>

/* AcceptEx calls that wait at one listener; each holds a socket. */
#define AHEAD 8

#define ADDRESS_BYTES (sizeof(SOCKADDR_STORAGE) + 16) /* as AcceptEx wants it */

typedef struct iocp_slot {
    iocp_operation operation;
    iocp_accepts *accepts;
    SOCKET socket;
    uint8_t busy;
    char addresses[2 * ADDRESS_BYTES];
} iocp_slot;

/* What happens at one listener. Freed when stopped and no slot is busy. */
struct iocp_accepts {
    iocp_accepts *next;
    LPFN_ACCEPTEX accept;
    LPFN_GETACCEPTEXSOCKADDRS addresses; /* or null */
    SOCKET listener;
    uint64_t key;
    int family, type, protocol;
    uint32_t busy;
    uint8_t stopped;
    uint8_t plain; /* what the provider likes best was refused here */
    iocp_slot slots[AHEAD];
};

struct iocp_connect {
    iocp_operation operation;
    iocp_connect *next;
    SOCKET socket;
    uint64_t key;
    uint8_t stopped;
};

/* An extension function of the socket's provider; null if there is none. */
static void *connections__extension(SOCKET socket, GUID which)
{
    void *function = NULL;
    DWORD bytes;
    if (WSAIoctl(socket, SIO_GET_EXTENSION_FUNCTION_POINTER, &which, sizeof which, &function,
                 sizeof function, &bytes, NULL, NULL) != 0)
        return NULL;
    return function;
}

/* Errors that concern one client that is gone, not the listener. Wine says "not connected", too. */
static int connections__survives(int32_t code)
{
    return code == RIO_ECONNRESET || code == RIO_ECONNABORTED || code == RIO_ETIMEDOUT ||
           code == RIO_ENOTCONN ||
           code == RIO_ENETRESET || code == RIO_ENETUNREACH || code == RIO_EHOSTUNREACH;
}

/* ------------------------------------------------------------------------------------- accepts */

static iocp_accepts *connections__accepts_of(const iocp_port *port, SOCKET listener)
{
    iocp_accepts *accepts = port->accepts;
    while (accepts != NULL && accepts->listener != listener)
        accepts = accepts->next;
    return accepts;
}

/* A socket for the next connection, of the kind that the provider likes best where it can be. */
static SOCKET connections__socket(const iocp_port *port, iocp_accepts *accepts)
{
    SOCKET socket = INVALID_SOCKET;
    if (port->make_socket != NULL && !accepts->plain)
        socket = port->make_socket(accepts->family, accepts->type, accepts->protocol);
    if (socket != INVALID_SOCKET)
        return socket;
    accepts->plain = 1;
    return WSASocketW(accepts->family, accepts->type, accepts->protocol, NULL, 0,
                      WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
}

/* One AcceptEx more. 0 or a code. */
static int32_t connections__await(iocp_port *port, iocp_slot *slot)
{
    iocp_accepts *accepts = slot->accepts;
    DWORD bytes;

    slot->socket = connections__socket(port, accepts);
    rio_count(&port->core.counts.system_calls, 2);
    if (slot->socket == INVALID_SOCKET)
        return iocp_code((DWORD)WSAGetLastError());
    if (!accepts->accept(accepts->listener, slot->socket, slot->addresses, 0, ADDRESS_BYTES,
                         ADDRESS_BYTES, &bytes,
                         iocp_fresh(&slot->operation, (HANDLE)accepts->listener)) &&
        WSAGetLastError() != WSA_IO_PENDING) {
        int32_t code = iocp_code((DWORD)WSAGetLastError());
        closesocket(slot->socket);
        if ((code != RIO_EINVAL && code != RIO_EOPNOTSUPP) || accepts->plain)
            return code;
        accepts->plain = 1; /* a listener that was not made like it may not take it */
        return connections__await(port, slot);
    }
    iocp_began(port);
    slot->busy = 1;
    accepts->busy++;
    return 0;
}

/* Accepting is over: no event carries its key any more, but the one that is told now. */
static void connections__over(iocp_port *port, iocp_accepts *accepts, int32_t code)
{
    iocp_accepts **link = &port->accepts;
    while (*link != accepts)
        link = &(*link)->next;
    *link = accepts->next;
    accepts->stopped = 1;
    for (int i = 0; i < AHEAD; i++)
        if (accepts->slots[i].busy)
            iocp_cancel(&accepts->slots[i].operation);
    if (code != 0) {
        rio_port_event event = { .kind = RIO_PORT_ACCEPT,
                                 .status = code,
                                 .key = accepts->key,
                                 .value = (uint64_t)RIO_INVALID_SOCKET };
        (void)rio_inbox_put(&port->inbox, &event, (rio_socket)accepts->listener);
    }
}

/* Fills the free slots; when there is none at all, accepting is over. */
static void connections__fill(iocp_port *port, iocp_accepts *accepts)
{
    int32_t code = 0;
    for (int i = 0; i < AHEAD && code == 0; i++)
        if (!accepts->slots[i].busy)
            do
                code = connections__await(port, &accepts->slots[i]);
            while (connections__survives(code));
    if (accepts->busy == 0)
        connections__over(port, accepts, code);
}

/* The new connection, as sockets of a loop are: complete, and not blocking. 0 or a code. */
static int32_t connections__adopt(const iocp_accepts *accepts, SOCKET socket)
{
    u_long on = 1;
    if (setsockopt(socket, SOL_SOCKET, SO_UPDATE_ACCEPT_CONTEXT, (const char *)&accepts->listener,
                   sizeof accepts->listener) != 0 ||
        ioctlsocket(socket, FIONBIO, &on) != 0)
        return iocp_code((DWORD)WSAGetLastError());
    return 0;
}

/* Whom the new connection is from; null if that cannot be said. */
static iocp_peer *connections__peer(const iocp_accepts *accepts, iocp_slot *slot)
{
    struct sockaddr *own = NULL, *remote = NULL;
    int own_length = 0, length = 0;

    if (accepts->addresses == NULL)
        return NULL;
    accepts->addresses(slot->addresses, 0, ADDRESS_BYTES, ADDRESS_BYTES, &own, &own_length, &remote,
                       &length);
    iocp_peer *peer = NULL;
    if (remote != NULL && length > 0 && (size_t)length <= sizeof peer->peer.address)
        peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        return NULL;
    memcpy(peer->peer.address, remote, (size_t)length);
    peer->peer.length = (uint64_t)length;
    return peer;
}

void iocp_peers_told(iocp_port *port, const rio_port_event *events, uint32_t count)
{
    port->told_last = 0;
    for (uint32_t i = 0; i < count; i++) {
        iocp_peer *peer = events[i].overlapped;
        if (events[i].kind != RIO_PORT_ACCEPT || peer == NULL)
            continue;
        *(port->last_told != NULL ? &port->last_told->next : &port->first_told) = peer;
        port->last_told = peer;
        port->told++;
        port->told_last++;
    }
}

void iocp_peers_forget(iocp_port *port, uint32_t keep)
{
    while (port->told > keep) {
        iocp_peer *peer = port->first_told;
        port->first_told = peer->next;
        if (port->first_told == NULL)
            port->last_told = NULL;
        free(peer);
        port->told--;
    }
}

static void connections__accepted(iocp_port *port, iocp_operation *operation, int32_t code,
                                  uint32_t bytes)
{
    iocp_slot *slot = CONTAINING_RECORD(operation, iocp_slot, operation);
    iocp_accepts *accepts = slot->accepts;
    rio_port_event event = { .kind = RIO_PORT_ACCEPT,
                             .key = accepts->key,
                             .value = (uint64_t)slot->socket };

    (void)bytes;
    slot->busy = 0;
    accepts->busy--;
    if (code == 0 && !accepts->stopped)
        event.overlapped = connections__peer(accepts, slot);
    if (code != 0 || accepts->stopped || connections__adopt(accepts, slot->socket) != 0 ||
        !rio_inbox_put(&port->inbox, &event, (rio_socket)accepts->listener)) {
        closesocket(slot->socket);
        free(event.overlapped);
    }
    if (!accepts->stopped) {
        if (code != 0 && !connections__survives(code))
            connections__over(port, accepts, code);
        else
            connections__fill(port, accepts);
    }
    if (accepts->stopped && accepts->busy == 0)
        free(accepts);
}

static int32_t connections__listens(SOCKET listener, iocp_accepts *accepts)
{
    WSAPROTOCOL_INFOW protocol;
    BOOL listens;
    int length = sizeof protocol;
    if (getsockopt(listener, SOL_SOCKET, SO_PROTOCOL_INFOW, (char *)&protocol, &length) != 0)
        return iocp_code((DWORD)WSAGetLastError());
    length = sizeof listens;
    if (getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, (char *)&listens, &length) != 0)
        return iocp_code((DWORD)WSAGetLastError());
    accepts->family = protocol.iAddressFamily;
    accepts->type = protocol.iSocketType;
    accepts->protocol = protocol.iProtocol;
    return listens ? 0 : RIO_EINVAL;
}

int32_t iocp_accept(rio_port *handle, rio_socket listener, uint64_t key)
{
    static const GUID accept_ex = WSAID_ACCEPTEX;
    static const GUID accept_addresses = WSAID_GETACCEPTEXSOCKADDRS;
    iocp_accepts asked = { .listener = (SOCKET)listener, .key = key };
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);

    if (port == NULL || (code = connections__listens(asked.listener, &asked)) != 0)
        return code;
    iocp_accepts *accepts = connections__accepts_of(port, asked.listener);
    if (accepts != NULL) {
        (void)iocp_turn(port, 0); /* it is over if that was another listener with this number */
        accepts = connections__accepts_of(port, asked.listener);
        if (accepts != NULL) {
            accepts->key = key;
            return 0;
        }
        rio_inbox_withdraw(&port->inbox, listener, RIO_PORT_ACCEPT);
    }
    if ((code = iocp_join(port, asked.listener)) != 0)
        return code;
    asked.accept = (LPFN_ACCEPTEX)connections__extension(asked.listener, accept_ex);
    if (asked.accept == NULL)
        return RIO_EOPNOTSUPP;
    asked.addresses = (LPFN_GETACCEPTEXSOCKADDRS)connections__extension(asked.listener,
                                                                        accept_addresses);
    accepts = malloc(sizeof *accepts);
    if (accepts == NULL)
        return RIO_ENOBUFS;
    *accepts = asked;
    for (int i = 0; i < AHEAD; i++) {
        accepts->slots[i].accepts = accepts;
        accepts->slots[i].operation.done = connections__accepted;
    }
    accepts->next = port->accepts;
    port->accepts = accepts;
    connections__fill(port, accepts);
    if (accepts->stopped) /* it has told why */
        free(accepts);
    return 0;
}

/* AcceptEx is posted ahead anyway: a listener that processes share has them in each. */
int32_t iocp_accept_alone(rio_port *handle, rio_socket listener, uint32_t alone)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);
    (void)alone;
    if (port == NULL)
        return code;
    return connections__accepts_of(port, (SOCKET)listener) != NULL ? 0 : RIO_EINVAL;
}

int32_t iocp_accept_stop(rio_port *handle, rio_socket listener)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);
    if (port == NULL)
        return code;
    iocp_accepts *accepts = connections__accepts_of(port, (SOCKET)listener);
    if (accepts != NULL) {
        connections__over(port, accepts, 0); /* at least one slot is busy: its packet frees */
        (void)iocp_turn(port, 0);
    }
    rio_inbox_withdraw(&port->inbox, listener, RIO_PORT_ACCEPT);
    return 0;
}

/* ------------------------------------------------------------------------------------ connects */

static iocp_connect **connections__connect_of(iocp_port *port, SOCKET socket)
{
    iocp_connect **link = &port->connects;
    while (*link != NULL && (*link)->socket != socket)
        link = &(*link)->next;
    return link;
}

static void connections__connected(iocp_port *port, iocp_operation *operation, int32_t code,
                                   uint32_t bytes)
{
    iocp_connect *connect = CONTAINING_RECORD(operation, iocp_connect, operation);

    (void)bytes;
    if (!connect->stopped) {
        *connections__connect_of(port, connect->socket) = connect->next;
        if (code == 0 &&
            setsockopt(connect->socket, SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, NULL, 0) != 0)
            code = iocp_code((DWORD)WSAGetLastError());
        rio_port_event event = { .kind = RIO_PORT_CONNECT,
                                 .status = code,
                                 .key = connect->key,
                                 .value = (uint64_t)connect->socket };
        (void)rio_inbox_put(&port->inbox, &event, (rio_socket)connect->socket);
    }
    free(connect);
}

/* ConnectEx wants a bound socket, unlike connect(). */
static int32_t connections__bound(SOCKET socket, int family)
{
    SOCKADDR_STORAGE own = { 0 };
    int length = sizeof own;
    if (getsockname(socket, (struct sockaddr *)&own, &length) == 0)
        return 0;
    memset(&own, 0, sizeof own);
    own.ss_family = (ADDRESS_FAMILY)family;
    length = family == AF_INET ? (int)sizeof(struct sockaddr_in) : (int)sizeof(struct sockaddr_in6);
    return bind(socket, (struct sockaddr *)&own, length) == 0
               ? 0
               : iocp_code((DWORD)WSAGetLastError());
}

static int32_t connections__may_connect(rio_socket socket, const void *address, uint32_t length)
{
    SOCKADDR_STORAGE peer;
    int size = sizeof peer, family;
    uint8_t stream;

    if (address == NULL)
        return RIO_EFAULT;
    if (length == 0 || length > sizeof peer)
        return RIO_EINVAL;
    int32_t code = iocp_socket_kind(socket, &stream, &family);
    if (code != 0 || !stream)
        return code != 0 ? code : RIO_EINVAL;
    if (getpeername((SOCKET)socket, (struct sockaddr *)&peer, &size) == 0)
        return RIO_EISCONN;
    return connections__bound((SOCKET)socket, family);
}

int32_t iocp_connect_start(rio_port *handle, rio_socket socket, const void *address,
                           uint32_t length, uint64_t key)
{
    static const GUID connect_ex = WSAID_CONNECTEX;
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);

    if (port == NULL || (code = connections__may_connect(socket, address, length)) != 0)
        return code;
    if (*connections__connect_of(port, (SOCKET)socket) != NULL)
        return RIO_EALREADY;
    if ((code = iocp_join(port, (SOCKET)socket)) != 0)
        return code;
    LPFN_CONNECTEX start = (LPFN_CONNECTEX)connections__extension((SOCKET)socket, connect_ex);
    iocp_connect *connect = start != NULL ? calloc(1, sizeof *connect) : NULL;
    if (connect == NULL)
        return start == NULL ? RIO_EOPNOTSUPP : RIO_ENOBUFS;
    connect->operation.done = connections__connected;
    connect->socket = (SOCKET)socket;
    connect->key = key;
    rio_count(&port->core.counts.system_calls, 1);
    if (!start((SOCKET)socket, address, (int)length, NULL, 0, NULL,
               iocp_fresh(&connect->operation, (HANDLE)socket)) &&
        WSAGetLastError() != WSA_IO_PENDING) {
        /* Refused at once, as a result like any other. */
        rio_port_event event = { .kind = RIO_PORT_CONNECT,
                                 .status = iocp_code((DWORD)WSAGetLastError()),
                                 .key = key,
                                 .value = (uint64_t)socket };
        free(connect);
        return rio_inbox_put(&port->inbox, &event, socket) ? 0 : RIO_ENOBUFS;
    }
    iocp_began(port);
    connect->next = port->connects;
    port->connects = connect;
    return 0;
}

int32_t iocp_connect_stop(rio_port *handle, rio_socket socket)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);
    if (port == NULL)
        return code;
    iocp_connect **link = connections__connect_of(port, (SOCKET)socket);
    iocp_connect *connect = *link;
    if (connect != NULL) {
        *link = connect->next;
        connect->stopped = 1;
        iocp_cancel(&connect->operation);
        (void)iocp_turn(port, 0);
    }
    rio_inbox_withdraw(&port->inbox, socket, RIO_PORT_CONNECT);
    return 0;
}

void iocp_connections_end(iocp_port *port)
{
    while (port->accepts != NULL)
        connections__over(port, port->accepts, 0);
    while (port->connects != NULL) {
        iocp_connect *connect = port->connects;
        port->connects = connect->next;
        connect->stopped = 1;
        iocp_cancel(&connect->operation);
    }
}
