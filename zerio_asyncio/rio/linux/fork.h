/* fork.h: whose process this is (fork.c). */
#ifndef ZERIO_FORK_H
#define ZERIO_FORK_H

#include <stdint.h>

/* A word that equals `era` in this process and nothing in a forked child. Null: no memory. */
const volatile uint32_t *fork_mark(uint32_t *era);

#endif
