/* iocp.c: the port of the Windows providers, over an I/O completion port.
 *
 * How a completion port works. Files and sockets are associated with it once, for their life; from
 * then on every overlapped operation on them ends with a packet: the key of the association, the
 * number of bytes, and the address of the OVERLAPPED. Packets may also be posted. One call fetches
 * many of them (GetQueuedCompletionStatusEx).
 *
 * What we do. Each operation is an iocp_operation, whose first member is the OVERLAPPED; its packet
 * calls `done`. An operation that succeeds at once gives a packet, too: there is one way only.
 * Events for the caller wait in the inbox, results in completion queues.
 *
 * The bell is linux.c's: post() sets `rung` and posts a packet only if the thread sleeps.
 *
 * Threads. Operations on a file that belongs to a completion port are not tied to the thread that
 * issued them, so nothing has to be taken back when that thread ends: park has nothing to do.
 *
 * What can go wrong.
 *   - A packet for an operation that nobody wants any more: its memory is kept until the packet
 *     came. When a port closes and the system still does not let go, the memory is given up.
 *   - A socket that belongs to another port already cannot be used (WSAEINVAL).
 *   - Error codes of packets are NTSTATUS; WSAGetOverlappedResult translates them, and is asked
 *     only after a failure. Some Win32 codes come through, iocp_code maps those.
 *
 * Links:
 *   https://learn.microsoft.com/windows/win32/fileio/i-o-completion-ports
 *   https://learn.microsoft.com/windows/win32/fileio/getqueuedcompletionstatusex-func
 *   https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsagetoverlappedresult
 */
#include "iocp.h"

#include <stdlib.h>
#include <string.h>

#define PACKETS_MAX 128 /* of one system call: 4 KiB of stack */
#define NS_PER_S INT64_C(1000000000)
#define NS_MAX (INT64_MAX / 4)
#define END_TURNS 200 /* of 10 ms: how long a closing port waits for its operations */
#define END_TURN_MS 10
#define JOINED_MIN 64

#define STATUS_IS_CANCELLED ((ULONG_PTR)0xC0000120u)

/* Windows has no fork: every port is this process's (rule 14). */
static const volatile uint32_t mark = 1;

/* -------------------------------------------------------------------------------------- codes */

int32_t iocp_code(DWORD error)
{
    switch (error) {
    case ERROR_NETNAME_DELETED: /* the peer reset the connection */
    case ERROR_UNEXP_NET_ERR:   /* so Wine says it of a client that was not yet accepted */
        return RIO_ECONNRESET;
    case ERROR_CONNECTION_ABORTED:
        return RIO_ECONNABORTED;
    case ERROR_CONNECTION_REFUSED:
        return RIO_ECONNREFUSED;
    case ERROR_PORT_UNREACHABLE:
        return RIO_ECONNRESET;
    case ERROR_HOST_UNREACHABLE:
        return RIO_EHOSTUNREACH;
    case ERROR_NETWORK_UNREACHABLE:
        return RIO_ENETUNREACH;
    case ERROR_SEM_TIMEOUT:
        return RIO_ETIMEDOUT;
    case ERROR_INVALID_HANDLE:
        return RIO_ENOTSOCK;
    case ERROR_INVALID_PARAMETER:
        return RIO_EINVAL;
    case ERROR_NOT_ENOUGH_MEMORY:
    case ERROR_NO_SYSTEM_RESOURCES:
    case ERROR_COMMITMENT_LIMIT:
        return RIO_ENOBUFS;
    case ERROR_TOO_MANY_OPEN_FILES:
        return RIO_EMFILE;
    default:
        return (int32_t)error;
    }
}

int32_t iocp_socket_kind(rio_socket socket, uint8_t *stream, int *family)
{
    WSAPROTOCOL_INFOW protocol;
    int length = sizeof protocol;
    if (getsockopt((SOCKET)socket, SOL_SOCKET, SO_PROTOCOL_INFOW, (char *)&protocol, &length) != 0)
        return WSAGetLastError() == WSAENOTSOCK ? RIO_ENOTSOCK : iocp_code(WSAGetLastError());
    if ((protocol.iSocketType != SOCK_STREAM && protocol.iSocketType != SOCK_DGRAM) ||
        (protocol.iAddressFamily != AF_INET && protocol.iAddressFamily != AF_INET6 &&
         protocol.iAddressFamily != AF_UNIX))
        return RIO_EOPNOTSUPP;
    *stream = protocol.iSocketType == SOCK_STREAM;
    *family = protocol.iAddressFamily;
    return 0;
}

void rio_socket_close(rio_socket socket)
{
    closesocket((SOCKET)socket);
}

/* ------------------------------------------------------------------- sockets that have joined */

/* A socket can be associated once. Whether a second attempt fails because it is with us already can
 * only be known by remembering. Numbers are never taken out: one that was closed and given to a new
 * socket is associated anew, without a question. */
static int iocp__remember(iocp_port *port, SOCKET socket)
{
    if (2 * (port->joined_count + 1) > port->joined_length) {
        uint32_t length = port->joined_length ? 2 * port->joined_length : JOINED_MIN;
        SOCKET *joined = calloc(length, sizeof *joined);
        if (joined == NULL)
            return 0;
        SOCKET *old = port->joined;
        uint32_t old_length = port->joined_length;
        port->joined = joined;
        port->joined_length = length;
        port->joined_count = 0;
        for (uint32_t i = 0; i < old_length; i++)
            if (old[i] != 0)
                (void)iocp__remember(port, old[i]);
        free(old);
    }
    uint32_t place = (uint32_t)(socket >> 2) & (port->joined_length - 1);
    for (; port->joined[place] != 0; place = (place + 1) & (port->joined_length - 1))
        if (port->joined[place] == socket)
            return 1;
    port->joined[place] = socket;
    port->joined_count++;
    return 1;
}

static int iocp__remembers(const iocp_port *port, SOCKET socket)
{
    if (port->joined_length == 0)
        return 0;
    uint32_t place = (uint32_t)(socket >> 2) & (port->joined_length - 1);
    for (; port->joined[place] != 0; place = (place + 1) & (port->joined_length - 1))
        if (port->joined[place] == socket)
            return 1;
    return 0;
}

int32_t iocp_join(iocp_port *port, SOCKET socket)
{
    rio_count(&port->core.counts.system_calls, 1);
    if (CreateIoCompletionPort((HANDLE)socket, port->completions, IOCP_KEY, 0) != NULL)
        return iocp__remember(port, socket) ? 0 : RIO_ENOBUFS;
    DWORD error = GetLastError();
    if (error == ERROR_INVALID_PARAMETER && iocp__remembers(port, socket))
        return 0;
    return iocp_code(error);
}

/* ------------------------------------------------------------------------------------ packets */

void iocp_cancel(iocp_operation *operation)
{
    (void)CancelIoEx(operation->file, &operation->overlapped); /* too late is fine, too */
}

/* What became of an operation: 0 or a Winsock code. */
static int32_t iocp__outcome(const iocp_operation *operation)
{
    ULONG_PTR status = operation->overlapped.Internal;
    DWORD bytes, flags;
    if (status == 0)
        return 0;
    if (status == STATUS_IS_CANCELLED)
        return RIO_OPERATION_ABORTED;
    if (WSAGetOverlappedResult((SOCKET)operation->file, (OVERLAPPED *)&operation->overlapped,
                               &bytes, FALSE, &flags))
        return 0;
    DWORD error = (DWORD)WSAGetLastError();
    /* Closed meanwhile: what it ended with can no longer be asked. */
    return error == WSAENOTSOCK || error == ERROR_INVALID_HANDLE ? RIO_OPERATION_ABORTED
                                                                 : iocp_code(error);
}

static void iocp__foreign(iocp_port *port, const OVERLAPPED_ENTRY *packet)
{
    rio_port_event event = { .kind = RIO_PORT_PACKET,
                             .status = packet->lpCompletionKey == IOCP_KEY
                                           ? (int32_t)packet->lpOverlapped->Internal
                                           : 0,
                             .key = packet->lpCompletionKey,
                             .overlapped = packet->lpOverlapped,
                             .value = packet->dwNumberOfBytesTransferred };
    (void)rio_inbox_put(&port->inbox, &event, RIO_INVALID_SOCKET);
}

uint32_t iocp_turn(iocp_port *port, DWORD ms)
{
    OVERLAPPED_ENTRY packets[PACKETS_MAX];
    ULONG count = 0;

    rio_count(&port->core.counts.system_calls, 1);
    if (!GetQueuedCompletionStatusEx(port->completions, packets, PACKETS_MAX, &count, ms, FALSE))
        return 0;
    for (ULONG i = 0; i < count; i++) {
        OVERLAPPED *overlapped = packets[i].lpOverlapped;
        if (overlapped == NULL)
            continue; /* the bell */
        if (packets[i].lpCompletionKey != IOCP_KEY || overlapped->Offset != IOCP_OURS ||
            overlapped->OffsetHigh != IOCP_OURS) {
            iocp__foreign(port, &packets[i]);
            continue;
        }
        iocp_operation *operation = (iocp_operation *)overlapped;
        rio_count(&port->core.counts.in_kernel, -1);
        operation->done(port, operation, iocp__outcome(operation),
                        packets[i].dwNumberOfBytesTransferred);
    }
    return count;
}

/* -------------------------------------------------------------------------------------- waits */

static uint32_t iocp__ready(const iocp_port *port)
{
    return port->core.first_packet != NULL || port->inbox.head != port->inbox.tail ||
           rio_load32_relaxed(&port->rung) != 0;
}

static int64_t iocp__clock_ns(void)
{
    LARGE_INTEGER rate, now;
    QueryPerformanceFrequency(&rate);
    QueryPerformanceCounter(&now);
    return now.QuadPart / rate.QuadPart * NS_PER_S +
           now.QuadPart % rate.QuadPart * NS_PER_S / rate.QuadPart;
}

/* Sleeps until there is something to tell, or until the time is over. */
static void iocp__sleep(iocp_port *port, int64_t timeout_ns)
{
    uint32_t loud = port->core.loud;
    int64_t rest_ns = timeout_ns < NS_MAX ? timeout_ns : NS_MAX;
    int64_t end_ns = timeout_ns < 0 ? 0 : iocp__clock_ns() + rest_ns;

    for (;;) {
        if (port->before_sleep != NULL)
            port->before_sleep(port);
        uint32_t found = iocp_turn_within(port, rest_ns);
        if (loud != port->core.loud || iocp__ready(port))
            return;
        iocp_watches_arm(port);
        if (timeout_ns >= 0)
            rest_ns = end_ns - iocp__clock_ns(); /* a system's wait may be short by a little */
        if (timeout_ns < 0 ? found == 0 : rest_ns <= 0)
            return;
    }
}

static int iocp__look(void *object)
{
    iocp_port *port = object;
    uint32_t loud = port->core.loud;

    iocp_watches_arm(port);
    port->core.driver->progress(&port->core);
    return loud != port->core.loud || iocp__ready(port);
}

int32_t iocp_wait(iocp_port *port, rio_port_event *events, uint32_t size, int64_t timeout_ns)
{
    if (events == NULL || size == 0)
        return -(events == NULL ? RIO_EFAULT : RIO_EINVAL);
    rio_count(&port->core.counts.waits, 1);
    iocp_peers_forget(port, port->told_last > RIO_PEERS_KEPT ? port->told_last : RIO_PEERS_KEPT);
    iocp_watches_arm(port);
    int spins = timeout_ns != 0 && port->core.spin.limit_ns != 0 && !iocp__ready(port);
    if (spins)
        timeout_ns = rio_spin_poll(&port->core.spin, timeout_ns, iocp__look, port);
    rio_store32(&port->sleeping, 1);
    if (timeout_ns != 0 && !iocp__ready(port) && rio_load32(&port->rung) == 0)
        iocp__sleep(port, timeout_ns);
    else if (!spins)
        (void)iocp_turn(port, 0);
    rio_store32_release(&port->sleeping, 0);
    uint32_t count = rio_core_packets(&port->core, events, size);
    /* Before the inbox, which watches of what stays ready can fill every time. */
    if (count < size && rio_exchange32(&port->rung, 0) != 0)
        events[count++] = (rio_port_event){ .kind = RIO_PORT_POST,
                                            .key = rio_load64(&port->rung_key) };
    count += rio_inbox_take(&port->inbox, events + count, size - count);
    iocp_peers_told(port, events, count);
    if (count != 0)
        rio_spin_heard(&port->core.spin);
    return (int32_t)count;
}

int32_t iocp_pending(rio_port *handle)
{
    int32_t code = 0;
    const iocp_port *port = iocp_port_of(handle, NULL, &code);
    return port != NULL && (iocp__ready(port) || port->to_arm != NULL);
}

/* May come from another thread while the port is being closed: the pin keeps it alive. */
int32_t iocp_post(rio_port *handle, uint64_t key)
{
    rio_handle *slot = rio_handle_pin(handle, RIO_KIND_PORT);
    if (slot == NULL)
        return RIO_EINVAL;
    iocp_port *port = slot->object;
    rio_store64(&port->rung_key, key);
    if (rio_exchange32(&port->rung, 1) == 0 && rio_load32(&port->sleeping) != 0)
        (void)PostQueuedCompletionStatus(port->completions, 0, IOCP_KEY, NULL);
    rio_handle_unpin(slot);
    return 0;
}

int32_t iocp_retire(rio_port *handle, rio_socket socket)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);
    if (port != NULL)
        rio_core_retire(&port->core, socket);
    return code;
}

int32_t iocp_park(rio_port *handle)
{
    int32_t code = 0;
    (void)iocp_port_of(handle, NULL, &code);
    return code;
}

int32_t iocp_join_foreign(rio_port *handle, rio_socket file)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);
    return port != NULL ? iocp_join(port, (SOCKET)file) : code;
}

uintptr_t iocp_native(rio_port *handle)
{
    int32_t code = 0;
    const iocp_port *port = iocp_port_of(handle, NULL, &code);
    return port != NULL ? (uintptr_t)port->completions : 0;
}

/* ---------------------------------------------------------------------------- birth and death */

rio_core *iocp_open(const rio_driver *driver, const rio_port_options *options)
{
    WSADATA data;
    iocp_port *port = NULL;

    if (options != NULL && options->flags != 0) {
        rio_refuse(RIO_EINVAL);
        return NULL;
    }
    int error = WSAStartup(MAKEWORD(2, 2), &data); /* counted, ended by WSACleanup */
    if (error != 0) {
        rio_refuse(error);
        return NULL;
    }
    port = calloc(1, sizeof *port);
    if (port != NULL)
        port->completions = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);
    if (port == NULL || port->completions == NULL) {
        free(port);
        WSACleanup();
        rio_refuse(RIO_ENOBUFS);
        return NULL;
    }
    port->afd = INVALID_HANDLE_VALUE;
    rio_core_begin(&port->core, driver, &mark, mark);
    port->core.spin.limit_ns = options != NULL ? options->spin_ns : 0;
    return &port->core;
}

void iocp_shut(rio_core *core)
{
    iocp_port *port = (iocp_port *)core;

    rio_core_end(core);
    iocp_connections_end(port);
    iocp_watches_end(port);
    for (int turn = 0; turn < END_TURNS && core->counts.in_kernel != 0; turn++)
        (void)iocp_turn(port, END_TURN_MS);
    rio_inbox_free(&port->inbox);
    iocp_peers_forget(port, 0);
    if (port->afd != INVALID_HANDLE_VALUE)
        CloseHandle(port->afd);
    iocp_timer_close(&port->timer);
    CloseHandle(port->completions);
    free(port->joined);
    if (core->counts.in_kernel == 0)
        free(port); /* else the system may still write to operations; nothing reads them any more */
    WSACleanup();
}
