/* handles.h: the process-wide table behind every RIO_BUFFERID, RIO_CQ, RIO_RQ and rio_port. The
 * page in handles.c tells why it exists; here stand its map and the lookup, which is inline. */
#ifndef ZERIO_HANDLES_H
#define ZERIO_HANDLES_H

#include <stddef.h>
#include <stdint.h>

#include "compiler.h"

/* The lowest three bits of a handle. 0 is a free slot; 7 is never used, so that no handle is
 * 0xFFFFFFFF (RIO_INVALID_BUFFERID), and none is 0. */
enum rio_handle_kind {
    RIO_KIND_BUFFER = 1,
    RIO_KIND_CQ = 2,
    RIO_KIND_RQ = 3,
    RIO_KIND_PORT = 4
};

#define RIO_HANDLE_KIND_BITS 3
#define RIO_HANDLE_CHUNK_BITS 10 /* slots in a chunk: 1024 of 32 bytes, one allocation of 32 KiB */
#define RIO_HANDLE_TABLE_BITS 12 /* chunks: 4096, so four million handles live at once */
#define RIO_HANDLE_INDEX_BITS (RIO_HANDLE_CHUNK_BITS + RIO_HANDLE_TABLE_BITS)

typedef struct rio_handle {
    rio_atomic_word value; /* generation, index, kind; a free slot has kind 0 */
    void *object;          /* what the handle stands for; the memory of a buffer */
    uint32_t extent;       /* bytes of a buffer */
    rio_atomic32 pins;     /* threads that use the object beside its own (rio_handle_pin) */
    union {
        uint32_t next_free; /* of a free slot */
        void *registration; /* of a buffer: what the provider keeps of it, or null */
    } u;
} rio_handle;

extern rio_atomic_word rio_handle_chunks[1u << RIO_HANDLE_TABLE_BITS]; /* rio_handle * */

/* A new handle, or null when memory or the table is exhausted. */
void *rio_handle_open(enum rio_handle_kind kind, void *object, uint32_t extent);

/* Makes the handle invalid, then waits until nobody has it pinned. */
void rio_handle_close(void *handle);

/* As rio_handle_find, but safe against a close by another thread until rio_handle_unpin. */
rio_handle *rio_handle_pin(const void *handle, enum rio_handle_kind kind);
void rio_handle_unpin(rio_handle *slot);

/* In the child of a fork: a lock that another thread held at that moment has no owner here. */
void rio_handles_forked(void);

/* The slot of a living handle of this kind, else null. Any bits may be asked for: the value is an
 * index into our own table first, and only compared after that. */
static inline rio_handle *rio_handle_find(const void *handle, enum rio_handle_kind kind)
{
    uintptr_t value = (uintptr_t)handle;
    uintptr_t index = value >> RIO_HANDLE_KIND_BITS;
    rio_handle *chunk = (rio_handle *)rio_load_word_acquire(
        &rio_handle_chunks[(index >> RIO_HANDLE_CHUNK_BITS) & ((1u << RIO_HANDLE_TABLE_BITS) - 1)]);
    if (RIO_UNLIKELY(chunk == NULL))
        return NULL;
    rio_handle *slot = chunk + (index & ((1u << RIO_HANDLE_CHUNK_BITS) - 1));
    if (RIO_UNLIKELY((value & ((1u << RIO_HANDLE_KIND_BITS) - 1)) != (uintptr_t)kind ||
                     rio_load_word_acquire(&slot->value) != value))
        return NULL;
    return slot;
}

static inline void *rio_handle_object(const void *handle, enum rio_handle_kind kind)
{
    rio_handle *slot = rio_handle_find(handle, kind);
    return RIO_LIKELY(slot != NULL) ? slot->object : NULL;
}

#endif
