/* ring.h: one io_uring instance through raw system calls: setup, entering, teardown (ring.c).
 *
 * ring_next writes submission entries and ring_enter submits them; completion entries are read
 * where the kernel writes them. Nothing here knows what they mean. */
#ifndef ZERIO_RING_H
#define ZERIO_RING_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "linux/io_uring.h"

typedef struct ring_state {
    int descriptor;       /* -1: none */
    int enter_descriptor; /* the same, or its number in the thread's own table */
    uint32_t enter_flags; /* IORING_ENTER_REGISTERED_RING, if so */
    uint32_t setup;       /* IORING_SETUP_ flags that the kernel accepted */
    uint32_t features;    /* IORING_FEAT_ flags */
    uint32_t entries;     /* of the submission queue */
    uint32_t tail;        /* ours; the kernel's copy lags until we enter */
    uint32_t mask;
    uint32_t results_mask;
    uint8_t enabled; /* bound to a thread */
    _Atomic(uint32_t) *kernel_head;
    _Atomic(uint32_t) *kernel_tail;
    _Atomic(uint32_t) *kernel_flags;
    _Atomic(uint32_t) *results_head;
    _Atomic(uint32_t) *results_tail;
    struct io_uring_sqe *submissions;
    struct io_uring_cqe *results;
    void *queues;
    size_t queues_bytes;
    size_t submissions_bytes;
} ring_state;

/* Entries written between two system calls; more than that are submitted in portions. 512 are 32
 * KiB, and their results 64 KiB. */
#define RING_ENTRIES 512

/* 0 or an errno. The kernel rounds entries up to a power of two; if memory is short there are
 * fewer, see ring->entries. */
int ring_open(ring_state *, uint32_t entries);
void ring_close(ring_state *);

/* Binds the ring to the calling thread, also after ring_disown. 0 or an errno. */
int ring_enable(ring_state *);
/* The thread gives up its own reference, which a close by another thread would not reach. */
void ring_disown(ring_state *);

/* In a forked child: the queues are not mapped here, and their addresses may be reused by now. */
void ring_orphan(ring_state *);

/* Submits everything written and waits until `least` results are there, or `timeout_ns` has passed
 * (negative: never), or, if `gather_us` is not 0, at least one is there after that time. If
 * `events`, asks the kernel to run what it has deferred. Number submitted, or minus an errno. */
int ring_enter(ring_state *, int events, uint32_t least, int64_t timeout_ns, uint32_t gather_us);

/* This thread's number, which no other thread has or had. */
uint64_t ring_thread(void);

/* 0 if this process may have an adequate ring, else an errno and the likely cause. */
int32_t ring_probe(char *reason, uint32_t size);

/* Entries written and not yet taken by the kernel. */
static inline uint32_t ring_written(const ring_state *ring)
{
    return ring->tail - atomic_load_explicit(ring->kernel_head, memory_order_acquire);
}

/* A cleared entry, or null if the queue is full. */
static inline struct io_uring_sqe *ring_next(ring_state *ring)
{
    static const struct io_uring_sqe cleared;
    if (ring_written(ring) == ring->entries)
        return NULL;
    struct io_uring_sqe *entry = &ring->submissions[ring->tail++ & ring->mask];
    *entry = cleared;
    return entry;
}

static inline uint32_t ring_flags(const ring_state *ring)
{
    return atomic_load_explicit(ring->kernel_flags, memory_order_relaxed);
}

/* 1 if there are results to read, or work that the kernel does only on request. */
static inline int ring_stirs(const ring_state *ring)
{
    return atomic_load_explicit(ring->results_head, memory_order_relaxed) !=
               atomic_load_explicit(ring->results_tail, memory_order_acquire) ||
           (ring_flags(ring) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

#endif
