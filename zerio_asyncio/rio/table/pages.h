/* pages.h: memory from the system itself, in whole pages, for slabs of slices.
 *
 * Taken here and not through Python's mmap, because nothing of Python's may run in between: making
 * an object may collect, a collection runs finalizers, an audit hook belongs to a program; any of
 * them may use the pool that is about to grow. A child of fork() gets a copy (MAP_PRIVATE), so the
 * kernel's writes for the parent never show in it.
 *
 * Links: https://man7.org/linux/man-pages/man2/mmap.2.html
 *        https://learn.microsoft.com/windows/win32/api/memoryapi/nf-memoryapi-virtualalloc
 */
#ifndef ZERIO_PAGES_H
#define ZERIO_PAGES_H

#include <stddef.h>

#ifdef _WIN32
#include <windows.h>

static inline void *pages_map(size_t bytes)
{
    return VirtualAlloc(NULL, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

static inline void pages_unmap(void *memory, size_t bytes)
{
    (void)bytes;
    VirtualFree(memory, 0, MEM_RELEASE);
}
#else
#include <sys/mman.h>

/* Zeroed, and untouched until it is used; null if the system has none left. */
static inline void *pages_map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static inline void pages_unmap(void *memory, size_t bytes)
{
    munmap(memory, bytes);
}
#endif

#endif
