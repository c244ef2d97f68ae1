/* fork.c: the mark that distinguishes a forked child from its parent.
 *
 * A port's memory is copied by fork, its epoll instance or ring is not: parent and child would
 * share it (rule 14). So each port remembers the era in which it was made, and one page says which
 * era this process is in. MADV_WIPEONFORK (Linux 4.14) makes the kernel zero that page in a child,
 * even one made without the C library; pthread_atfork does the same where the kernel cannot. The
 * first port that the child makes itself begins a new era. This page is process-wide because it
 * describes the process.
 *
 * Link: https://man7.org/linux/man-pages/man2/madvise.2.html
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/fork.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "table/handles.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

static uint32_t *fork__mark;
static _Atomic(uint32_t) fork__era;
static pthread_once_t fork__mark_once = PTHREAD_ONCE_INIT;

static void fork__in_child(void)
{
    *fork__mark = 0;
    handles_forked();
}

static void fork__make_mark(void)
{
    long page = sysconf(_SC_PAGESIZE);
    void *mark =
        mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mark == MAP_FAILED)
        return;
    (void)madvise(mark, (size_t)page, MADV_WIPEONFORK); /* if refused, the handler below does it */
    fork__mark = mark;
    (void)pthread_atfork(NULL, NULL, fork__in_child);
}

const volatile uint32_t *fork_mark(uint32_t *era)
{
    pthread_once(&fork__mark_once, fork__make_mark);
    if (fork__mark == NULL)
        return NULL;
    uint32_t now = __atomic_load_n(fork__mark, __ATOMIC_ACQUIRE);
    if (now == 0) {
        uint32_t fresh = atomic_fetch_add(&fork__era, 1) + 1;
        if (__atomic_compare_exchange_n(fork__mark, &now, fresh, 0, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            now = fresh;
    }
    *era = now;
    return fork__mark;
}
