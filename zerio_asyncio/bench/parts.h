/* What the C files share: the tools, and what each system gives under the same names.
 *
 * linux/ and windows/ have the same files; build.py picks one of the two folders, and its system.h
 * with it. Nothing else here knows which system it is. Private to the native half.
 */
#ifndef ZERIO_BENCH_PARTS_H
#define ZERIO_BENCH_PARTS_H

#include <stddef.h>
#include <stdint.h>

#include "native.h"
#include "system.h" /* wire, threads_*, codes, and what compilers spell differently */

/* ---- wires.c of the system: connections, and what becomes of them ---------------------------- */

typedef struct wires wires;

/* What a wire waits for, and what an event tells of. The last two are of no wire. */
enum { WIRES_READS = 1, WIRES_SENDS = 2, WIRES_LISTENER = 4, WIRES_COMMANDS = 8 };

typedef struct {
    wire *wire;
    int what;
} wires_event;

typedef struct {
    const unsigned char *bytes;
    size_t size;
} wires_piece;

enum { WIRES_EVENTS_MAX = 256, WIRES_PIECES_MAX = 16 };
#define WIRES_FOREVER UINT64_MAX

/* `piece`: bytes that a wire receives at once where the system receives ahead. NULL: no memory. */
wires *wires_new(size_t piece);
void wires_free(wires *self);
/* Takes a connected socket over, and waits for bytes. A wire that is all zeros is closed. */
int wires_add(wires *self, wire *link, intptr_t socket);
/* From now on events tell of connections to accept, or of lines that come on a descriptor. */
int wires_listen(wires *self, intptr_t listener);
int wires_listen_for_commands(wires *self, intptr_t commands);
/* 1: the wire is a new connection; 0: there is none now; negative: there will be none any more. */
int wires_accept(wires *self, wire *link);
/* 1: a line has come; 0: none will come any more. */
int wires_take_command(wires *self);
/* At most so long; `exact`: to the nanosecond, as far as the system can. The number of events. */
int wires_wait(wires *self, uint64_t ns, int exact, wires_event *events, int most);

/* All or the first bytes of the pieces; WIRES_LATER if none. `lasting`: they stay as they are until
 * the wire is closed, so a system that sends later need not copy them. */
int64_t wires_send(wires *self, wire *link, const wires_piece *pieces, int count, int lasting);
/* After an event: how many bytes came, 0 at the end, negative if it failed or WIRES_LATER. They are
 * in `room`, or in memory of the system's that lasts until the next wait. */
int64_t wires_receive(wires *self, wire *link, unsigned char *room, size_t size,
                      const unsigned char **bytes);
int wires_watch(wires *self, wire *link, int what);
void wires_close(wires *self, wire *link);
int wires_is_open(const wire *link);
/* Writes a line to a descriptor that is no socket. */
void wires_answer(intptr_t answers, const char *line, size_t size);

/* ---- dial.c of the system -------------------------------------------------------------------- */

/* A connected socket, of datagrams or of a stream, or a negative code. Connection number `which`
 * decides the source address: from 20,000 on another one of 127.0.0.0/8. */
intptr_t dial(const char *address, int port, int datagrams, int which);

/* ---- process.c of the system ----------------------------------------------------------------- */

typedef struct {
    uint64_t wall_ns, load_ns, server_ns, user_ns, system_ns;
} reading;

/* Since some moment. */
uint64_t clock_ns(void);
/* From now on sleeps end when they are due, as far as the system can. */
void clock_be_precise(void);

/* ---- threads.c of the system ----------------------------------------------------------------- */

/* Binds the calling thread to a CPU, and tells what it was bound to before. */
int threads_pin(int cpu, threads_set *before);
void threads_unpin(const threads_set *before);
int threads_start(threads_handle *thread, void (*run)(void *), void *argument);
void threads_join(threads_handle thread);

/* ---- library.c of the system ----------------------------------------------------------------- */

/* NULL: there is none, or not that in it. */
void *library_open(const char *name);
void *library_symbol(void *library, const char *name);

/* ---- readings.c ------------------------------------------------------------------------------ */

/* Reads the clocks of this process and, unless it is 0, of the server's; 0 or a negative code. */
int reading_take(int server_pid, reading *now);
/* What passed from the first reading to the last. */
void reading_store(load_result *result, const reading *first, const reading *last);

/* ---- histogram.c ----------------------------------------------------------------------------- */

/* The count that a latency belongs to. */
int histogram_index(uint64_t value_ns);

/* ---- pattern.c ------------------------------------------------------------------------------- */

/* Pseudo-random bytes, the same ones every time. */
void pattern_fill(unsigned char *pattern, size_t size);

#endif
