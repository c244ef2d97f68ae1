/* iocp.h: the port of the Windows providers (iocp.c): operations, packets, and what else a port
 * tells of, by a list of event sources. */
#ifndef ZERIO_IOCP_H
#define ZERIO_IOCP_H

#include "windows/sdk.h"

#include <string.h>

#include "table/emulation.h"
#include "table/events.h"
#include "table/wakeup.h"
#include "windows/iocp_timer.h"

typedef struct iocp_port iocp_port;
typedef struct iocp_operation iocp_operation;
typedef struct iocp_source iocp_source;

/* One overlapped operation. Its memory belongs to the system until `done` was called, which happens
 * exactly once for each that began, in the port's thread; `code` is 0 or a Winsock code. */
struct iocp_operation {
    OVERLAPPED overlapped; /* first: packets carry its address */
    void (*done)(iocp_port *, iocp_operation *, int32_t code, uint32_t bytes);
    HANDLE file;          /* the socket, or AFD */
    iocp_operation *next; /* of those expected */
};

/* Lists of the operations whose packets are expected, by address. */
#define IOCP_EXPECTED 1024u

/* The key of every file; other keys are of packets that somebody posted, with addresses that need
 * not be of memory any more. The wake-up's packet has no operation. */
#define IOCP_KEY ((ULONG_PTR)0x52494F)

/* What a port tells of beside the results of request queues: accepting, connecting, watching, or a
 * provider's own. A source is made when it is first needed and ends with its port. The functions
 * may be null. */
typedef struct iocp_source_kind {
    size_t bytes; /* of the whole source, zeroed when it is made; 0: part of the provider's port */
    /* Before the port looks for packets, and again before each sleep: hands over what waits. */
    void (*arm)(iocp_port *, iocp_source *);
    /* Right before a sleep alone. */
    void (*before_sleep)(iocp_port *, iocp_source *);
    /* 1 if arm would hand over anything. */
    int (*eager)(const iocp_source *);
    /* These events are told now. */
    void (*told)(iocp_port *, iocp_source *, const rio_port_event *, uint32_t count);
    /* Asks for the end of everything; what is left ends by its packets. */
    void (*end)(iocp_port *, iocp_source *);
    /* All packets have come, or were given up. */
    void (*close)(iocp_source *);
} iocp_source_kind;

/* First member of each. */
struct iocp_source {
    const iocp_source_kind *kind;
    iocp_source *next;
};

struct iocp_port {
    rio_hub hub; /* first: handles of ports lead to a hub */
    HANDLE completions;
    events_list events;
    wakeup_state wakeup;
    SOCKET *joined; /* sockets that were associated with the port, by number, open addressing */
    uint32_t joined_length, joined_count;
    iocp_operation *expected[IOCP_EXPECTED];
    iocp_source *sources;
    iocp_timer timer;
    /* Sockets of the provider's own kind, for AcceptEx, and whether a listener is of that kind: its
     * connections have to be what it is. Or null: all sockets are plain. */
    SOCKET (*make_socket)(int family, int type, int protocol);
    int (*is_made)(SOCKET);
};

/* As hub_of. */
static inline iocp_port *iocp_port_of(const rio_port *handle, const rio_driver *driver,
                                      int32_t *code)
{
    return (iocp_port *)hub_of(handle, driver, code);
}

/* A port of `bytes`, of which the first are an iocp_port; null and rio_last_error. */
rio_hub *iocp_open(const rio_driver *, const rio_port_options *, size_t bytes);
void iocp_shut(rio_hub *);

/* The port's source of this kind; null if it has none yet, or no memory for one. */
iocp_source *iocp_source_of(const iocp_port *, const iocp_source_kind *);
iocp_source *iocp_source_made(iocp_port *, const iocp_source_kind *);
void iocp_source_add(iocp_port *, iocp_source *, const iocp_source_kind *);

/* The socket's operations report to this port from now on; a socket has one port for its life.
 * 0 or a code. */
int32_t iocp_join(iocp_port *, SOCKET);

/* The socket is being closed: a later one with its number has not joined. */
void iocp_forget(iocp_port *, SOCKET);

/* To be called when the system has accepted an operation: one packet will come. */
void iocp_expect(iocp_port *, iocp_operation *);

/* Counts a request that the system has accepted; its result comes in another way. */
static inline void iocp_began(iocp_port *port)
{
    counts_add(&port->hub.counts.in_kernel, 1);
    counts_add(&port->hub.counts.submissions, 1);
}

/* Cleared and addressed, ready to be handed over. */
static inline OVERLAPPED *iocp_fresh(iocp_operation *operation, HANDLE file)
{
    memset(&operation->overlapped, 0, sizeof operation->overlapped);
    operation->file = file;
    return &operation->overlapped;
}

void iocp_cancel(iocp_operation *);

/* Handles the packets that are there, after a sleep of so many ms at most; how many. */
uint32_t iocp_turn(iocp_port *, DWORD ms);
/* What the port table has for every driver. */
int32_t iocp_wait(iocp_port *, rio_port_event *, uint32_t size, int64_t timeout_ns);
int32_t iocp_pending(rio_port *);
int32_t iocp_post(rio_port *, uint64_t key);
int32_t iocp_retire(rio_port *, rio_socket);
int32_t iocp_park(rio_port *);
int32_t iocp_join_foreign(rio_port *, rio_socket file);
int32_t iocp_leave(rio_port *, rio_socket);
uintptr_t iocp_native(rio_port *);

#endif
