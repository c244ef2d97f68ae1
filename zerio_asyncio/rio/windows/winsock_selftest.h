/* winsock_selftest.h: whether the system's Registered I/O works (winsock_selftest.c). */
#ifndef ZERIO_WINSOCK_SELFTEST_H
#define ZERIO_WINSOCK_SELFTEST_H

#include "windows/winsock_table.h"

/* Tries the table, once for a process: 0, or a code, and in `reason` the step that failed and why.
 * `reason` may be null with a size of 0. After winsock_table_load. */
int32_t winsock_selftest(char *reason, uint32_t size);

#endif
