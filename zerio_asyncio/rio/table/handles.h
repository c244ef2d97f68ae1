/* handles.h: the process-wide table behind every RIO_BUFFERID, RIO_CQ, RIO_RQ and rio_port. The
 * page in handles.c explains why it exists; here are its map and the lookup, which is inline. */
#ifndef ZERIO_HANDLES_H
#define ZERIO_HANDLES_H

#include <stddef.h>
#include <stdint.h>

#include "table/atomics.h"
#include "table/compiler.h"

/* The lowest three bits of a handle. 0 is a free slot; 7 is never used, so no handle is 0xFFFFFFFF
 * (RIO_INVALID_BUFFERID), and none is 0. */
enum handles_kind { HANDLES_BUFFER = 1, HANDLES_CQ = 2, HANDLES_RQ = 3, HANDLES_PORT = 4 };

#define HANDLES_KIND_BITS 3
#define HANDLES_CHUNK_BITS 10 /* slots in a chunk: 1024 of 32 bytes, one allocation of 32 KiB */
#define HANDLES_TABLE_BITS 12 /* chunks: 4096, so four million handles can live at once */
#define HANDLES_INDEX_BITS (HANDLES_CHUNK_BITS + HANDLES_TABLE_BITS)

typedef struct handles_slot {
    atomics_word value; /* generation, index, kind; a free slot has kind 0 */
    void *object;          /* what the handle refers to; the memory of a buffer */
    uint32_t extent;       /* bytes of a buffer */
    atomics_u32 pins;     /* threads other than its own that use the object (handles_pin) */
    union {
        uint32_t next_free; /* of a free slot */
        void *registration; /* of a buffer: the provider's data for it, or null */
    } u;
} handles_slot;

extern atomics_word handles_chunks[1u << HANDLES_TABLE_BITS]; /* handles_slot * */

/* A new handle, or null if memory or the table is exhausted. */
void *handles_open(enum handles_kind kind, void *object, uint32_t extent);

/* Makes the handle invalid, then waits until nobody has it pinned. */
void handles_close(void *handle);

/* Like handles_find, but safe against a close by another thread until handles_unpin. */
handles_slot *handles_pin(const void *handle, enum handles_kind kind);
void handles_unpin(handles_slot *slot);

/* In the child of a fork: a lock that another thread held at that moment has no owner here. */
void handles_forked(void);

/* The slot of a live handle of this kind, else null. Any bits are allowed: the value is first an
 * index into our own table, and only then compared. */
static inline handles_slot *handles_find(const void *handle, enum handles_kind kind)
{
    uintptr_t value = (uintptr_t)handle;
    uintptr_t index = value >> HANDLES_KIND_BITS;
    handles_slot *chunk = (handles_slot *)atomics_load_word_acquire(
        &handles_chunks[(index >> HANDLES_CHUNK_BITS) & ((1u << HANDLES_TABLE_BITS) - 1)]);
    if (RIO_UNLIKELY(chunk == NULL))
        return NULL;
    handles_slot *slot = chunk + (index & ((1u << HANDLES_CHUNK_BITS) - 1));
    if (RIO_UNLIKELY((value & ((1u << HANDLES_KIND_BITS) - 1)) != (uintptr_t)kind ||
                     atomics_load_word_acquire(&slot->value) != value))
        return NULL;
    return slot;
}

static inline void *handles_object(const void *handle, enum handles_kind kind)
{
    handles_slot *slot = handles_find(handle, kind);
    return RIO_LIKELY(slot != NULL) ? slot->object : NULL;
}

#endif
