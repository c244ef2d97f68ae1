/* spin.h: waits that poll before they sleep, or never sleep.
 *
 * A thread that sleeps is woken by the kernel some microseconds after there is work; one that polls
 * sees it in a fraction of a microsecond, and uses a whole core for it. A port that spins polls for
 * the time in the option `spin_ns`, counted from its last event; a wait that ends without one, by
 * its timeout or by the limit below, does not restart it.
 *
 * What can go wrong: a signal ends a sleep, but not polling, and Python runs its handler only after
 * the wait. So a wait polls for at most SPIN_TURN_NS and then returns without an event. */
#ifndef ZERIO_SPIN_H
#define ZERIO_SPIN_H

#include <stdint.h>

#include "table/clock.h"

/* Nobody notices a millisecond between a key and its effect; a turn of the loop takes a thousandth
 * of it. */
#define SPIN_TURN_NS 1000000

typedef struct spin_state {
    int64_t limit_ns;  /* how long to poll after an event; negative: for ever; 0: not at all */
    int64_t silent_ns; /* on the clock: when silence began; 0: there just was an event */
} spin_state;

static inline void spin_heard(spin_state *spin)
{
    spin->silent_ns = 0;
}

/* Polls by `look`, which returns 1 if there is something to report. Returns what is left of
 * `timeout_ns` (negative: for ever) if the port should sleep now, else 0. */
static inline int64_t spin_poll(spin_state *spin, int64_t timeout_ns, int (*look)(void *),
                                void *port)
{
    int64_t start = clock_ns(), now = start;
    if (spin->silent_ns == 0)
        spin->silent_ns = start;
    int64_t sleep = INT64_MAX; /* on the clock */
    if (spin->limit_ns >= 0 && spin->limit_ns < INT64_MAX - spin->silent_ns)
        sleep = spin->silent_ns + spin->limit_ns;
    int64_t end = start + SPIN_TURN_NS;
    if (timeout_ns >= 0 && timeout_ns < SPIN_TURN_NS)
        end = start + timeout_ns;

    for (; now < end && now < sleep; now = clock_ns())
        if (look(port)) {
            spin_heard(spin);
            return 0;
        }
    if (now < sleep || timeout_ns < 0)
        return now < sleep ? 0 : timeout_ns;
    return timeout_ns > now - start ? timeout_ns - (now - start) : 0;
}

#endif
