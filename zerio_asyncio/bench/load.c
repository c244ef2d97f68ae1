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
 * A request that is given, such as a page of a website, is the same each time, and so is its
 * answer, which has a size of its own. Over TLS a message is encrypted before it is sent, and the
 * next one is not until the system has taken all of that.
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
#include "tls.h"

#include <stdlib.h>
#include <string.h>

enum {
    PATTERN_SHIFTS = 4096, /* windows to tell messages apart; a power of two */
    READ_SIZE = 256 * 1024,
    AHEAD_MIN = 4096,
    DATAGRAM = 64 * 1024,  /* room for any */
    LARGE = 16 * 1024,     /* bytes of a message from which on comparing costs more than 1 us */
    LARGE_EVERY = 4,       /* of large messages in the window, compared whole */
    HEAD = 1024,           /* bytes compared of a piece of the others */
    ENCRYPTED = 256 * 1024, /* bytes of a message that are encrypted at once */
    SHAKING_MAX = 32,      /* handshakes at a time: the others have a time limit, too */
    DIALLED_MAX = 2000000, /* a hundred source addresses (dial.c) */
};
static const uint64_t DRAIN_NS = 2000000000u;
static const uint64_t WAIT_NS_MAX = 50000000u; /* so that a phase ends though nothing happens */

typedef enum { WARM_UP, WINDOW, DRAIN } phase;

typedef struct {
    wire wire;     /* first: an event's wire is its connection */
    uint64_t sent; /* bytes since the run began */
    uint64_t received;
    uint64_t *started_ns; /* of message m at m % depth */
    tls_link tls;
    int ready; /* its handshake is over */
} connection;

struct load {
    load_config config;
    wires *wires;
    phase phase;
    connection *connections;
    uint64_t *started_ns;
    unsigned char *pattern;
    unsigned char *buffer;
    tls_context *secure;   /* NULL: no TLS */
    unsigned char *plain;  /* what has been decrypted */
    uint64_t answer_size;
    int shaking;           /* handshakes under way */
    uint64_t in_flight;
    uint64_t finished; /* connections that have used up their quota */
    uint64_t dialled;
    uint64_t moved_ns; /* when a byte last moved */
    load_result result;
    uint64_t counts[LOAD_COUNTS];
};

const uint64_t *load_counts(const load *self)
{
    return self->counts;
}

/* ---- messages -------------------------------------------------------------------------------- */

static const unsigned char *load__window(const load *self, uint64_t which, uint64_t message)
{
    uint64_t hash = (which + 1) * UINT64_C(0x9E3779B97F4A7C15);
    hash += message * UINT64_C(0xD1B54A32D192ED03);
    return self->pattern + (hash >> 40) % PATTERN_SHIFTS;
}

static const unsigned char *load__message(const load *self, uint64_t which, uint64_t message)
{
    const char *given = self->config.request;
    return given != NULL ? (const unsigned char *)given : load__window(self, which, message);
}

static const unsigned char *load__answer(const load *self, uint64_t which, uint64_t message)
{
    const char *given = self->config.answer;
    return given != NULL ? (const unsigned char *)given : load__window(self, which, message);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Bytes that a connection receives at once: all that can be on its way to it, within reason. */
static size_t load__ahead(const load_config *config)
{
    int larger = config->size > config->answer_size ? config->size : config->answer_size;
    uint64_t most = (uint64_t)larger * (uint64_t)config->depth;
    if (config->datagrams)
        return DATAGRAM;
    if (most > READ_SIZE)
        return READ_SIZE;
    return most < AHEAD_MIN ? AHEAD_MIN : (size_t)most;
}

load *load_new(const load_config *config)
{
    load *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->config = *config;
    self->answer_size = (uint64_t)(config->answer != NULL ? config->answer_size : config->size);
    self->wires = wires_new(load__ahead(config));
    size_t count = (size_t)config->connections;
    size_t pattern_size = (size_t)config->size + PATTERN_SHIFTS;
    self->connections = calloc(count, sizeof *self->connections);
    self->started_ns = calloc(count * (size_t)config->depth, sizeof *self->started_ns);
    self->pattern = malloc(pattern_size);
    self->buffer = malloc(READ_SIZE);
    if (config->tls) {
        self->secure = tls_client();
        self->plain = malloc(READ_SIZE);
    }
    if (self->wires == NULL || self->connections == NULL || self->started_ns == NULL
        || self->pattern == NULL || self->buffer == NULL
        || (config->tls && (self->secure == NULL || self->plain == NULL))) {
        load_free(self);
        return NULL;
    }
    pattern_fill(self->pattern, pattern_size);
    for (size_t i = 0; i < count; i++)
        self->connections[i].started_ns = self->started_ns + i * (size_t)config->depth;
    return self;
}

/* The last word of TLS is sent if there is room for it: nobody waits here. */
static void load__close(load *self, connection *link)
{
    if (link->ready) {
        tls_end(&link->tls);
        (void)tls_flush(self->wires, &link->wire, &link->tls);
    }
    tls_free(&link->tls);
    if (wires_is_open(&link->wire))
        wires_close(self->wires, &link->wire);
}

void load_free(load *self)
{
    if (self == NULL)
        return;
    for (int i = 0; self->connections != NULL && i < self->config.connections; i++)
        load__close(self, &self->connections[i]);
    tls_context_free(self->secure);
    free(self->plain);
    wires_free(self->wires);
    free(self->connections);
    free(self->started_ns);
    free(self->pattern);
    free(self->buffer);
    free(self);
}

/* ---- connecting ------------------------------------------------------------------------------ */

static int load__flush_handshake(load *self, connection *link)
{
    int status = tls_flush(self->wires, &link->wire, &link->tls);
    if (status == WIRES_LATER)
        return wires_watch(self->wires, &link->wire, WIRES_READS | WIRES_SENDS);
    return status == 0 ? wires_watch(self->wires, &link->wire, WIRES_READS) : status;
}

/* What a server sends unasked, such as tickets; a byte of its own would be one too many. */
static int load__take_tickets(load *self, connection *link)
{
    int64_t got = tls_read(&link->tls, self->plain, READ_SIZE);
    if (got == WIRES_LATER)
        return 0;
    return got == 0 ? -SYSTEM_CLOSED : got < 0 ? (int)got : -SYSTEM_PROTOCOL;
}

static int load__shake(load *self, connection *link)
{
    const unsigned char *bytes;
    int64_t got = wires_receive(self->wires, &link->wire, self->buffer, READ_SIZE, &bytes);
    if (got <= 0)
        return got == 0 ? -SYSTEM_CLOSED : got == WIRES_LATER ? 0 : (int)got;
    tls_give(&link->tls, bytes, (size_t)got);
    if (!link->ready) {
        int status = tls_handshake(&link->tls);
        if (status < 0)
            return status;
        link->ready = status;
        self->shaking -= status;
    }
    int status = link->ready ? load__take_tickets(self, link) : 0;
    return status == 0 ? load__flush_handshake(self, link) : status;
}

/* Goes on with handshakes until at most so many are under way. */
static int load__shake_hands(load *self, int most)
{
    wires_event events[WIRES_EVENTS_MAX];
    uint64_t last_ns = clock_ns();
    int status = 0;
    while (status == 0 && self->shaking > most) {
        int count = wires_wait(self->wires, WAIT_NS_MAX, 0, events, WIRES_EVENTS_MAX);
        if (count > 0)
            last_ns = clock_ns();
        else if (count == 0 && clock_ns() - last_ns > self->config.stall_ns)
            return -SYSTEM_TIMED_OUT;
        status = count < 0 ? count : 0;
        for (int i = 0; status == 0 && i < count; i++) {
            connection *link = (connection *)(void *)events[i].wire;
            status = events[i].what & WIRES_READS ? load__shake(self, link)
                                                  : load__flush_handshake(self, link);
        }
    }
    return status;
}

static int load__secure(load *self, connection *link)
{
    int status = tls_begin(self->secure, &link->tls);
    if (status == 0)
        status = tls_handshake(&link->tls);
    if (status == 0)
        status = load__flush_handshake(self, link);
    self->shaking += 1;
    return status == 0 ? load__shake_hands(self, SHAKING_MAX) : status;
}

int load_connect(load *self)
{
    const load_config *config = &self->config;
    for (int i = 0; i < config->connections; i++) {
        intptr_t socket = dial(config->address, config->port, config->datagrams,
                               (int)(self->dialled++ % DIALLED_MAX));
        if (socket < 0)
            return (int)socket;
        int status = wires_add(self->wires, &self->connections[i].wire, socket);
        if (status == 0 && self->secure != NULL)
            status = load__secure(self, &self->connections[i]);
        if (status != 0)
            return status;
    }
    return load__shake_hands(self, 0);
}

/* A request was answered and the next one wants a connection of its own. Closed ones keep their
 * ports for a minute, so the source address changes now and then. */
static int load__dial_again(load *self, connection *link)
{
    const load_config *config = &self->config;
    wires_close(self->wires, &link->wire);
    intptr_t socket =
        dial(config->address, config->port, 0, (int)(self->dialled++ % DIALLED_MAX));
    if (socket < 0)
        return (int)socket;
    return wires_add(self->wires, &link->wire, socket);
}

/* ---- the closed loop ------------------------------------------------------------------------- */

static int load__fail(load *self, int status, const connection *link)
{
    self->result.status = status;
    if (link != NULL) {
        self->result.fail_connection = (uint64_t)(link - self->connections);
        self->result.fail_message = link->received / self->answer_size;
        self->result.fail_offset = link->received % self->answer_size;
    }
    return status;
}

/* A call failed with this code. */
static int load__fail_system(load *self, int64_t code, const connection *link)
{
    self->result.error = (int)-code;
    return load__fail(self, LOAD_SYSTEM, link);
}

/* Bytes that this connection may have sent by now. */
static uint64_t load__allowed(const load *self, const connection *link)
{
    uint64_t size = (uint64_t)self->config.size;
    if (self->phase == DRAIN)
        return (link->sent + size - 1) / size * size;
    uint64_t messages = link->received / self->answer_size + (uint64_t)self->config.depth;
    if (self->config.quota != 0 && messages > self->config.quota)
        messages = self->config.quota;
    return messages * size;
}

static int load__wait_to_send(load *self, connection *link, int wait)
{
    int status = wires_watch(self->wires, &link->wire, WIRES_READS | (wait ? WIRES_SENDS : 0));
    return status == 0 ? LOAD_OK : load__fail_system(self, status, link);
}

/* Sends, or encrypts and sends; encrypted bytes count as sent, as nobody can take them back. */
static int64_t load__hand_over(load *self, connection *link, const wires_piece *pieces, int count)
{
    if (self->secure == NULL)
        return wires_send(self->wires, &link->wire, pieces, count, 1);
    int64_t taken = 0;
    for (int i = 0; i < count; i++) {
        int status = tls_write(&link->tls, pieces[i].bytes, pieces[i].size);
        if (status != 0)
            return status;
        taken += (int64_t)pieces[i].size;
    }
    int status = tls_flush(self->wires, &link->wire, &link->tls);
    return status == 0 || status == WIRES_LATER ? taken : status;
}

/* One gathering send; the number of bytes it took, or a negative code. */
static int64_t load__send_some(load *self, connection *link, uint64_t allowed)
{
    wires_piece pieces[WIRES_PIECES_MAX];
    uint64_t size = (uint64_t)self->config.size;
    uint64_t which = (uint64_t)(link - self->connections);
    uint64_t at = link->sent;
    uint64_t now_ns = clock_ns();
    uint64_t piece_max = self->secure == NULL ? size : (uint64_t)ENCRYPTED;
    int count = 0, most = self->config.datagrams || size > piece_max ? 1 : WIRES_PIECES_MAX;
    for (; count < most && at < allowed; count++) {
        uint64_t message = at / size, offset = at % size;
        uint64_t left = size - offset < piece_max ? size - offset : piece_max;
        pieces[count].bytes = load__message(self, which, message) + offset;
        pieces[count].size = (size_t)left;
        if (offset == 0)
            link->started_ns[message % (uint64_t)self->config.depth] = now_ns;
        at += left;
    }
    int64_t sent = load__hand_over(self, link, pieces, count);
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
        int64_t sent = tls_waits(&link->tls) ? tls_flush(self->wires, &link->wire, &link->tls) : 0;
        if (sent == 0 && link->sent >= allowed)
            return load__wait_to_send(self, link, 0);
        if (sent == 0)
            sent = load__send_some(self, link, allowed);
        if (sent == WIRES_LATER)
            return load__wait_to_send(self, link, 1);
        if (sent < 0)
            return load__fail_system(self, sent, link);
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
    if (self->phase != WINDOW || self->answer_size < LARGE || message % LARGE_EVERY == 0)
        return part;
    return part < HEAD ? part : HEAD;
}

/* Bytes that may have come back by now. */
static uint64_t load__due(const load *self, const connection *link)
{
    if (self->config.answer == NULL)
        return link->sent;
    return link->sent / (uint64_t)self->config.size * self->answer_size;
}

static int load__verify(load *self, connection *link, const unsigned char *answer, size_t got,
                        uint64_t now_ns)
{
    uint64_t size = self->answer_size;
    uint64_t which = (uint64_t)(link - self->connections);
    if (link->received + got > load__due(self, link))
        return load__fail(self, LOAD_EXCESS, link);
    while (got > 0) {
        uint64_t message = link->received / size, offset = link->received % size;
        size_t part = got < size - offset ? got : (size_t)(size - offset);
        const unsigned char *expected = load__answer(self, which, message) + offset;
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

static int load__decrypt(load *self, connection *link, const unsigned char *bytes, size_t size)
{
    tls_give(&link->tls, bytes, size);
    for (;;) {
        int64_t got = tls_read(&link->tls, self->plain, READ_SIZE);
        if (got == WIRES_LATER)
            return LOAD_OK;
        if (got == 0)
            return load__fail(self, LOAD_CLOSED, link);
        if (got < 0)
            return load__fail_system(self, got, link);
        int status = load__verify(self, link, self->plain, (size_t)got, self->moved_ns);
        if (status != LOAD_OK)
            return status;
    }
}

static int load__receive(load *self, connection *link)
{
    const unsigned char *bytes;
    int64_t got = wires_receive(self->wires, &link->wire, self->buffer, READ_SIZE, &bytes);
    if (got < 0)
        return got == WIRES_LATER ? LOAD_OK : load__fail_system(self, got, link);
    if (got == 0 && !self->config.datagrams)
        return load__fail(self, LOAD_CLOSED, link);
    if (self->config.datagrams && got != self->config.size)
        return load__fail(self, LOAD_CUT, link);
    self->moved_ns = clock_ns();
    int status = self->secure == NULL
                     ? load__verify(self, link, bytes, (size_t)got, self->moved_ns)
                     : load__decrypt(self, link, bytes, (size_t)got);
    if (status == LOAD_OK && self->config.anew && link->received == link->sent
        && link->sent < load__allowed(self, link)) {
        int error = load__dial_again(self, link);
        if (error != 0)
            return load__fail_system(self, error, link);
    }
    return status == LOAD_OK ? load__send(self, link) : status;
}

/* ---- phases ---------------------------------------------------------------------------------- */

static int load__read_clocks(load *self, reading *now)
{
    int status = reading_take(self->config.server_pid, now);
    return status == 0 ? LOAD_OK : load__fail_system(self, status, NULL);
}

static int load__wait(load *self, uint64_t until_ns)
{
    wires_event events[WIRES_EVENTS_MAX];
    uint64_t now_ns = clock_ns();
    uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    if (left_ns > WAIT_NS_MAX)
        left_ns = WAIT_NS_MAX;
    if (self->config.spin)
        left_ns = 0;
    int count = wires_wait(self->wires, left_ns, 0, events, WIRES_EVENTS_MAX);
    if (count < 0)
        return load__fail_system(self, count, NULL);
    for (int i = 0; i < count; i++) {
        connection *link = (connection *)(void *)events[i].wire;
        int status = LOAD_OK;
        if (events[i].what & WIRES_SENDS)
            status = load__send(self, link);
        if (status == LOAD_OK && (events[i].what & WIRES_READS))
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
