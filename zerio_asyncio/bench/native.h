/* The native half of the benchmark, as Python sees it. build.py hands this file to cffi as it is
 * (without the lines that start with '#'), so it is plain declarations and comments only. An errno
 * is a code of Winsock on Windows; sockets and descriptors are handles there.
 *
 * The generator is C because a Python one would be the bottleneck: it has to spend less time per
 * request than the fastest server under test. The limit server is C because it answers "what does
 * the kernel alone cost?": no event loop can be cheaper than the same system calls without Python.
 */
#ifndef ZERIO_BENCH_NATIVE_H
#define ZERIO_BENCH_NATIVE_H

#include <stdint.h>

/* Why load_run ended. Everything but LOAD_OK is a failed measurement. */
enum {
    LOAD_OK = 0,
    LOAD_SYSTEM = 1,   /* a system call failed: result.error is its errno */
    LOAD_MISMATCH = 2, /* a byte came back changed: fail_* tell which */
    LOAD_EXCESS = 3,   /* more bytes came back than were sent */
    LOAD_CLOSED = 4,   /* the server closed a connection */
    LOAD_STALLED = 5,  /* no byte moved for stall_ns, or a datagram was lost */
    LOAD_CUT = 6,      /* a datagram came back that was longer or shorter */
    LOAD_ANEW = 7,     /* a session was not resumed that should have been, or the reverse */
};

/* Counts of the latency histogram: 1024 steps an octave (0.1 %), 1 ns to 2^36 ns (68 s). */
enum { LOAD_COUNTS = 27648 };

typedef struct {
    const char *address;  /* numeric IPv4 or IPv6; on Linux also the path of a Unix socket (/…) */
    int port;
    int connections;
    int size;             /* bytes of one message */
    int depth;            /* requests in flight on each connection */
    int datagrams;        /* not 0: UDP, a message a datagram; none may be lost or overtaken */
    int tls;              /* not 0: over TLS; the handshakes belong to load_connect */
    const char *request;  /* not NULL: what is sent each time, `size` bytes, and ... */
    const char *answer;   /* ... what must come back, `answer_size` bytes */
    int answer_size;
    int anew;             /* not 0: a new connection for each request, where the system can */
    int spin;             /* not 0: poll without sleeping, so that no wake-up is in the latency */
    int server_pid;       /* not 0: process whose CPU time is read at both ends of the window */
    uint64_t quota;       /* not 0: stop after so many requests on each connection */
    uint64_t warmup_ns;   /* served, but not counted */
    uint64_t measure_ns;  /* the window */
    uint64_t stall_ns;    /* longest silence before the run is given up */
} load_config;

typedef struct {
    int status;
    int error;
    uint64_t requests;         /* completed inside the window */
    uint64_t requests_all;     /* with warm-up and drain; every one of them was verified */
    uint64_t wall_ns;          /* length of the window */
    uint64_t load_cpu_ns;      /* CPU time of the generator in the window */
    uint64_t server_cpu_ns;    /* CPU time of server_pid in the window, all threads */
    uint64_t server_user_ns;   /* the same split in two by the kernel's statistics ... */
    uint64_t server_system_ns; /* ... whose unit is a tick of 10 ms */
    uint64_t fail_connection;
    uint64_t fail_message;
    uint64_t fail_offset;
    int fail_expected;
    int fail_got;
} load_result;

typedef struct load load;

/* NULL when memory or descriptors are short. The strings of config must outlive the load. */
load *load_new(const load_config *config);
/* Opens all connections; 0 or a negative errno. */
int load_connect(load *self);
/* Closed loop: depth requests in flight on each connection, each answered one followed by the
 * next. Returns result->status. */
int load_run(load *self, load_result *result);
/* LOAD_COUNTS numbers; the window's latencies. */
const uint64_t *load_counts(const load *self);
/* Middle of the values, in ns, that a count stands for. */
uint64_t load_value_ns(int index);
void load_free(load *self);

/* Connections that are opened, shake hands in TLS, have one message echoed, and are closed, by both
 * sides in turn (handshakes.c). What load_result calls requests are connections here. */
typedef struct {
    const char *address;  /* as above */
    int port;
    int connections;      /* under way at a time */
    int size;             /* bytes of the one message */
    int resumed;          /* not 0: all resume the session of the first, or the run fails */
    int server_pid;
    uint64_t quota;       /* not 0: stop after so many connections, in turn, for each at a time */
    uint64_t warmup_ns;
    uint64_t measure_ns;
    uint64_t stall_ns;
} handshakes_config;

typedef struct handshakes handshakes;

/* As load_new. */
handshakes *handshakes_new(const handshakes_config *config);
/* One connection, whose session others may resume; 0 or a negative errno. */
int handshakes_connect(handshakes *self);
/* Returns result->status. */
int handshakes_run(handshakes *self, load_result *result);
/* As load_counts: from the first packet to the last byte of the message. */
const uint64_t *handshakes_counts(const handshakes *self);
void handshakes_free(handshakes *self);

/* Framed messages: 4 bytes of length, little-endian, and the message (courier.c). */
typedef struct {
    const char *address;  /* as above */
    int port;
    int connections;
    int size;             /* bytes of a message, without its length */
    int burst;            /* messages sent together */
    int one_way;          /* not 0: no answers, as much as the server takes, until courier_stop */
    int spin;
    int server_pid;
    uint64_t delay_ns;    /* from one burst of a connection to the next; 0: when all are answered */
    uint64_t quota;       /* not 0: stop after so many bursts on each connection */
    uint64_t warmup_ns;
    uint64_t measure_ns;
    uint64_t stall_ns;
} courier_config;

typedef struct courier courier;

/* As load_new. */
courier *courier_new(const courier_config *config);
/* Opens all connections and tells who they are; 0, or a negative errno, -EPROTO if the server did
 * not send that back. */
int courier_connect(courier *self);
/* Once for each courier. One way, requests_all counts what was sent, and requests is 0: only the
 * server knows when it had a message. It loses none unless connections are closed before that. */
int courier_run(courier *self, load_result *result);
/* From another thread: the run goes to its end now. */
void courier_stop(courier *self);
/* As load_counts: of messages that came back in the window. */
const uint64_t *courier_counts(const courier *self);
void courier_free(courier *self);

/* Serves echo on a listening socket until a fatal error, which it returns as a negative errno. */
int limit_serve(intptr_t listener, int spin);
/* The same for datagrams, each sent back to where it came from. */
int limit_serve_datagrams(intptr_t socket, int spin);
/* The same over TLS, with the key and the certificate in that file (PEM). */
int tls_limit_serve(intptr_t listener, const char *certificate);
/* Which OpenSSL it is that generators and that server use; NULL if none can be loaded here. */
const char *tls_version(void);
/* The same for framed messages: sends all back, or only the first of a connection, and counts the
 * rest. Whenever a line comes on the descriptor `commands`, it answers with one on `answers`: a
 * JSON object of messages (since the start), cpu_ns and wall_ns. */
int frames_serve(intptr_t listener, int spin, int one_way, intptr_t commands, intptr_t answers);

/* The calling process is ended when its parent ends: no server outlives a benchmark. Its number is
 * asked for because not every system can tell it. */
int process_die_with_parent(int parent);
/* CPU time of a process (0: the calling one), all threads, user and system; 0 or a negative errno.
 * Linux accounts another process's running thread at each scheduler tick, so a reading may lag by
 * one tick; Windows when threads are switched. */
int process_cpu_ns(int pid, uint64_t *ns);
/* The same, split; resolution one tick (10 ms on Linux, 15.6 on Windows). */
int process_split_ns(int pid, uint64_t *user_ns, uint64_t *system_ns);

/* Time of a cache line's way from one CPU to another and back, both spinning for about a
 * millisecond; 0 or a negative errno. */
int distance_ns(int cpu, int other_cpu, uint64_t *ns);

#endif
