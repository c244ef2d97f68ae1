/* iocp_connect.c: connecting on Windows, by ConnectEx.
 *
 * ConnectEx wants its socket bound, and leaves the new connection without its context (getpeername,
 * shutdown) until an option is set. Stopping leaves an operation behind; it ends by its packet and
 * frees itself.
 *
 * Link: https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_connectex
 */
#include "windows/iocp_connect.h"

#include <stdlib.h>
#include <string.h>

#include "windows/codes.h"
#include "windows/sockets.h"

typedef struct iocp_attempt iocp_attempt;

struct iocp_attempt {
    iocp_operation operation;
    iocp_attempt *next;
    SOCKET socket;
    uint64_t key;
    uint8_t stopped;
};

/* The source: all connects of a port that are under way. */
typedef struct iocp_connecting {
    iocp_source source; /* first */
    iocp_attempt *connects;
} iocp_connecting;

static iocp_attempt **iocp_connect__find(iocp_connecting *connecting, SOCKET socket)
{
    iocp_attempt **link = &connecting->connects;
    while (*link != NULL && (*link)->socket != socket)
        link = &(*link)->next;
    return link;
}

/* Nobody wants to hear of it; its packet frees it. */
static void iocp_connect__give_up(iocp_attempt **link)
{
    iocp_attempt *connect = *link;
    *link = connect->next;
    connect->stopped = 1;
    iocp_cancel(&connect->operation);
}

static void iocp_connect__end(iocp_port *port, iocp_source *source)
{
    iocp_connecting *connecting = (iocp_connecting *)source;
    (void)port;
    while (connecting->connects != NULL)
        iocp_connect__give_up(&connecting->connects);
}

static const iocp_source_kind iocp_connect__kind = {
    .bytes = sizeof(iocp_connecting),
    .end = iocp_connect__end,
};

static iocp_connecting *iocp_connect__of(const iocp_port *port)
{
    return (iocp_connecting *)iocp_source_of(port, &iocp_connect__kind);
}

static void iocp_connect__done(iocp_port *port, iocp_operation *operation, int32_t code,
                               uint32_t bytes)
{
    iocp_attempt *connect = CONTAINING_RECORD(operation, iocp_attempt, operation);

    (void)bytes;
    if (!connect->stopped) {
        *iocp_connect__find(iocp_connect__of(port), connect->socket) = connect->next;
        if (code == 0 &&
            setsockopt(connect->socket, SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, NULL, 0) != 0)
            code = codes_winsock((DWORD)WSAGetLastError());
        rio_port_event event = { .kind = RIO_PORT_CONNECT,
                                 .status = code,
                                 .key = connect->key,
                                 .value = (uint64_t)connect->socket };
        (void)events_put(&port->events, &event, (rio_socket)connect->socket);
    }
    free(connect);
}

/* ConnectEx wants a bound socket, unlike connect(). */
static int32_t iocp_connect__bound(SOCKET socket, int family)
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
               : codes_winsock((DWORD)WSAGetLastError());
}

static int32_t iocp_connect__check(rio_socket socket, const void *address, uint32_t length)
{
    SOCKADDR_STORAGE peer;
    int size = sizeof peer, family;
    uint8_t stream;

    if (address == NULL)
        return RIO_EFAULT;
    if (length == 0 || length > sizeof peer)
        return RIO_EINVAL;
    int32_t code = sockets_kind(socket, &stream, &family);
    if (code != 0 || !stream)
        return code != 0 ? code : RIO_EINVAL;
    if (getpeername((SOCKET)socket, (struct sockaddr *)&peer, &size) == 0)
        return RIO_EISCONN;
    return iocp_connect__bound((SOCKET)socket, family);
}

int32_t iocp_connect(rio_port *handle, rio_socket socket, const void *address, uint32_t length,
                     uint64_t key)
{
    static const GUID connect_ex = WSAID_CONNECTEX;
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);

    if (port == NULL || (code = iocp_connect__check(socket, address, length)) != 0)
        return code;
    iocp_connecting *connecting = (iocp_connecting *)iocp_source_made(port, &iocp_connect__kind);
    if (connecting == NULL)
        return RIO_ENOBUFS;
    if (*iocp_connect__find(connecting, (SOCKET)socket) != NULL)
        return RIO_EALREADY;
    if ((code = iocp_join(port, (SOCKET)socket)) != 0)
        return code;
    LPFN_CONNECTEX start = (LPFN_CONNECTEX)sockets_extension((SOCKET)socket, connect_ex);
    iocp_attempt *connect = start != NULL ? calloc(1, sizeof *connect) : NULL;
    if (connect == NULL)
        return start == NULL ? RIO_EOPNOTSUPP : RIO_ENOBUFS;
    connect->operation.done = iocp_connect__done;
    connect->socket = (SOCKET)socket;
    connect->key = key;
    counts_add(&port->hub.counts.system_calls, 1);
    if (!start((SOCKET)socket, address, (int)length, NULL, 0, NULL,
               iocp_fresh(&connect->operation, (HANDLE)socket)) &&
        WSAGetLastError() != WSA_IO_PENDING) {
        /* Refused at once, as a result like any other. */
        rio_port_event event = { .kind = RIO_PORT_CONNECT,
                                 .status = codes_winsock((DWORD)WSAGetLastError()),
                                 .key = key,
                                 .value = (uint64_t)socket };
        free(connect);
        return events_put(&port->events, &event, socket) ? 0 : RIO_ENOBUFS;
    }
    iocp_expect(port, &connect->operation);
    connect->next = connecting->connects;
    connecting->connects = connect;
    return 0;
}

int32_t iocp_connect_stop(rio_port *handle, rio_socket socket)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);
    if (port == NULL)
        return code;
    iocp_connecting *connecting = iocp_connect__of(port);
    iocp_attempt **link =
        connecting != NULL ? iocp_connect__find(connecting, (SOCKET)socket) : NULL;
    if (link != NULL && *link != NULL) {
        iocp_connect__give_up(link);
        (void)iocp_turn(port, 0);
    }
    events_withdraw(&port->events, socket, RIO_PORT_CONNECT);
    return 0;
}
