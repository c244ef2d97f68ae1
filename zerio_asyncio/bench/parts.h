/* What the generators share; see dial.c and process.c. Private to the native half. */
#ifndef ZERIO_BENCH_PARTS_H
#define ZERIO_BENCH_PARTS_H

#include <stddef.h>
#include <stdint.h>

#include "native.h"

/* dial.c */

/* A connected, non-blocking socket of a kind (SOCK_STREAM), or a negative errno. Connection number
 * `which` decides the source address: from 20,000 on another one of 127.0.0.0/8. */
int dial(const char *address, int port, int kind, int which);

/* process.c */

typedef struct {
    uint64_t wall_ns, load_ns, server_ns, user_ns, system_ns;
} reading;

/* CLOCK_MONOTONIC. */
uint64_t clock_ns(void);
/* Reads the clocks of this process and, unless it is 0, of the server's; 0 or a negative errno. */
int reading_take(int server_pid, reading *now);
/* What passed from the first reading to the last. */
void reading_store(load_result *result, const reading *first, const reading *last);

/* histogram.c */

/* The count that a latency belongs to. */
int histogram_index(uint64_t value_ns);

/* pattern.c: pseudo-random bytes, the same ones every time. */
void pattern_fill(unsigned char *pattern, size_t size);

#endif
