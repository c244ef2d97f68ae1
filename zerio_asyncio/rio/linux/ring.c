/* ring.c: one io_uring instance through raw system calls.
 *
 * How io_uring works. Two rings of memory are shared with the kernel. We write submission entries
 * (64 bytes: operation, descriptor, memory, a number of ours) and call io_uring_enter once for all
 * of them; the kernel writes completion entries (16 bytes: our number, result, flags). The same
 * call sleeps until enough completions are there.
 *
 * What we request, best first, until the kernel stops returning EINVAL:
 *   Linux 6.6  ... and NO_SQARRAY: no table of indexes between us and the entries
 *   Linux 6.1  SINGLE_ISSUER, DEFER_TASKRUN: completions are made in our thread, only when we
 *              enter, not by interrupting it. TASKRUN_FLAG: a flag in shared memory says that some
 *              wait, so pending() needs no system call. R_DISABLED: the ring binds itself to the
 *              thread that enables it, not to the one that made it
 *   Linux 5.19 COOP_TASKRUN, TASKRUN_FLAG
 * and always SUBMIT_ALL (a bad entry does not stop those behind it), CQSIZE, CLAMP. No SQPOLL: a
 * kernel thread that spins takes a core from the program. Older kernels lack what uring_requests.c
 * needs (poll first): the provider is refused there and epoll is used.
 *
 * A registered ring descriptor saves io_uring_enter looking up and referencing the file. It belongs
 * to the thread, which may have sixteen; without one we use the descriptor.
 *
 * What can go wrong.
 *   - EPERM, ENOSYS: containers and sysctls forbid io_uring. ring_probe says which.
 *   - The queues of all rings of a user together are charged to RLIMIT_MEMLOCK, before Linux 5.12
 *     and again in newer ones (seen in 6.18); 64 KiB is a common limit. A ring that does not fit is
 *     made smaller: larger batches are then submitted, or fetched, in portions.
 *   - A thread's registered descriptor keeps the ring alive after close: ring_disown first.
 *   - A forked child would share the queues: they are not copied to it (MADV_DONTFORK).
 *   - The build machine's header may be older than the kernel, or absent: io_uring.h has it all.
 *
 * Links: https://man7.org/linux/man-pages/man2/io_uring_setup.2.html
 *        https://man7.org/linux/man-pages/man2/io_uring_enter.2.html
 *        https://man7.org/linux/man-pages/man2/io_uring_register.2.html
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "table/compiler.h"

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#define SYS_io_uring_enter 426
#define SYS_io_uring_register 427
#endif

#define NS_PER_SECOND 1000000000

typedef struct ring_timeout {
    int64_t seconds, nanoseconds;
} ring_timeout;

_Static_assert(sizeof(struct io_uring_sqe) == 64, "entries of 64 bytes");
_Static_assert(sizeof(struct io_uring_cqe) == 16, "entries of 16 bytes");

#define ALWAYS (IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP)
#define DEFERRED                                                                                   \
    (ALWAYS | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |                            \
     IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED)

static const uint32_t ring__ladder[] = {
    DEFERRED | IORING_SETUP_NO_SQARRAY,
    DEFERRED,
    ALWAYS | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
};

#define RUNGS (sizeof ring__ladder / sizeof ring__ladder[0])

/* Without these the rest is useless: 5.4, 5.5, 5.5, 5.7, 5.11. */
#define FEATURES                                                                                   \
    (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |                    \
     IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG)

/* Results that fit, per entry, before the kernel must hold them back. */
#define RESULTS_PER_ENTRY 8
/* A ring with this many entries takes three pages: if even that is too much, it is refused. */
#define ENTRIES_MIN 32

static int ring__register(int descriptor, unsigned operation, void *argument, unsigned count)
{
    return (int)syscall(SYS_io_uring_register, descriptor, operation, argument, count);
}

/* Maps everything shared with the kernel, at the offsets it returned. */
static int ring__map(ring_state *ring, const struct io_uring_params *told)
{
    size_t indexes = told->sq_off.array + told->sq_entries * sizeof(uint32_t);
    size_t results = told->cq_off.cqes + told->cq_entries * sizeof(struct io_uring_cqe);
    ring->queues_bytes = indexes > results ? indexes : results;
    ring->submissions_bytes = told->sq_entries * sizeof(struct io_uring_sqe);
    char *queues = mmap(NULL, ring->queues_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                        ring->descriptor, IORING_OFF_SQ_RING);
    if (queues == MAP_FAILED)
        return errno;
    ring->queues = queues;
    void *submissions = mmap(NULL, ring->submissions_bytes, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_POPULATE, ring->descriptor, IORING_OFF_SQES);
    if (submissions == MAP_FAILED)
        return errno;
    ring->submissions = submissions;
    (void)madvise(queues, ring->queues_bytes, MADV_DONTFORK);
    (void)madvise(submissions, ring->submissions_bytes, MADV_DONTFORK);
    ring->kernel_head = (_Atomic(uint32_t) *)(queues + told->sq_off.head);
    ring->kernel_tail = (_Atomic(uint32_t) *)(queues + told->sq_off.tail);
    ring->kernel_flags = (_Atomic(uint32_t) *)(queues + told->sq_off.flags);
    ring->results_head = (_Atomic(uint32_t) *)(queues + told->cq_off.head);
    ring->results_tail = (_Atomic(uint32_t) *)(queues + told->cq_off.tail);
    ring->results = (struct io_uring_cqe *)(queues + told->cq_off.cqes);
    ring->entries = told->sq_entries;
    ring->mask = told->sq_entries - 1;
    ring->results_mask = told->cq_entries - 1;
    ring->tail = atomic_load(ring->kernel_tail);
    if ((told->flags & IORING_SETUP_NO_SQARRAY) == 0)
        for (uint32_t i = 0; i < told->sq_entries; i++)
            ((uint32_t *)(queues + told->sq_off.array))[i] = i;
    return 0;
}

/* Sets up one instance of this size, the best that the kernel supports. */
static int ring__try(ring_state *ring, uint32_t entries)
{
    struct io_uring_params told;
    int error = EINVAL;

    memset(ring, 0, sizeof *ring);
    ring->descriptor = -1;
    for (size_t i = 0; i < RUNGS && ring->descriptor < 0 && error == EINVAL; i++) {
        memset(&told, 0, sizeof told);
        told.flags = ring__ladder[i];
        told.cq_entries = entries * RESULTS_PER_ENTRY;
        ring->descriptor = (int)syscall(SYS_io_uring_setup, entries, &told);
        error = ring->descriptor < 0 ? errno : 0;
    }
    if (error != 0)
        return error;
    ring->setup = told.flags;
    ring->features = told.features;
    ring->enter_descriptor = ring->descriptor;
    if ((told.features & FEATURES) != FEATURES)
        error = EINVAL;
    if (error == 0)
        error = ring__map(ring, &told);
    if (error != 0)
        ring_close(ring);
    return error;
}

int ring_open(ring_state *ring, uint32_t entries)
{
    int error = ring__try(ring, entries);
    while (error == ENOMEM && entries > ENTRIES_MIN)
        error = ring__try(ring, entries /= 2);
    return error;
}

void ring_close(ring_state *ring)
{
    if (ring->submissions != NULL)
        munmap(ring->submissions, ring->submissions_bytes);
    if (ring->queues != NULL)
        munmap(ring->queues, ring->queues_bytes);
    if (ring->descriptor >= 0)
        close(ring->descriptor);
    memset(ring, 0, sizeof *ring);
    ring->descriptor = -1;
}

void ring_orphan(ring_state *ring)
{
    if (ring->descriptor >= 0)
        close(ring->descriptor);
    memset(ring, 0, sizeof *ring);
    ring->descriptor = -1;
}

int ring_enable(ring_state *ring)
{
    struct io_uring_rsrc_update own = { .offset = UINT32_MAX, .data = (uint64_t)ring->descriptor };

    if (!ring->enabled && (ring->setup & IORING_SETUP_R_DISABLED) &&
        ring__register(ring->descriptor, IORING_REGISTER_ENABLE_RINGS, NULL, 0) != 0)
        return errno;
    ring->enabled = 1;
    if (ring__register(ring->descriptor, IORING_REGISTER_RING_FDS, &own, 1) == 1) {
        ring->enter_descriptor = (int)own.offset;
        ring->enter_flags = IORING_ENTER_REGISTERED_RING;
    }
    if (ring->features & IORING_FEAT_NO_IOWAIT)
        ring->enter_flags |= IORING_ENTER_NO_IOWAIT; /* waiting for peers is not disk load */
    return 0;
}

void ring_disown(ring_state *ring)
{
    struct io_uring_rsrc_update own = { .offset = (uint32_t)ring->enter_descriptor };

    if ((ring->enter_flags & IORING_ENTER_REGISTERED_RING) == 0)
        return;
    ring__register(ring->descriptor, IORING_UNREGISTER_RING_FDS, &own, 1);
    ring->enter_flags &= ~(uint32_t)IORING_ENTER_REGISTERED_RING;
    ring->enter_descriptor = ring->descriptor;
}

int ring_enter(ring_state *ring, int events, uint32_t least, int64_t timeout_ns, uint32_t gather_us)
{
    ring_timeout until = { timeout_ns / NS_PER_SECOND, timeout_ns % NS_PER_SECOND };
    struct io_uring_getevents_arg argument = { .min_wait_usec = gather_us };
    uint32_t flags = ring->enter_flags;
    void *extra = NULL;
    size_t extra_bytes = 0;

    if (events)
        flags |= IORING_ENTER_GETEVENTS;
    if (least != 0 && (timeout_ns >= 0 || gather_us != 0)) {
        if (timeout_ns >= 0)
            argument.ts = (uint64_t)(uintptr_t)&until;
        flags |= IORING_ENTER_EXT_ARG;
        extra = &argument;
        extra_bytes = sizeof argument;
    }
    atomic_store_explicit(ring->kernel_tail, ring->tail, memory_order_release);
    long result = syscall(SYS_io_uring_enter, ring->enter_descriptor, ring_written(ring), least,
                          flags, extra, extra_bytes);
    return result < 0 ? -errno : (int)result;
}

/* The value of /proc/sys/kernel/io_uring_disabled; 0 if it does not exist (before Linux 6.6). */
static int ring__disabled(void)
{
    char digit = '0';
    int file = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        ssize_t got = read(file, &digit, 1);
        (void)got;
        close(file);
    }
    return digit - '0';
}

int32_t ring_probe(char *reason, uint32_t size)
{
    ring_state ring;
    const char *cause;
    int error = ring_open(&ring, RING_ENTRIES);

    if (error == 0) {
        ring_close(&ring);
        return 0;
    }
    if (error == EPERM && ring__disabled() > 0)
        cause = "the sysctl kernel.io_uring_disabled forbids it; set it to 0, or put the process "
                "into kernel.io_uring_group";
    else if (error == EPERM || error == EACCES)
        cause = "a seccomp filter, as containers have by default, forbids it; run with a profile "
                "that allows the io_uring system calls";
    else if (error == ENOSYS)
        cause = "this kernel is built without it, or a sandbox hides it; allow the io_uring "
                "system calls there, or use a kernel that has them";
    else if (error == EINVAL)
        cause = "this kernel is older than Linux 5.19; update it";
    else if (error == ENOMEM || error == EMFILE || error == ENFILE)
        cause = "the process is at a limit; raise ulimit -n or ulimit -l";
    else
        cause = "the reason is not known to us";
    if (reason != NULL && size != 0)
        snprintf(reason, size, "io_uring_setup failed (%s): %s.", strerror(error), cause);
    return error;
}

uint64_t ring_thread(void)
{
    static _Atomic(uint64_t) last;
    static RIO_THREAD_LOCAL uint64_t own;
    if (RIO_UNLIKELY(own == 0))
        own = atomic_fetch_add(&last, 1) + 1;
    return own;
}
