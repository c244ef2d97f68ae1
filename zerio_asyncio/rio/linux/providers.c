/* providers.c: the providers of Linux, best first. */
#include "rio.h"

extern const rio_provider uring_provider;
extern const rio_provider epoll_provider;

static const rio_provider *const providers__list[] = {
    &uring_provider,
    &epoll_provider,
};

const rio_provider *const *rio_providers(uint32_t *count)
{
    *count = sizeof providers__list / sizeof providers__list[0];
    return providers__list;
}
