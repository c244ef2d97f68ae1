/* See teller.c. */
#ifndef ZERIO_BENCH_TELLER_H
#define ZERIO_BENCH_TELLER_H

#include "parts.h"

/* From now on this process answers; 0 or a negative code. */
int teller_start(void);
/* 1, or 0 if that process does not answer. */
int teller_ask(DWORD pid, uint64_t *user_ns, uint64_t *system_ns);

#endif
