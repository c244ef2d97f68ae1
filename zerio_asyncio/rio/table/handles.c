/* handles.c: handles that may safely be null, stale, foreign or plain garbage.
 *
 * What it is. RIO's functions take a handle and nothing else: no context, no port, no table. So a
 * provider must find its object from the handle alone, and rule 13 forbids crashing on a handle
 * that is closed or was never one. A pointer in disguise cannot do that, because checking it means
 * reading what it points to. So a handle is a number:
 *
 *      63             25 24                 3 2     0
 *     [   generation    |       index        | kind  ]
 *
 * The index leads to a slot of a two-level table; the slot holds the number that is valid now, and
 * the two are compared. Slots are type-stable: chunks are allocated on demand and never freed, so
 * every index that any number can carry is either in a chunk or visibly in none. When a closed slot
 * is reused it gets the next generation, 2^39 of them on a 64-bit machine.
 *
 * This is the only global state in the providers. It must be global for the reason above.
 *
 * What can go wrong. Several loops run in several threads, and cffi calls us without the GIL, so
 * open and close take a lock; it guards a few instructions, so a spin flag is enough. Lookups take
 * none. A looked-up object may be closed by another thread before it is used: rule 10 (one thread
 * for a port and everything on it) excludes that for all calls but post(), and post() pins: it
 * counts itself into the slot, checks again, and close waits until the count is zero. Both sides
 * write before they read (sequentially consistent), so one of them sees the other.
 *
 * A fork may happen while another thread holds the lock; handles_forked opens it in the child. The
 * stores below are ordered so that the worst outcome there is a slot that is never used.
 *
 * Links: RIO_INVALID_BUFFERID and the null queues,
 *   https://learn.microsoft.com/windows/win32/winsock/riobuf
 */
#include "table/handles.h"

#include <assert.h>
#include <stdlib.h>

#define SLOTS (1u << HANDLES_CHUNK_BITS)
#define CHUNKS (1u << HANDLES_TABLE_BITS)
#define KIND_MASK ((uintptr_t)((1u << HANDLES_KIND_BITS) - 1))
#define GENERATION_SHIFT (HANDLES_KIND_BITS + HANDLES_INDEX_BITS)
#define NONE UINT32_MAX

_Static_assert(HANDLES_KIND_BITS + HANDLES_INDEX_BITS < 32, "room for a generation");

atomics_word handles_chunks[CHUNKS];

static atomics_u32 handles__lock;
static uint32_t handles__first_free = NONE;
static uint32_t handles__chunk_count = 0;

static void handles__lock_take(void)
{
    while (atomics_exchange32(&handles__lock, 1) != 0) {
    }
}

static void handles__lock_give(void)
{
    atomics_store32_release(&handles__lock, 0);
}

static handles_slot *handles__slot(uint32_t index)
{
    return (handles_slot *)atomics_load_word_acquire(&handles_chunks[index / SLOTS]) +
           index % SLOTS;
}

/* Adds a chunk; the caller has the lock and the free list is empty. */
static int handles__grow(void)
{
    if (handles__chunk_count == CHUNKS)
        return 0;
    handles_slot *chunk = calloc(SLOTS, sizeof *chunk);
    if (chunk == NULL)
        return 0;
    uint32_t first = handles__chunk_count * SLOTS;
    for (uint32_t i = 0; i < SLOTS; i++) {
        atomics_store_word_release(&chunk[i].value, (uintptr_t)(first + i) << HANDLES_KIND_BITS);
        chunk[i].u.next_free = i + 1 < SLOTS ? first + i + 1 : NONE;
    }
    atomics_store_word_release(&handles_chunks[handles__chunk_count], (uintptr_t)chunk);
    handles__chunk_count++;
    handles__first_free = first;
    return 1;
}

void *handles_open(enum handles_kind kind, void *object, uint32_t extent)
{
    handles__lock_take();
    if (handles__first_free == NONE && !handles__grow()) {
        handles__lock_give();
        return NULL;
    }
    handles_slot *slot = handles__slot(handles__first_free);
    handles__first_free = slot->u.next_free;
    handles__lock_give();
    slot->u.registration = NULL;
    uintptr_t value = atomics_load_word_acquire(&slot->value);
    assert((value & KIND_MASK) == 0);
    value += (uintptr_t)1 << GENERATION_SHIFT;
    value |= (uintptr_t)kind;
    slot->object = object;
    slot->extent = extent;
    atomics_store_word_release(&slot->value, value);
    return (void *)value;
}

void handles_close(void *handle)
{
    uintptr_t value = (uintptr_t)handle;
    handles_slot *slot = handles_find(handle, (enum handles_kind)(value & KIND_MASK));
    assert(slot != NULL);
    if (slot == NULL)
        return;
    atomics_store_word(&slot->value, value & ~KIND_MASK);
    while (atomics_load32(&slot->pins) != 0) {
    }
    slot->object = NULL;
    slot->extent = 0;
    handles__lock_take();
    slot->u.next_free = handles__first_free;
    handles__first_free = (uint32_t)(value >> HANDLES_KIND_BITS) & ((1u << HANDLES_INDEX_BITS) - 1);
    handles__lock_give();
}

handles_slot *handles_pin(const void *handle, enum handles_kind kind)
{
    handles_slot *slot = handles_find(handle, kind);
    if (slot == NULL)
        return NULL;
    (void)atomics_add32(&slot->pins, 1);
    if (atomics_load_word(&slot->value) == (uintptr_t)handle)
        return slot;
    (void)atomics_add32(&slot->pins, UINT32_MAX); /* one fewer */
    return NULL;
}

void handles_unpin(handles_slot *slot)
{
    (void)atomics_add32(&slot->pins, UINT32_MAX); /* one fewer */
}

void handles_forked(void)
{
    handles__lock_give();
}
