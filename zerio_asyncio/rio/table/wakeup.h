/* wakeup.h: post() and the thread that may sleep, without a lock.
 *
 * post() must wake a thread that sleeps in the kernel, from any thread and from signal handlers,
 * and should cost nothing when that thread is awake. It sets `posted`, and makes a system call only
 * if `sleeping` is set. The sleeper sets `sleeping` and then checks `posted`. Both store first and
 * load second, sequentially consistent, so one of them sees the other. Posts that nobody has seen
 * merge; the event carries the last key. */
#ifndef ZERIO_WAKEUP_H
#define ZERIO_WAKEUP_H

#include "rio.h"
#include "table/atomics.h"
#include "table/compiler.h"

typedef struct wakeup_state {
    atomics_u32 posted;   /* and not yet seen */
    atomics_u32 sleeping; /* the port's thread is in the kernel, or about to be */
    atomics_u64 key;
} wakeup_state;

/* 1 if the port's thread must be woken in the kernel. */
static inline int wakeup_post(wakeup_state *wakeup, uint64_t key)
{
    atomics_store64(&wakeup->key, key);
    return atomics_exchange32(&wakeup->posted, 1) == 0 && atomics_load32(&wakeup->sleeping) != 0;
}

/* 1 if the thread may sleep: from now on every post wakes it. */
static inline int wakeup_may_sleep(wakeup_state *wakeup)
{
    atomics_store32(&wakeup->sleeping, 1);
    return atomics_load32(&wakeup->posted) == 0;
}

static inline void wakeup_awake(wakeup_state *wakeup)
{
    atomics_store32_release(&wakeup->sleeping, 0);
}

/* 1 if there is a post that nobody has taken yet. */
static inline int wakeup_waits(const wakeup_state *wakeup)
{
    return atomics_load32_relaxed(&wakeup->posted) != 0;
}

/* 1 and the event, if there was a post since the last time. */
static inline int wakeup_take(wakeup_state *wakeup, rio_port_event *event)
{
    if (RIO_LIKELY(!wakeup_waits(wakeup)))
        return 0;
    (void)atomics_exchange32(&wakeup->posted, 0);
    *event = (rio_port_event){ .kind = RIO_PORT_POST, .key = atomics_load64(&wakeup->key) };
    return 1;
}

#endif
