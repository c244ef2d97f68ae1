/* iocp.c: the port of the Windows providers, over an I/O completion port.
 *
 * How a completion port works. Files and sockets are associated with it once, for their life; from
 * then on every overlapped operation on them ends with a packet: the key of the association, the
 * number of bytes, and the address of the OVERLAPPED. Packets may also be posted. One call fetches
 * many of them (GetQueuedCompletionStatusEx).
 *
 * What we do. Each operation is an iocp_operation, whose first member is the OVERLAPPED; its packet
 * calls `done`. An operation that succeeds at once gives a packet, too: there is one way only.
 * Events for the caller wait in a list, results in completion queues. What else a port tells of
 * stands in files of its own (iocp_accept.c, iocp_connect.c, iocp_watch.c): event sources, which
 * the port arms, asks and ends without knowing what they are.
 *
 * The wake-up (wakeup.h) posts a packet without an operation if the thread sleeps.
 *
 * Threads. Operations on a file that belongs to a completion port are not tied to the thread that
 * issued them, so nothing has to be taken back when that thread ends: park has nothing to do.
 *
 * What can go wrong.
 *   - A packet for an operation that nobody wants any more: its memory is kept until the packet
 *     came. When a port closes and the system still does not let go, the memory is given up.
 *   - A socket that belongs to another port already cannot be used (WSAEINVAL).
 *   - Error codes of packets are NTSTATUS; WSAGetOverlappedResult translates them, and is asked
 *     only after a failure. Some Win32 codes come through, codes.c maps those.
 *
 * Links:
 *   https://learn.microsoft.com/windows/win32/fileio/i-o-completion-ports
 *   https://learn.microsoft.com/windows/win32/fileio/getqueuedcompletionstatusex-func
 *   https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsagetoverlappedresult
 */
#include "windows/iocp.h"

#include <stdlib.h>
#include <string.h>

#include "table/clock.h"
#include "windows/codes.h"
#include "windows/sockets.h"

#define PACKETS_MAX 128 /* of one system call: 4 KiB of stack */
#define NS_MAX (INT64_MAX / 4)
#define END_TURNS 200 /* of 10 ms: how long a closing port waits for its operations */
#define END_TURN_MS 10
#define JOINED_MIN 64

#define STATUS_IS_CANCELLED ((ULONG_PTR)0xC0000120u)

/* Windows has no fork: every port is this process's (rule 14). */
static const volatile uint32_t iocp__mark = 1;

/* ------------------------------------------------------------------- sockets that have joined */

/* A socket can be associated once. Whether a second attempt fails because it is with us already can
 * only be known by remembering. A number goes when its socket does: the next one that has it may be
 * with another port. */
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

void iocp_forget(iocp_port *port, SOCKET socket)
{
    uint32_t mask = port->joined_length - 1, place = (uint32_t)(socket >> 2) & mask;
    if (port->joined_length == 0)
        return;
    while (port->joined[place] != socket) {
        if (port->joined[place] == 0)
            return;
        place = (place + 1) & mask;
    }
    port->joined[place] = 0;
    port->joined_count--;
    /* Those behind it may have been put there because its place was taken. */
    for (place = (place + 1) & mask; port->joined[place] != 0; place = (place + 1) & mask) {
        SOCKET moved = port->joined[place];
        port->joined[place] = 0;
        port->joined_count--;
        (void)iocp__remember(port, moved); /* there is room: nothing grows */
    }
}

int32_t iocp_join(iocp_port *port, SOCKET socket)
{
    counts_add(&port->hub.counts.system_calls, 1);
    if (CreateIoCompletionPort((HANDLE)socket, port->completions, IOCP_KEY, 0) != NULL)
        return iocp__remember(port, socket) ? 0 : RIO_ENOBUFS;
    DWORD error = GetLastError();
    if (error == ERROR_INVALID_PARAMETER && iocp__remembers(port, socket))
        return 0;
    return codes_winsock(error);
}

/* ------------------------------------------------------------------------------------ packets */

/* A port may carry the caller's own operations, too. So ours are known by their addresses, and
 * nothing is read from memory that need not be ours. */
static iocp_operation **iocp__expected(iocp_port *port, const void *address)
{
    return &port->expected[((uintptr_t)address >> 4) * 0x9E3779B1u / 64 % IOCP_EXPECTED];
}

void iocp_expect(iocp_port *port, iocp_operation *operation)
{
    iocp_operation **link = iocp__expected(port, operation);
    operation->next = *link;
    *link = operation;
    iocp_began(port);
}

/* The operation of this packet, which is expected no longer; null if it is not one of ours. */
static iocp_operation *iocp__take(iocp_port *port, const OVERLAPPED *overlapped)
{
    iocp_operation **link = iocp__expected(port, overlapped);
    while (*link != NULL && &(*link)->overlapped != overlapped)
        link = &(*link)->next;
    iocp_operation *found = *link;
    if (found != NULL)
        *link = found->next;
    return found;
}

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
                                                                 : codes_winsock(error);
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
    (void)events_put(&port->events, &event, RIO_INVALID_SOCKET);
}

uint32_t iocp_turn(iocp_port *port, DWORD ms)
{
    OVERLAPPED_ENTRY packets[PACKETS_MAX];
    ULONG count = 0;

    counts_add(&port->hub.counts.system_calls, 1);
    if (!GetQueuedCompletionStatusEx(port->completions, packets, PACKETS_MAX, &count, ms, FALSE))
        return 0;
    for (ULONG i = 0; i < count; i++) {
        if (packets[i].lpOverlapped == NULL)
            continue; /* the wake-up, a timer */
        iocp_operation *operation = packets[i].lpCompletionKey == IOCP_KEY
                                        ? iocp__take(port, packets[i].lpOverlapped)
                                        : NULL;
        if (operation == NULL) {
            iocp__foreign(port, &packets[i]);
            continue;
        }
        counts_add(&port->hub.counts.in_kernel, -1);
        operation->done(port, operation, iocp__outcome(operation),
                        packets[i].dwNumberOfBytesTransferred);
    }
    return count;
}

/* -------------------------------------------------------------------------------- event sources */

iocp_source *iocp_source_of(const iocp_port *port, const iocp_source_kind *kind)
{
    iocp_source *source = port->sources;
    while (source != NULL && source->kind != kind)
        source = source->next;
    return source;
}

iocp_source *iocp_source_made(iocp_port *port, const iocp_source_kind *kind)
{
    iocp_source *source = iocp_source_of(port, kind);
    if (source != NULL)
        return source;
    source = calloc(1, kind->bytes);
    if (source == NULL)
        return NULL;
    iocp_source_add(port, source, kind);
    return source;
}

void iocp_source_add(iocp_port *port, iocp_source *source, const iocp_source_kind *kind)
{
    *source = (iocp_source){ kind, port->sources };
    port->sources = source;
}

/* -------------------------------------------------------------------------------------- waits */

static uint32_t iocp__ready(const iocp_port *port)
{
    return port->hub.first_packet != NULL || events_wait(&port->events) ||
           wakeup_waits(&port->wakeup);
}

static void iocp__arm(iocp_port *port)
{
    for (iocp_source *source = port->sources; source != NULL; source = source->next)
        if (source->kind->arm != NULL)
            source->kind->arm(port, source);
}

static void iocp__before_sleep(iocp_port *port)
{
    for (iocp_source *source = port->sources; source != NULL; source = source->next)
        if (source->kind->before_sleep != NULL)
            source->kind->before_sleep(port, source);
}

/* After a sleep of so many ns at most, for ever if negative. May end a little early. */
static uint32_t iocp__turn_within(iocp_port *port, int64_t ns)
{
    uint64_t *system_calls = &port->hub.counts.system_calls;
    DWORD ms = iocp_timer_start(&port->timer, port->completions, ns, system_calls);
    uint32_t count = iocp_turn(port, ms);
    iocp_timer_stop(&port->timer, system_calls);
    return count;
}

/* Sleeps until there is something to tell, or until the time is over. */
static void iocp__sleep(iocp_port *port, int64_t timeout_ns)
{
    uint32_t loud = port->hub.loud;
    int64_t rest_ns = timeout_ns < NS_MAX ? timeout_ns : NS_MAX;
    int64_t end_ns = timeout_ns < 0 ? 0 : clock_ns() + rest_ns;

    for (;;) {
        iocp__before_sleep(port);
        uint32_t found = iocp__turn_within(port, rest_ns);
        if (loud != port->hub.loud || iocp__ready(port))
            return;
        iocp__arm(port);
        if (timeout_ns >= 0)
            rest_ns = end_ns - clock_ns(); /* a system's wait may be short by a little */
        if (timeout_ns < 0 ? found == 0 : rest_ns <= 0)
            return;
    }
}

static int iocp__look(void *object)
{
    iocp_port *port = object;
    uint32_t loud = port->hub.loud;

    iocp__arm(port);
    port->hub.driver->progress(&port->hub);
    return loud != port->hub.loud || iocp__ready(port);
}

int32_t iocp_wait(iocp_port *port, rio_port_event *events, uint32_t size, int64_t timeout_ns)
{
    if (events == NULL || size == 0)
        return -(events == NULL ? RIO_EFAULT : RIO_EINVAL);
    counts_add(&port->hub.counts.waits, 1);
    iocp__arm(port);
    int spins = timeout_ns != 0 && port->hub.spin.limit_ns != 0 && !iocp__ready(port);
    if (spins)
        timeout_ns = spin_poll(&port->hub.spin, timeout_ns, iocp__look, port);
    int may_sleep = wakeup_may_sleep(&port->wakeup);
    if (timeout_ns != 0 && !iocp__ready(port) && may_sleep)
        iocp__sleep(port, timeout_ns);
    else if (!spins)
        (void)iocp_turn(port, 0);
    wakeup_awake(&port->wakeup);
    uint32_t count = cq_packets(&port->hub, events, size);
    /* Before what waits, which watches of what stays ready can fill every time. */
    if (count < size)
        count += (uint32_t)wakeup_take(&port->wakeup, events + count);
    count += events_take(&port->events, events + count, size - count);
    for (iocp_source *source = port->sources; source != NULL; source = source->next)
        if (source->kind->told != NULL)
            source->kind->told(port, source, events, count);
    if (count != 0)
        spin_heard(&port->hub.spin);
    return (int32_t)count;
}

int32_t iocp_pending(rio_port *handle)
{
    int32_t code = 0;
    const iocp_port *port = iocp_port_of(handle, NULL, &code);
    if (port == NULL)
        return 0;
    for (const iocp_source *source = port->sources; source != NULL; source = source->next)
        if (source->kind->eager != NULL && source->kind->eager(source))
            return 1;
    return (int32_t)iocp__ready(port);
}

/* May come from another thread while the port is being closed: the pin keeps it alive. */
int32_t iocp_post(rio_port *handle, uint64_t key)
{
    handles_slot *slot = handles_pin(handle, HANDLES_PORT);
    if (slot == NULL)
        return RIO_EINVAL;
    iocp_port *port = slot->object;
    if (wakeup_post(&port->wakeup, key))
        (void)PostQueuedCompletionStatus(port->completions, 0, IOCP_KEY, NULL);
    handles_unpin(slot);
    return 0;
}

int32_t iocp_retire(rio_port *handle, rio_socket socket)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);
    if (port != NULL)
        rq_retire(&port->hub, socket);
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

int32_t iocp_leave(rio_port *handle, rio_socket socket)
{
    int32_t code = 0;
    iocp_port *port = iocp_port_of(handle, NULL, &code);
    if (port != NULL)
        iocp_forget(port, (SOCKET)socket);
    return code;
}

uintptr_t iocp_native(rio_port *handle)
{
    int32_t code = 0;
    const iocp_port *port = iocp_port_of(handle, NULL, &code);
    return port != NULL ? (uintptr_t)port->completions : 0;
}

/* ---------------------------------------------------------------------------- birth and death */

rio_hub *iocp_open(const rio_driver *driver, const rio_port_options *options, size_t bytes)
{
    WSADATA data;
    iocp_port *port = NULL;

    if (options != NULL && options->flags != 0) {
        errors_refuse(RIO_EINVAL);
        return NULL;
    }
    int error = WSAStartup(MAKEWORD(2, 2), &data); /* counted, ended by WSACleanup */
    if (error != 0) {
        errors_refuse(error);
        return NULL;
    }
    port = calloc(1, bytes);
    if (port != NULL)
        port->completions = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);
    if (port == NULL || port->completions == NULL) {
        free(port);
        WSACleanup();
        errors_refuse(RIO_ENOBUFS);
        return NULL;
    }
    port->events.close_socket = sockets_close;
    hub_begin(&port->hub, driver, &iocp__mark, iocp__mark);
    port->hub.spin.limit_ns = options != NULL ? options->spin_ns : 0;
    return &port->hub;
}

void iocp_shut(rio_hub *hub)
{
    iocp_port *port = (iocp_port *)hub;

    rq_end_all(hub);
    for (iocp_source *source = port->sources; source != NULL; source = source->next)
        if (source->kind->end != NULL)
            source->kind->end(port, source);
    for (int turn = 0; turn < END_TURNS && hub->counts.in_kernel != 0; turn++)
        (void)iocp_turn(port, END_TURN_MS);
    events_free(&port->events);
    while (port->sources != NULL) {
        iocp_source *source = port->sources;
        port->sources = source->next;
        if (source->kind->close != NULL)
            source->kind->close(source);
        if (source->kind->bytes != 0 && hub->counts.in_kernel == 0)
            free(source);
    }
    iocp_timer_close(&port->timer);
    CloseHandle(port->completions);
    free(port->joined);
    if (hub->counts.in_kernel == 0)
        free(port); /* else the system may still write to operations; nothing reads them any more */
    WSACleanup();
}
