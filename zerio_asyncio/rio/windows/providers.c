/* providers.c: the providers of Windows, best first. */
#include "rio.h"

extern const rio_provider winsock_provider;
extern const rio_provider overlapped_provider;

static const rio_provider *const providers__list[] = {
    &winsock_provider,
    &overlapped_provider,
};

const rio_provider *const *rio_providers(uint32_t *count)
{
    *count = sizeof providers__list / sizeof providers__list[0];
    return providers__list;
}
