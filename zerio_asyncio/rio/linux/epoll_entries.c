/* epoll_entries.c: what an epoll port's instances hold besides request queues.
 *
 * Watches, listeners and connects are level-triggered entries of the port's instance (epoll.c):
 * what is ready and not taken is reported again. A descriptor can be in an instance only once, but
 * may be watched while it has a request queue or while it connects. If its place is taken, the
 * entry goes to a second instance, `aside`, which is itself an entry of the first and is made on
 * first use.
 *
 * Link: https://man7.org/linux/man-pages/man7/epoll.7.html
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/epoll_entries.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

/* Puts it into the second instance, which is made on first use. */
static int32_t epoll_entries__put_aside(epoll_port *port, int descriptor,
                                        enum interests_purpose purpose, uint32_t mask, uint64_t key)
{
    if (port->aside.epoll < 0) {
        struct epoll_event event = { .events = EPOLLIN, .data.u64 = FOR_ASIDE };
        int aside = epoll_create1(EPOLL_CLOEXEC);
        if (aside < 0 || epoll_ctl(port->main.epoll, EPOLL_CTL_ADD, aside, &event) != 0) {
            int32_t code = rio_code_of_errno(errno);
            if (aside >= 0)
                close(aside);
            return code;
        }
        port->aside.epoll = aside;
    }
    return interests_put(&port->aside, descriptor, purpose, mask, key);
}

int32_t epoll_entries_put(epoll_port *port, int descriptor, enum interests_purpose purpose,
                          uint32_t mask, uint64_t key)
{
    counts_add(&port->base.hub.counts.system_calls, 1);
    if (interests_at(&port->aside, descriptor, purpose) == NULL) {
        int32_t code = interests_put(&port->main, descriptor, purpose, mask, key);
        if (code != RIO_EALREADY)
            return code;
    }
    return epoll_entries__put_aside(port, descriptor, purpose, mask, key);
}

void epoll_entries_drop(epoll_port *port, int descriptor, enum interests_purpose purpose)
{
    counts_add(&port->base.hub.counts.system_calls, 1);
    interests_drop(&port->main, descriptor, purpose);
    interests_drop(&port->aside, descriptor, purpose);
}

int epoll_entries_move_aside(epoll_port *port, int descriptor)
{
    if ((uint32_t)descriptor >= port->main.length)
        return 0;
    interests_entry interest = port->main.table[descriptor];
    enum interests_purpose purpose = (enum interests_purpose)interest.purpose;
    if (purpose == FOR_NOTHING || !interests_drop(&port->main, descriptor, purpose))
        return 0;
    if (purpose == FOR_WATCH && interest.mask == 0)
        return 1; /* it has reported once, as requested */
    return epoll_entries__put_aside(port, descriptor, purpose, interest.mask, interest.key) == 0;
}
