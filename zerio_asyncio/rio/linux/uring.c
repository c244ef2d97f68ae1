/* uring.c: the provider for Linux 5.19 and later: RIO's queues over io_uring.
 *
 * How io_uring is used (ring.c explains what it is). uring_requests.c moves bytes of request queues
 * by operations in the ring; a few polls wait for everything else (uring_polls.c). Entries are
 * written when the thread waits, so all requests of one turn of the loop, and the wait for the
 * next, are one system call. This file waits, and assembles the tables. Its parts know those below
 * them:
 *
 *     park, connect → requests → accept, watch → edges, rest → polls → port → ring
 *
 * Memory is not registered with the kernel: we measured that it gains nothing for sockets (RIO_BUF
 * is resolved to an address), and every process has a limit for it.
 *
 * Threads. A modern ring belongs to the thread that first enters it. park() takes back all
 * operations, so that the thread may end; unfinished requests stay at the head of their lanes, and
 * the next wait writes them again, in a new ring if it is in another thread. Programs that run a
 * loop for each small task park it each time, with all their idle connections; so a receive that
 * was taken back twice rests in an epoll instance, which belongs to no thread, until there is
 * something to receive (uring_rest.c).
 *
 * What can go wrong.
 *   - Closing a descriptor does not end an operation on it, and keeps the connection open: retire
 *     cancels and fetches the results before it returns, so the peer sees the end at close.
 *   - Cancelling races with completing. Both outcomes are results like any other; what was
 *     cancelled is ended (retired queue) or written again (all others).
 *   - A receive that is taken back (recall_receives) may have completed: its bytes are its result.
 *   - Memory of a request belongs to the kernel until the result arrives. Nothing ends without it:
 *     close waits, too.
 *   - Sends complete while being submitted and end the sleep before it began: GATHER_US.
 *   - The completion ring overflows: the kernel keeps what does not fit (NODROP) and sets a flag;
 *     entering fetches it.
 *   - fork: the child shares the instance. fork.c's mark keeps it away; its copies of the rings
 *     do not exist (ring.c).
 *   - Containers forbid io_uring. probe says so, and epoll is taken.
 *
 * Links: https://man7.org/linux/man-pages/man7/io_uring.7.html
 *        https://man7.org/linux/man-pages/man3/io_uring_prep_cancel.3.html
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/uring_port.h"

#include <errno.h>
#include <stdlib.h>

#include "linux/datagrams.h"
#include "linux/entries.h"
#include "linux/uring_accept.h"
#include "linux/uring_connect.h"
#include "linux/uring_park.h"
#include "linux/uring_polls.h"
#include "linux/uring_requests.h"
#include "linux/uring_watch.h"
#include "table/clock.h"

#define DEPTH_MAX 32768 /* the kernel's own limit; a port's option `depth` may ask for less */

/* Sends usually complete while being submitted, so a sleep that waits for one result does not
 * sleep, and a second system call follows. Linux 6.12 can be asked to wait for one result more
 * than there are sends, but only for so many microseconds; then any will do. That pays when many
 * are busy, because a receive comes soon, and costs a timer that fires in vain when few are.
 * Measured, CPU µs per 1 KiB echo, least of 9 rounds on a busy machine (never | with 8 sends and
 * more | always): 1 connection 27.2|27.8|41.0, 50: 7.0|6.6|6.2, 500: 8.9|8.7|9.9. */
#define GATHER_US 50
#define GATHER_SENDS 8

static const rio_driver uring__driver;

static inline uring_port *uring__port_of(const rio_port *handle, int32_t *code)
{
    return (uring_port *)port_of(handle, &uring__driver, code);
}

/* ----------------------------------------------------------------------------------- the wait */

/* Prepares the ring for this thread. 0 or a code. */
static int32_t uring__here(uring_port *port)
{
    uint64_t thread = ring_thread();
    int error = 0;

    if (RIO_LIKELY(port->thread == thread && !port->parked))
        return 0;
    if (port->thread != 0 && port->thread != thread) {
        if (!port->parked)
            return RIO_EINVAL; /* rule 10: to change threads, park first */
        assert(port->base.hub.counts.in_kernel == 0);
        uint32_t entries = port->ring.entries;
        ring_close(&port->ring);
        error = ring_open(&port->ring, entries);
    }
    if (error == 0)
        error = ring_enable(&port->ring);
    if (error != 0)
        return rio_code_of_errno(error);
    port->thread = thread;
    port->parked = 0;
    uring_polls_list_all(port);
    return 0;
}

/* 1 if there is something to report to the caller. */
static inline int uring__tells(uring_port *port, uint32_t loud)
{
    return loud != port->base.hub.loud || port->watches_stir || port_ready(&port->base) ||
           (RIO_UNLIKELY(port->listeners_stir) && uring_accept_look(port));
}

/* Sleeps until there is something to report, or the time is up. 0 or minus a code. */
static int32_t uring__sleep(uring_port *port, int64_t timeout_ns)
{
    uint32_t loud = port->base.hub.loud;
    int64_t end = timeout_ns > 0 ? clock_ns() + timeout_ns : 0;

    for (;;) {
        int gathers =
            port->sends >= GATHER_SENDS && (port->ring.features & IORING_FEAT_MIN_TIMEOUT) != 0;
        uint32_t least = 1 + (gathers ? port->sends : 0);
        int64_t part_ns = timeout_ns;
        int naps = RIO_UNLIKELY(port->polite_until != 0);
        if (naps) {
            int64_t rest_ns = uring_accept_rest(port);
            if (timeout_ns < 0 || rest_ns < timeout_ns)
                part_ns = rest_ns;
        }
        int result = uring_port_enter(port, 1, least, part_ns, gathers ? GATHER_US : 0);
        uint32_t found = uring_requests_fetch(port);
        if (RIO_UNLIKELY(result < 0 && result != -ETIME && result != -EINTR && result != -EBUSY &&
                         result != -EAGAIN))
            return -rio_code_of_errno(-result);
        if (RIO_LIKELY(uring__tells(port, loud)) || (found < least && !(naps && result == -ETIME)))
            return 0;
        if (timeout_ns > 0 && (timeout_ns = end - clock_ns()) <= 0)
            return 0;
        uring_requests_write(port);
    }
}

/* Polls: results, and work that the kernel does only when entered, show in shared memory. */
static int uring__poll(void *object)
{
    uring_port *port = object;
    uint32_t loud = port->base.hub.loud;

    if (port->first_due != NULL || port->first_poll != NULL || port->polite_until != 0)
        uring_requests_write(port);
    if (ring_written(&port->ring) != 0 || ring_stirs(&port->ring))
        uring_requests_turn(port, 0);
    return uring__tells(port, loud);
}

static int32_t uring__wait(rio_port *handle, rio_port_event *events, uint32_t size,
                           int64_t timeout_ns)
{
    int32_t code = 0;
    uring_port *port = uring__port_of(handle, &code);

    if (RIO_UNLIKELY(port == NULL || (code = uring__here(port)) != 0))
        return -code;
    if (RIO_UNLIKELY(events == NULL || size == 0))
        return -(events == NULL ? RIO_EFAULT : RIO_EINVAL);
    counts_add(&port->base.hub.counts.waits, 1);
    uring_requests_write(port);
    if (timeout_ns != 0 && uring__tells(port, port->base.hub.loud))
        timeout_ns = 0;
    if (timeout_ns != 0 && port->base.hub.spin.limit_ns != 0) {
        timeout_ns = spin_poll(&port->base.hub.spin, timeout_ns, uring__poll, port);
        uring_requests_write(port); /* what the last fetch made due */
    }
    if (timeout_ns != 0 && wakeup_may_sleep(&port->base.wakeup))
        code = uring__sleep(port, timeout_ns);
    else if (ring_written(&port->ring) != 0 || ring_stirs(&port->ring))
        uring_requests_turn(port, 0);
    wakeup_awake(&port->base.wakeup);
    if (RIO_UNLIKELY(code < 0))
        return code;
    uint32_t ready = port_ready(&port->base), count = 0; /* room for one of these remains */
    if (RIO_UNLIKELY(port->listeners_stir))
        count = uring_accept_take(port, events, size - ready);
    if (RIO_UNLIKELY(port->watches_stir))
        count += uring_watch_take(port, events + count, size - ready - count);
    count += port_take(&port->base, events + count, size - count);
    if (count != 0)
        spin_heard(&port->base.hub.spin);
    return (int32_t)count;
}

static int32_t uring__pending(rio_port *handle)
{
    int32_t code = 0;
    const uring_port *port = uring__port_of(handle, &code);
    if (port == NULL)
        return 0;
    return port->first_due != NULL || port->first_poll != NULL || port->watches_stir ||
           port->listeners_stir || port->polite_until != 0 || port_ready(&port->base) ||
           ring_written(&port->ring) != 0 || ring_stirs(&port->ring);
}

static void uring__progress(rio_hub *hub)
{
    uring_port *port = (uring_port *)hub;
    if (uring__here(port) != 0)
        return;
    uring_requests_write(port);
    if (ring_written(&port->ring) != 0 || ring_stirs(&port->ring))
        uring_requests_turn(port, 0);
}

/* ------------------------------------------------------------------------ entries of the port */

static int32_t uring__watch(rio_port *handle, rio_socket socket, uint32_t mask, uint64_t key)
{
    int32_t code = 0;
    uring_port *port = uring__port_of(handle, &code);
    return port != NULL ? uring_watch(port, socket, mask, key) : code;
}

static int32_t uring__accept(rio_port *handle, rio_socket listener, uint64_t key)
{
    int32_t code = 0;
    uring_port *port = uring__port_of(handle, &code);
    return port != NULL ? uring_accept(port, listener, key) : code;
}

static int32_t uring__accept_alone(rio_port *handle, rio_socket listener, uint32_t alone)
{
    int32_t code = 0;
    uring_port *port = uring__port_of(handle, &code);
    return port != NULL ? uring_accept_alone(port, listener, alone) : code;
}

static int32_t uring__accept_stop(rio_port *handle, rio_socket listener)
{
    int32_t code = 0;
    uring_port *port = uring__port_of(handle, &code);
    if (port != NULL)
        uring_accept_stop(port, listener);
    return code;
}

static int32_t uring__connect(rio_port *handle, rio_socket socket, const void *address,
                              uint32_t length, uint64_t key)
{
    int32_t code = 0;
    uring_port *port = uring__port_of(handle, &code);
    return port != NULL ? uring_connect(port, socket, address, length, key) : code;
}

static int32_t uring__connect_stop(rio_port *handle, rio_socket socket)
{
    int32_t code = 0;
    uring_port *port = uring__port_of(handle, &code);
    if (port != NULL)
        uring_connect_stop(port, socket);
    return code;
}

static int32_t uring__park(rio_port *handle)
{
    int32_t code = 0;
    uring_port *port = uring__port_of(handle, &code);
    return port != NULL ? uring_park(port) : code;
}

/* ---------------------------------------------------------------------------- birth and death */

static int32_t uring__attach(rio_hub *hub, rio_rq *rq)
{
    (void)hub;
    return sockets_learn(rq);
}

static void uring__shut(rio_hub *hub)
{
    uring_port *port = (uring_port *)hub;

    if (!hub_ours(hub))
        ring_orphan(&port->ring);
    else if (uring_park(port) != 0) /* another thread's: the kernel cancels by itself */
        ring_close(&port->ring);
    port_end(&port->base);
    uring_polls_end(port);
    ring_close(&port->ring);
    free(port->gathers);
    free(port);
}

static rio_hub *uring__open(const rio_port_options *options)
{
    uint32_t depth = options != NULL && options->depth != 0 ? options->depth : RING_ENTRIES;
    if (depth > DEPTH_MAX)
        depth = DEPTH_MAX;
    uring_port *port = (uring_port *)port_begin(&uring__driver, options, sizeof *port);
    if (port == NULL)
        return NULL;
    uring_polls_begin(port);
    int error = ring_open(&port->ring, depth);
    if (error == 0)
        port->gathers = calloc(port->ring.entries, sizeof *port->gathers);
    if (error == 0 && port->gathers != NULL)
        return &port->base.hub;
    uring__shut(&port->base.hub);
    errors_refuse(error != 0 ? rio_code_of_errno(error) : RIO_ENOBUFS);
    return NULL;
}

static rio_port *uring__create(const rio_port_options *options)
{
    return hub_publish(uring__open(options));
}

static void uring__close(rio_port *handle)
{
    rio_hub *hub = handles_object(handle, HANDLES_PORT);
    if (hub != NULL && hub->driver == &uring__driver)
        uring__shut(hub);
}

/* ----------------------------------------------------------------------------------- the tables */

EMULATION_CREATORS(uring_, &uring__driver)

static const rio_driver uring__driver = {
    .rq_bytes = sizeof(uring_side),
    .open = uring__open,
    .shut = uring__shut,
    .attach = uring__attach,
    .detach = uring_park_detach,
    .start = uring_requests_start,
    .recall = uring_park_recall,
    .now = uring_requests_now,
    .datagrams_now = datagrams_now,
    .progress = uring__progress,
};

const rio_provider uring_provider = {
    .size = sizeof(rio_provider),
    .capabilities = RIO_CAP_SEND_MEMORY | RIO_CAP_RECEIVE_MEMORY | RIO_CAP_DATAGRAM | RIO_CAP_NOW |
                    RIO_CAP_SEND_NOW | RIO_CAP_BATCH | RIO_CAP_PENDING, /* by TASKRUN */
    .name = "uring",
    .probe = ring_probe,
    .rio = EMULATION_TABLE(uring__create_completion_queue, uring__create_request_queue),
    .port = {
        ENTRIES_OF_PORT,
        .create = uring__create,
        .close = uring__close,
        .wait = uring__wait,
        .pending = uring__pending,
        .watch = uring__watch,
        .accept = uring__accept,
        .accept_stop = uring__accept_stop,
        .accept_alone = uring__accept_alone,
        .connect = uring__connect,
        .connect_stop = uring__connect_stop,
        .park = uring__park,
    },
    ENTRIES_OF_PROVIDER,
};
