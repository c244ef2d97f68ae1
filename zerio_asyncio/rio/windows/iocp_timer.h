/* iocp_timer.h: what ends a sleep at a completion port in time (iocp_timer.c). */
#ifndef ZERIO_IOCP_TIMER_H
#define ZERIO_IOCP_TIMER_H

#include "windows/sdk.h"

#include <stdint.h>

/* Opened by the first sleep that needs it. */
typedef struct iocp_timer {
    int way; /* iocp_timer.c */
    uint8_t queues; /* started, and its packet may come */
    uint8_t late;   /* cancelled, but its packet was under way: it is not ours to start yet */
    HANDLE object, packet;
    void *associate, *cancel;
} iocp_timer;

/* Before a sleep of so many ns at most, for ever if negative: how many ms to ask the port for. The
 * sleep may end a little early. Adds the system calls it took. */
DWORD iocp_timer_start(iocp_timer *, HANDLE completions, int64_t ns, uint64_t *system_calls);
/* After it. */
void iocp_timer_stop(iocp_timer *, uint64_t *system_calls);
void iocp_timer_close(iocp_timer *);

#endif
