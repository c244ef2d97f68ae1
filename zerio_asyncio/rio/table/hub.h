/* hub.h: what every port of an emulated provider has, where its queues and its driver meet.
 *
 * A provider other than Windows' own consists of the emulation (everything in RIO's table that is
 * not a system call: handles, buffers, queues, capacity, notification, errors) and a driver (how
 * bytes move). The driver is a table of functions that the hub carries: queues know it, it knows
 * the queues, and the two sources need not know each other. The page in emulation.h tells more. */
#ifndef ZERIO_HUB_H
#define ZERIO_HUB_H

#include "rio.h"
#include "table/atomics.h"
#include "table/compiler.h"
#include "table/counts.h"
#include "table/handles.h"
#include "table/spin.h"

typedef struct rio_hub rio_hub;
typedef struct rio_cq rio_cq;
typedef struct rio_rq rio_rq;

enum rio_direction { RIO_RECEIVES = 0, RIO_SENDS = 1 };

/* Moves the bytes. All calls come from the port's thread; none may call back. */
typedef struct rio_driver {
    uint32_t rq_bytes; /* the driver's own part of a request queue, zeroed */

    /* A port for queues that are only polled, and its end. Null: see rio_last_error. */
    rio_hub *(*open)(const rio_port_options *);
    void (*shut)(rio_hub *);

    /* The socket joins; the lanes' limits are set. Sets rq->stream. 0 or a code. */
    int32_t (*attach)(rio_hub *, rio_rq *);

    /* The socket leaves: releases it and, if possible at once, its requests. */
    void (*detach)(rio_hub *, rio_rq *);

    /* Requests wait in this direction. */
    void (*start)(rio_hub *, rio_rq *, enum rio_direction);

    /* Takes back the receives that the system has, at least one: 0 and none is left there, or their
     * results follow; or a code. Null: there never are any. */
    int32_t (*recall)(rio_hub *, rio_rq *);

    /* One system call on a stream whose direction is idle: bytes, or minus a code. */
    int64_t (*now)(rio_rq *, enum rio_direction, char *memory, uint32_t length);

    /* The same for datagrams, at least one: how many went out, or minus a code. */
    int64_t (*datagrams_now)(rio_rq *, const rio_datagram *, uint32_t count);

    /* Does whatever is possible without sleeping (rule 6: queues that are only polled). */
    void (*progress)(rio_hub *);

    /* A request begins to use a registration, or its result is made; null if no request queue has
     * `leases`. */
    void (*hold)(void *registration);
    void (*let_go)(void *registration);
} rio_driver;

/* What every port of an emulated provider has. First member of the driver's port. */
struct rio_hub {
    const rio_driver *driver;
    rio_port *handle;              /* null: a private port */
    const volatile uint32_t *mark; /* equals era in the process that made the port (rule 14) */
    uint32_t era;
    uint32_t holders; /* private port: completion queues that keep it */
    rio_cq *first_packet, *last_packet;
    rio_cq *queues;
    rio_rq **table; /* living request queues by descriptor, chained */
    uint32_t table_mask;
    uint32_t table_count;
    uint32_t loud; /* results that somebody may be waiting for, so far */
    rio_socket known; /* the next request queue, if it is for this one, is a stream's */
    spin_state spin;
    rio_port_statistics counts;
};

void hub_begin(rio_hub *, const rio_driver *, const volatile uint32_t *mark, uint32_t era);
/* The hub of a port's handle, if it belongs to this driver (null: any) and this process; else the
 * code. */
rio_hub *hub_of(const rio_port *, const rio_driver *, int32_t *code);
/* Gives it a handle; if there is none left, shuts it. Null stays null. */
rio_port *hub_publish(rio_hub *);

static inline int hub_ours(const rio_hub *hub)
{
    uint32_t mark = atomics_load32_relaxed((const atomics_u32 *)(uintptr_t)hub->mark);
    return RIO_LIKELY(mark == hub->era);
}

/* Entries of the tables. Of the last two: any socket will do, so none was made. */
int32_t hub_statistics(rio_port *, rio_port_statistics *);
int32_t hub_know_stream(rio_port *, rio_socket);
rio_socket hub_any_socket(int32_t family, int32_t type, int32_t protocol);
int32_t hub_not_made(rio_socket);

#endif
