/* handles.c: handles that may be null, stale, foreign or plain garbage without harm.
 *
 * What it is. RIO's functions take a handle and nothing else: no context, no port, no table. A
 * provider must therefore find its object from the handle alone, and rule 13 forbids to crash on
 * a handle that is closed or was never one. A pointer in disguise cannot do that, for to check it
 * one must read what it points to. So a handle is a number:
 *
 *      63             25 24                 3 2     0
 *     [   generation    |       index        | kind  ]
 *
 * The index leads to a slot of a two-level table, the slot holds the number that is valid now, and
 * they are compared. Slots are type-stable: chunks are made on demand and never freed, so every
 * index that any number can carry is either in a chunk or visibly in none. A closed slot that is
 * given out again gets the next generation, 2^39 of them on a 64-bit machine.
 *
 * This is the one piece of global state in the providers. It has to be global for the reason above.
 *
 * What can go wrong. Several loops run in several threads, and cffi calls us without the GIL, so
 * open and close take a lock; it guards a few instructions, a spin flag is enough. Lookups take
 * none. A looked-up object may be closed by another thread before it is used: rule 10 (one thread
 * for a port and what hangs on it) excludes that for all calls but post(), and post() pins: it
 * counts itself into the slot, looks again, and close waits until the count is zero. Both sides
 * write before they read (sequentially consistent), so one of them sees the other.
 *
 * A fork may happen while another thread holds the lock; rio_handles_forked opens it in the child.
 * The order of stores below is such that the worst outcome there is a slot that is never used.
 *
 * Links: RIO_INVALID_BUFFERID and the null queues,
 *   https://learn.microsoft.com/windows/win32/winsock/riobuf
 */
#include "handles.h"

#include <assert.h>
#include <stdlib.h>

#define SLOTS (1u << RIO_HANDLE_CHUNK_BITS)
#define CHUNKS (1u << RIO_HANDLE_TABLE_BITS)
#define KIND_MASK ((uintptr_t)((1u << RIO_HANDLE_KIND_BITS) - 1))
#define GENERATION_SHIFT (RIO_HANDLE_KIND_BITS + RIO_HANDLE_INDEX_BITS)
#define NONE UINT32_MAX

_Static_assert(RIO_HANDLE_KIND_BITS + RIO_HANDLE_INDEX_BITS < 32, "room for a generation");

rio_atomic_word rio_handle_chunks[CHUNKS];

static rio_atomic32 rio__lock;
static uint32_t rio__first_free = NONE;
static uint32_t rio__chunk_count = 0;

static void rio__lock_take(void)
{
    while (rio_exchange32(&rio__lock, 1) != 0) {
    }
}

static void rio__lock_give(void)
{
    rio_store32_release(&rio__lock, 0);
}

static rio_handle *rio__slot(uint32_t index)
{
    return (rio_handle *)rio_load_word_acquire(&rio_handle_chunks[index / SLOTS]) + index % SLOTS;
}

/* One chunk more; the caller has the lock and the free list is empty. */
static int rio__grow(void)
{
    if (rio__chunk_count == CHUNKS)
        return 0;
    rio_handle *chunk = calloc(SLOTS, sizeof *chunk);
    if (chunk == NULL)
        return 0;
    uint32_t first = rio__chunk_count * SLOTS;
    for (uint32_t i = 0; i < SLOTS; i++) {
        rio_store_word_release(&chunk[i].value, (uintptr_t)(first + i) << RIO_HANDLE_KIND_BITS);
        chunk[i].u.next_free = i + 1 < SLOTS ? first + i + 1 : NONE;
    }
    rio_store_word_release(&rio_handle_chunks[rio__chunk_count], (uintptr_t)chunk);
    rio__chunk_count++;
    rio__first_free = first;
    return 1;
}

void *rio_handle_open(enum rio_handle_kind kind, void *object, uint32_t extent)
{
    rio__lock_take();
    if (rio__first_free == NONE && !rio__grow()) {
        rio__lock_give();
        return NULL;
    }
    rio_handle *slot = rio__slot(rio__first_free);
    rio__first_free = slot->u.next_free;
    rio__lock_give();
    slot->u.registration = NULL;
    uintptr_t value = rio_load_word_acquire(&slot->value);
    assert((value & KIND_MASK) == 0);
    value += (uintptr_t)1 << GENERATION_SHIFT;
    value |= (uintptr_t)kind;
    slot->object = object;
    slot->extent = extent;
    rio_store_word_release(&slot->value, value);
    return (void *)value;
}

void rio_handle_close(void *handle)
{
    uintptr_t value = (uintptr_t)handle;
    rio_handle *slot = rio_handle_find(handle, (enum rio_handle_kind)(value & KIND_MASK));
    assert(slot != NULL);
    if (slot == NULL)
        return;
    rio_store_word(&slot->value, value & ~KIND_MASK);
    while (rio_load32(&slot->pins) != 0) {
    }
    slot->object = NULL;
    slot->extent = 0;
    rio__lock_take();
    slot->u.next_free = rio__first_free;
    rio__first_free = (uint32_t)(value >> RIO_HANDLE_KIND_BITS) &
                      ((1u << RIO_HANDLE_INDEX_BITS) - 1);
    rio__lock_give();
}

rio_handle *rio_handle_pin(const void *handle, enum rio_handle_kind kind)
{
    rio_handle *slot = rio_handle_find(handle, kind);
    if (slot == NULL)
        return NULL;
    (void)rio_add32(&slot->pins, 1);
    if (rio_load_word(&slot->value) == (uintptr_t)handle)
        return slot;
    (void)rio_add32(&slot->pins, UINT32_MAX); /* one fewer */
    return NULL;
}

void rio_handle_unpin(rio_handle *slot)
{
    (void)rio_add32(&slot->pins, UINT32_MAX); /* one fewer */
}

void rio_handles_forked(void)
{
    rio__lock_give();
}
