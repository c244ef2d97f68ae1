/* interests.c: the entries of an epoll instance, and what is known of each.
 *
 * A descriptor can be in an epoll instance only once, and epoll forgets it by itself when the last
 * reference to the open file goes. So our table may be out of date: changing a registration may
 * find none (ENOENT: the number was closed and is another file now, register anew), and registering
 * may find one (EEXIST: it is there for another purpose). And an entry may outlive its number here,
 * because a forked child or a duplicate keeps the file open: its events come for ever, and no call
 * can remove it. When such an event comes, a fresh instance replaces the old one.
 *
 * Link: https://man7.org/linux/man-pages/man7/epoll.7.html  (questions 1 and 6)
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/interests.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#ifndef EPOLLEXCLUSIVE
#define EPOLLEXCLUSIVE (1u << 28) /* ignored by kernels before 4.5 */
#endif

#define INTERESTS_MIN 64 /* descriptors; the table doubles when a higher number comes */

/* Makes room for a descriptor: 0 or a code. An invalid number gets no room: the system is asked
 * first, because it knows how many there can be. */
static int32_t interests__reach(interests_set *set, int descriptor)
{
    uint32_t length = set->length ? set->length : INTERESTS_MIN;
    while (length <= (uint32_t)descriptor)
        length *= 2;
    if (length == set->length)
        return 0;
    if (fcntl(descriptor, F_GETFD) < 0)
        return rio_code_of_errno(errno);
    interests_entry *table = realloc(set->table, length * sizeof *table);
    if (table == NULL)
        return RIO_ENOBUFS;
    memset(table + set->length, 0, (length - set->length) * sizeof *table);
    set->table = table;
    set->length = length;
    return 0;
}

static int32_t interests__code(int error)
{
    switch (error) {
    case EPERM:
        return RIO_EOPNOTSUPP; /* a plain file or directory is always ready, epoll has none */
    case EEXIST:
        return RIO_EALREADY;
    case ENOSPC: /* fs.epoll.max_user_watches */
        return RIO_ENOBUFS;
    case ELOOP:
        return RIO_EINVAL;
    default:
        return rio_code_of_errno(error);
    }
}

static int interests__tell(const interests_set *set, int operation, int descriptor,
                           enum interests_purpose purpose, uint32_t mask, uint32_t generation)
{
    struct epoll_event event = { .events = (mask & RIO_WATCH_READ ? EPOLLIN | EPOLLRDHUP : 0u) |
                                           (mask & RIO_WATCH_WRITE ? EPOLLOUT : 0u) |
                                           (mask & RIO_WATCH_ONCE ? EPOLLONESHOT : 0u) };
    if (purpose == FOR_ACCEPT)
        event.events = EPOLLIN | EPOLLEXCLUSIVE;
    event.data.u64 = (uint64_t)(uint32_t)descriptor << TAG_DESCRIPTOR_SHIFT |
                     (uint64_t)generation << TAG_GENERATION_SHIFT | (uint64_t)purpose;
    return epoll_ctl(set->epoll, operation, descriptor, &event);
}

int32_t interests_put(interests_set *set, int descriptor, enum interests_purpose purpose,
                      uint32_t mask, uint64_t key)
{
    if (descriptor < 0)
        return RIO_EBADF;
    int32_t code = interests__reach(set, descriptor);
    if (code != 0)
        return code;
    interests_entry *interest = &set->table[descriptor];
    if (purpose == FOR_ACCEPT) {
        interests_drop(set, descriptor, purpose); /* an exclusive entry cannot be changed */
    } else if (interest->purpose == purpose) {
        if (interests__tell(set, EPOLL_CTL_MOD, descriptor, purpose, mask, interest->generation) ==
            0) {
            interest->mask = (uint8_t)mask;
            interest->key = key;
            return 0;
        }
        if (errno != ENOENT)
            return interests__code(errno);
    }
    uint32_t generation = (set->generation + 1) & (UINT32_MAX >> TAG_GENERATION_SHIFT);
    if (interests__tell(set, EPOLL_CTL_ADD, descriptor, purpose, mask, generation) != 0)
        return interests__code(errno);
    set->generation = generation;
    *interest = (interests_entry){ key, generation, (uint8_t)purpose, (uint8_t)mask, 0 };
    return 0;
}

int interests_drop(interests_set *set, int descriptor, enum interests_purpose purpose)
{
    interests_entry *interest = interests_at(set, descriptor, purpose);
    struct epoll_event unused = { 0 };
    if (interest == NULL)
        return 0;
    interest->purpose = FOR_NOTHING;
    return epoll_ctl(set->epoll, EPOLL_CTL_DEL, descriptor, &unused) == 0;
}

void interests_forget(interests_set *set, int descriptor)
{
    if ((uint32_t)descriptor < set->length)
        set->table[descriptor].purpose = FOR_NOTHING;
}

interests_entry *interests_at(const interests_set *set, int descriptor,
                              enum interests_purpose purpose)
{
    if ((uint32_t)descriptor >= set->length || set->table[descriptor].purpose != purpose)
        return NULL;
    return &set->table[descriptor];
}

interests_entry *interests_of(const interests_set *set, uint64_t tag)
{
    interests_entry *interest = interests_at(set, (int)(tag >> TAG_DESCRIPTOR_SHIFT),
                                             (enum interests_purpose)(tag & TAG_PURPOSE));
    if (interest == NULL || interest->generation != (uint32_t)tag >> TAG_GENERATION_SHIFT)
        return NULL;
    return interest;
}

interests_entry *interests_told(interests_set *set, uint64_t tag)
{
    interests_entry *interest = interests_of(set, tag);
    set->stale += interest == NULL;
    return interest;
}

/* An entry leaves the old instance by its number only if the file is still the one it was made for,
 * so that no new file is removed with it. */
static int interests__leave(int old, int descriptor)
{
    struct epoll_event unused = { 0 };
    return epoll_ctl(old, EPOLL_CTL_DEL, descriptor, &unused) == 0;
}

int interests_renew(interests_set *set, int *old)
{
    int fresh = epoll_create1(EPOLL_CLOEXEC);
    set->stale = 0;
    if (fresh < 0)
        return 0; /* the next stale event tries again */
    *old = set->epoll;
    set->epoll = fresh;
    for (uint32_t i = 0; i < set->length; i++) {
        const interests_entry *interest = &set->table[i];
        if (interest->purpose != FOR_NOTHING &&
            (!interests__leave(*old, (int)i) || interest->mask == 0 ||
             interests__tell(set, EPOLL_CTL_ADD, (int)i, (enum interests_purpose)interest->purpose,
                             interest->mask, interest->generation) != 0))
            interests_forget(set, (int)i);
    }
    return 1;
}

void interests_again(const interests_set *set, int descriptor, const interests_entry *interest)
{
    (void)interests__tell(set, EPOLL_CTL_MOD, descriptor, (enum interests_purpose)interest->purpose,
                          interest->mask, interest->generation);
}

void interests_move(const rio_hub *hub, int old, int fresh, uint32_t (*events)(rio_rq *))
{
    for (uint32_t i = 0; hub->table != NULL && i <= hub->table_mask; i++) {
        for (rio_rq *rq = hub->table[i]; rq != NULL; rq = rq->next) {
            struct epoll_event event = { .events = events(rq),
                                         .data.u64 = (uint64_t)(uintptr_t)rq->handle };
            if (event.events != 0 && interests__leave(old, (int)rq->socket))
                (void)epoll_ctl(fresh, EPOLL_CTL_ADD, (int)rq->socket, &event);
        }
    }
}

void interests_free(interests_set *set)
{
    free(set->table);
    set->table = NULL;
    set->length = 0;
}
