/* Allocations of Python that fail: one of them, by its number, in any of the three domains.
 *
 * As _testcapi.set_nomemory, which not every Python brings; and this counts. */

#include <Python.h>

static PyMemAllocatorEx originals[3];
static const PyMemAllocatorDomain domains[3] = {
    PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
static long long counted, failing;
static volatile int on;

static int refused(void)
{
    return on && counted++ == failing;
}

static void *failing_malloc(void *context, size_t size)
{
    PyMemAllocatorEx *original = context;
    return refused() ? NULL : original->malloc(original->ctx, size);
}

static void *failing_calloc(void *context, size_t count, size_t size)
{
    PyMemAllocatorEx *original = context;
    return refused() ? NULL : original->calloc(original->ctx, count, size);
}

static void *failing_realloc(void *context, void *memory, size_t size)
{
    PyMemAllocatorEx *original = context;
    return refused() ? NULL : original->realloc(original->ctx, memory, size);
}

static void failing_free(void *context, void *memory)
{
    PyMemAllocatorEx *original = context;
    original->free(original->ctx, memory);
}

static void failing_install(void)
{
    for (int i = 0; i < 3; i++) {
        PyMemAllocatorEx replaced = {
            &originals[i], failing_malloc, failing_calloc, failing_realloc, failing_free};
        PyMem_GetAllocator(domains[i], &originals[i]);
        PyMem_SetAllocator(domains[i], &replaced);
    }
}

/* From now on allocation `number` fails; none if it is negative. */
static void failing_begin(long long number)
{
    counted = 0;
    failing = number;
    on = 1;
}

/* No more; how many there were. */
static long long failing_end(void)
{
    on = 0;
    return counted;
}
