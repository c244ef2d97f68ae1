/* The load generator: a closed loop of echo requests over many connections, from one thread.
 *
 * Every connection keeps `depth` requests in flight; an answered one is followed by the next. The
 * load therefore follows the server, and the figure of merit is the server's CPU time per request.
 *
 * Verification that costs almost nothing. All messages are windows of one pseudo-random pattern:
 * message m of connection c is the `size` bytes from an offset that is a hash of (c, m). Sending
 * needs no preparation (the window is sent in place) and checking is a memcmp with the same
 * window. A byte that is lost, doubled, changed, or handed to another connection is found. Only
 * for large messages is memcmp a visible part (3 of 26 us at 64 KiB, measured), enough to make the
 * generator the bottleneck before the C limit is; so inside the window one large message in four
 * is compared whole, and of the others the head of every piece. Warm-up and drain compare all.
 *
 * Time. A request starts when the call that sends its first byte is made and ends when the last
 * byte of its answer has been received. A run has three phases:
 *
 *       warm-up ──► window (counted; CPU clocks read at both ends) ──► drain (answers only)
 *
 * The drain is there so that every byte sent is verified, and the server sees an orderly close.
 *
 * Limits: the window by time, the run by `quota`, silence by `stall_ns`, the drain by DRAIN_NS.
 */
#define _GNU_SOURCE
#include "parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PATTERN_SHIFTS = 4096, /* windows to tell messages apart; a power of two */
    READ_SIZE = 256 * 1024,
    EVENTS_MAX = 256,
    GATHER_MAX = 16,       /* messages in one send */
    LARGE = 16 * 1024,     /* bytes of a message from which on comparing costs more than 1 us */
    LARGE_EVERY = 4,       /* of large messages in the window, compared whole */
    HEAD = 1024,           /* bytes compared of a piece of the others */
    WAIT_MS_MAX = 50,      /* so that a phase ends in time though nothing happens */
};
static const uint64_t DRAIN_NS = 2000000000u;

typedef enum { WARM_UP, WINDOW, DRAIN } phase;

typedef struct {
    int fd;
    int waits_to_send; /* EPOLLOUT is armed */
    uint64_t sent;     /* bytes since the run began */
    uint64_t received;
    uint64_t *started_ns; /* of message m at m % depth */
} connection;

struct load {
    load_config config;
    int epoll;
    phase phase;
    connection *connections;
    uint64_t *started_ns;
    unsigned char *pattern;
    unsigned char *buffer;
    uint64_t in_flight;
    uint64_t finished; /* connections that have used up their quota */
    uint64_t moved_ns; /* when a byte last moved */
    load_result result;
    uint64_t counts[LOAD_COUNTS];
};

const uint64_t *load_counts(const load *self)
{
    return self->counts;
}

/* ---- messages -------------------------------------------------------------------------------- */

static const unsigned char *load__message(const load *self, uint64_t which, uint64_t message)
{
    uint64_t hash = (which + 1) * UINT64_C(0x9E3779B97F4A7C15);
    hash += message * UINT64_C(0xD1B54A32D192ED03);
    return self->pattern + (hash >> 40) % PATTERN_SHIFTS;
}

/* ---- life ------------------------------------------------------------------------------------ */

load *load_new(const load_config *config)
{
    load *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->config = *config;
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    size_t count = (size_t)config->connections;
    size_t pattern_size = (size_t)config->size + PATTERN_SHIFTS;
    self->connections = calloc(count, sizeof *self->connections);
    self->started_ns = calloc(count * (size_t)config->depth, sizeof *self->started_ns);
    self->pattern = malloc(pattern_size);
    self->buffer = malloc(READ_SIZE);
    for (size_t i = 0; self->connections != NULL && i < count; i++)
        self->connections[i].fd = -1;
    if (self->epoll < 0 || self->connections == NULL || self->started_ns == NULL
        || self->pattern == NULL || self->buffer == NULL) {
        load_free(self);
        return NULL;
    }
    pattern_fill(self->pattern, pattern_size);
    for (size_t i = 0; i < count; i++)
        self->connections[i].started_ns = self->started_ns + i * (size_t)config->depth;
    return self;
}

void load_free(load *self)
{
    if (self == NULL)
        return;
    for (int i = 0; self->connections != NULL && i < self->config.connections; i++)
        if (self->connections[i].fd >= 0)
            close(self->connections[i].fd);
    if (self->epoll >= 0)
        close(self->epoll);
    free(self->connections);
    free(self->started_ns);
    free(self->pattern);
    free(self->buffer);
    free(self);
}

/* ---- connecting ------------------------------------------------------------------------------ */

int load_connect(load *self)
{
    for (int i = 0; i < self->config.connections; i++) {
        connection *link = &self->connections[i];
        int kind = self->config.datagrams ? SOCK_DGRAM : SOCK_STREAM;
        int fd = dial(self->config.address, self->config.port, kind, i);
        if (fd < 0)
            return fd;
        link->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = link};
        if (epoll_ctl(self->epoll, EPOLL_CTL_ADD, link->fd, &event) != 0)
            return -errno;
    }
    return 0;
}

/* ---- the closed loop ------------------------------------------------------------------------- */

static int load__fail(load *self, int status, const connection *link)
{
    self->result.status = status;
    self->result.error = status == LOAD_SYSTEM ? errno : 0;
    if (link != NULL) {
        self->result.fail_connection = (uint64_t)(link - self->connections);
        self->result.fail_message = link->received / (uint64_t)self->config.size;
        self->result.fail_offset = link->received % (uint64_t)self->config.size;
    }
    return status;
}

/* Bytes that this connection may have sent by now. */
static uint64_t load__allowed(const load *self, const connection *link)
{
    uint64_t size = (uint64_t)self->config.size;
    if (self->phase == DRAIN)
        return (link->sent + size - 1) / size * size;
    uint64_t messages = link->received / size + (uint64_t)self->config.depth;
    if (self->config.quota != 0 && messages > self->config.quota)
        messages = self->config.quota;
    return messages * size;
}

static int load__wait_to_send(load *self, connection *link, int wait)
{
    if (link->waits_to_send == wait)
        return LOAD_OK;
    struct epoll_event event = {.events = EPOLLIN | (wait ? EPOLLOUT : 0), .data.ptr = link};
    link->waits_to_send = wait;
    if (epoll_ctl(self->epoll, EPOLL_CTL_MOD, link->fd, &event) != 0)
        return load__fail(self, LOAD_SYSTEM, link);
    return LOAD_OK;
}

/* One gathering send; the number of bytes it took, or -1 with errno. */
static ssize_t load__send_some(load *self, connection *link, uint64_t allowed)
{
    struct iovec parts[GATHER_MAX];
    uint64_t size = (uint64_t)self->config.size;
    uint64_t which = (uint64_t)(link - self->connections);
    uint64_t at = link->sent;
    uint64_t now_ns = clock_ns();
    int count = 0, most = self->config.datagrams ? 1 : GATHER_MAX;
    for (; count < most && at < allowed; count++) {
        uint64_t message = at / size, offset = at % size;
        parts[count].iov_base = (void *)(load__message(self, which, message) + offset);
        parts[count].iov_len = (size_t)(size - offset);
        if (offset == 0)
            link->started_ns[message % (uint64_t)self->config.depth] = now_ns;
        at += size - offset;
    }
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    ssize_t sent = count == 1 ? send(link->fd, parts[0].iov_base, parts[0].iov_len, MSG_NOSIGNAL)
                              : sendmsg(link->fd, &header, MSG_NOSIGNAL);
    if (sent > 0) {
        uint64_t begun = (link->sent + size - 1) / size;
        link->sent += (uint64_t)sent;
        self->in_flight += (link->sent + size - 1) / size - begun;
    }
    return sent;
}

static int load__send(load *self, connection *link)
{
    for (;;) {
        uint64_t allowed = load__allowed(self, link);
        if (link->sent >= allowed)
            return load__wait_to_send(self, link, 0);
        if (load__send_some(self, link, allowed) < 0) {
            if (errno == EAGAIN)
                return load__wait_to_send(self, link, 1);
            return load__fail(self, LOAD_SYSTEM, link);
        }
    }
}

static void load__complete(load *self, connection *link, uint64_t message, uint64_t now_ns)
{
    uint64_t started_ns = link->started_ns[message % (uint64_t)self->config.depth];
    self->in_flight -= 1;
    self->result.requests_all += 1;
    if (message + 1 == self->config.quota)
        self->finished += 1;
    if (self->phase == WINDOW) {
        self->result.requests += 1;
        self->counts[histogram_index(now_ns - started_ns)] += 1;
    }
}

/* How much of a piece of `part` bytes of this message is compared. */
static size_t load__scope(const load *self, uint64_t message, size_t part)
{
    if (self->phase != WINDOW || self->config.size < LARGE || message % LARGE_EVERY == 0)
        return part;
    return part < HEAD ? part : HEAD;
}

static int load__verify(load *self, connection *link, size_t got, uint64_t now_ns)
{
    uint64_t size = (uint64_t)self->config.size;
    uint64_t which = (uint64_t)(link - self->connections);
    const unsigned char *answer = self->buffer;
    if (link->received + got > link->sent)
        return load__fail(self, LOAD_EXCESS, link);
    while (got > 0) {
        uint64_t message = link->received / size, offset = link->received % size;
        size_t part = got < size - offset ? got : (size_t)(size - offset);
        const unsigned char *expected = load__message(self, which, message) + offset;
        if (memcmp(answer, expected, load__scope(self, message, part)) != 0) {
            while (*answer == *expected)
                answer++, expected++, link->received++;
            self->result.fail_expected = *expected;
            self->result.fail_got = *answer;
            return load__fail(self, LOAD_MISMATCH, link);
        }
        link->received += part;
        answer += part;
        got -= part;
        if (offset + part == size)
            load__complete(self, link, message, now_ns);
    }
    return LOAD_OK;
}

static int load__receive(load *self, connection *link)
{
    ssize_t got = recv(link->fd, self->buffer, READ_SIZE, 0);
    if (got < 0)
        return errno == EAGAIN ? LOAD_OK : load__fail(self, LOAD_SYSTEM, link);
    if (got == 0 && !self->config.datagrams)
        return load__fail(self, LOAD_CLOSED, link);
    if (self->config.datagrams && got != self->config.size)
        return load__fail(self, LOAD_CUT, link);
    self->moved_ns = clock_ns();
    int status = load__verify(self, link, (size_t)got, self->moved_ns);
    return status == LOAD_OK ? load__send(self, link) : status;
}

/* ---- phases ---------------------------------------------------------------------------------- */

static int load__read_clocks(load *self, reading *now)
{
    int status = reading_take(self->config.server_pid, now);
    errno = -status;
    return status == 0 ? LOAD_OK : load__fail(self, LOAD_SYSTEM, NULL);
}

static int load__wait(load *self, uint64_t until_ns)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now_ns = clock_ns();
    uint64_t left_ms = until_ns > now_ns ? (until_ns - now_ns) / 1000000u + 1 : 0;
    int wait_ms = left_ms < WAIT_MS_MAX ? (int)left_ms : WAIT_MS_MAX;
    int count = epoll_wait(self->epoll, events, EVENTS_MAX, self->config.spin ? 0 : wait_ms);
    if (count < 0)
        return errno == EINTR ? LOAD_OK : load__fail(self, LOAD_SYSTEM, NULL);
    for (int i = 0; i < count; i++) {
        connection *link = events[i].data.ptr;
        int status = LOAD_OK;
        if (events[i].events & EPOLLOUT)
            status = load__send(self, link);
        if (status == LOAD_OK && (events[i].events & ~(uint32_t)EPOLLOUT))
            status = load__receive(self, link);
        if (status != LOAD_OK)
            return status;
    }
    if (self->in_flight > 0 && clock_ns() - self->moved_ns > self->config.stall_ns)
        return load__fail(self, LOAD_STALLED, NULL);
    return LOAD_OK;
}

/* Runs one phase to its end; a quota may end it earlier. */
static int load__phase(load *self, phase which, uint64_t length_ns)
{
    uint64_t end_ns = clock_ns() + length_ns;
    int status = LOAD_OK;
    self->phase = which;
    while (status == LOAD_OK && clock_ns() < end_ns) {
        if (self->config.quota != 0 && self->finished == (uint64_t)self->config.connections)
            break;
        if (which == DRAIN && self->in_flight == 0)
            break;
        status = load__wait(self, end_ns);
    }
    return status;
}

int load_run(load *self, load_result *result)
{
    reading first = {0}, last = {0};
    int status = LOAD_OK;
    memset(&self->result, 0, sizeof self->result);
    memset(self->counts, 0, sizeof self->counts);
    self->in_flight = 0;
    self->finished = 0;
    self->moved_ns = clock_ns();
    self->phase = self->config.warmup_ns != 0 ? WARM_UP : WINDOW;
    if (self->phase == WINDOW)
        status = load__read_clocks(self, &first);
    for (int i = 0; status == LOAD_OK && i < self->config.connections; i++) {
        self->connections[i].sent = self->connections[i].received = 0;
        status = load__send(self, &self->connections[i]);
    }
    if (status == LOAD_OK && self->phase == WARM_UP) {
        status = load__phase(self, WARM_UP, self->config.warmup_ns);
        if (status == LOAD_OK)
            status = load__read_clocks(self, &first);
    }
    if (status == LOAD_OK)
        status = load__phase(self, WINDOW, self->config.measure_ns);
    if (status == LOAD_OK)
        status = load__read_clocks(self, &last);
    if (status == LOAD_OK) {
        reading_store(&self->result, &first, &last);
        status = load__phase(self, DRAIN, DRAIN_NS);
    }
    if (status == LOAD_OK && self->in_flight != 0)
        load__fail(self, LOAD_STALLED, NULL);
    *result = self->result;
    return result->status;
}
