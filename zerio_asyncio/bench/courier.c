/* The generator of framed messages, from one thread, one way or there and back.
 *
 * On the wire a message is its length (4 bytes, little-endian) and its bytes. A connection begins
 * with a message that names the peer, in ASCII, and the server sends that back. Then:
 *
 *   one way      every connection takes what its socket takes, until courier_stop. Its last message
 *                goes out whole; when the server has had it, only the server can tell
 *   round trip   bursts of messages, all answered by the same messages. Without a delay the next
 *                burst follows the last answer (closed loop). With one, bursts have their times,
 *                whatever became of those before, and the connections take turns in between. A
 *                message is as old as its burst's time, not as the call that sent it: a server that
 *                stalls is charged for all that should have been sent meanwhile.
 *
 * Frames are made once, as many as a ring holds. Connection c sends them in their order, from the
 * frame number c * STRIDE on, so a send is one piece of memory and checking is a memcmp.
 */
#include "parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table/atomics.h"

enum {
    HEADER = 4,
    RING_SIZE = 4 * 1024 * 1024,
    RING_FRAMES = 4096, /* at most: 64-byte messages fit in a second-level cache */
    RING_FRAMES_MIN = 8,
    STRIDE = 61,
    READ_SIZE = 256 * 1024,
    SEND_MAX = 256 * 1024,
    AHEAD = 64 * 1024, /* received at once where the system receives ahead */
};
static const uint64_t DRAIN_NS = 30000000000u; /* a slow server may have megabytes a connection */
static const uint64_t ANSWER_NS = 10000000000u; /* to the first message */
static const uint64_t WAIT_NS_MAX = 50000000u; /* so that a phase ends though nothing happens */

typedef enum { WARM_UP, WINDOW, DRAIN } phase;

typedef struct {
    wire wire;      /* first: an event's wire is its line */
    int ended;      /* one way: has sent its last message */
    uint64_t first; /* frame of the ring */
    uint64_t sent;     /* bytes */
    uint64_t received;
    uint64_t bursts;     /* whose time has come */
    uint64_t started_ns; /* of the last burst; with a delay, of the first */
} line;

struct courier {
    courier_config config;
    wires *wires;
    phase phase;
    line *lines;
    unsigned char *ring;
    unsigned char *buffer;
    uint64_t frame; /* bytes of one */
    uint64_t frames;
    uint64_t open;     /* lines that have not ended or used up their quota */
    uint64_t in_flight;
    uint64_t moved_ns; /* when a byte last moved */
    uint64_t due_ns;   /* of the next burst */
    uint64_t round_ns; /* when the first line's last burst was due */
    int next;          /* line of the next burst */
    atomics_u32 stopped;
    load_result result;
    uint64_t counts[LOAD_COUNTS];
};

const uint64_t *courier_counts(const courier *self)
{
    return self->counts;
}

void courier_stop(courier *self)
{
    atomics_store32(&self->stopped, 1);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void courier__header(unsigned char *at, uint32_t size)
{
    for (int i = 0; i < HEADER; i++)
        at[i] = (unsigned char)(size >> (8 * i));
}

courier *courier_new(const courier_config *config)
{
    courier *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->config = *config;
    self->wires = wires_new(AHEAD);
    self->frame = HEADER + (uint64_t)config->size;
    self->frames = RING_SIZE / self->frame;
    if (self->frames > RING_FRAMES)
        self->frames = RING_FRAMES;
    if (self->frames < RING_FRAMES_MIN)
        self->frames = RING_FRAMES_MIN;
    size_t count = (size_t)config->connections;
    self->lines = calloc(count, sizeof *self->lines);
    self->ring = malloc(self->frames * self->frame);
    self->buffer = malloc(READ_SIZE);
    if (self->wires == NULL || self->lines == NULL || self->ring == NULL || self->buffer == NULL) {
        courier_free(self);
        return NULL;
    }
    pattern_fill(self->ring, self->frames * self->frame);
    for (uint64_t i = 0; i < self->frames; i++)
        courier__header(self->ring + i * self->frame, (uint32_t)config->size);
    for (size_t i = 0; i < count; i++)
        self->lines[i].first = i * STRIDE % self->frames;
    return self;
}

void courier_free(courier *self)
{
    if (self == NULL)
        return;
    for (int i = 0; self->lines != NULL && i < self->config.connections; i++)
        if (wires_is_open(&self->lines[i].wire))
            wires_close(self->wires, &self->lines[i].wire);
    wires_free(self->wires);
    free(self->lines);
    free(self->ring);
    free(self->buffer);
    free(self);
}

/* ---- connecting ------------------------------------------------------------------------------ */

/* Waits for so many bytes on the one wire that has something to come; 0 or a negative code. */
static int courier__await(courier *self, const line *link, unsigned char *bytes, int size)
{
    uint64_t end_ns = clock_ns() + ANSWER_NS, now_ns;
    for (int got = 0; got < size;) {
        wires_event event;
        if ((now_ns = clock_ns()) >= end_ns)
            return -SYSTEM_TIMED_OUT;
        int count = wires_wait(self->wires, end_ns - now_ns, 0, &event, 1);
        if (count <= 0) {
            if (count < 0)
                return count;
            continue;
        }
        if (event.wire != &link->wire)
            return -SYSTEM_PROTOCOL;
        const unsigned char *came;
        int64_t part = wires_receive(self->wires, event.wire, bytes + got, (size_t)(size - got),
                                     &came);
        if (part == WIRES_LATER)
            continue;
        if (part <= 0)
            return part == 0 ? -SYSTEM_CLOSED : (int)part;
        if (part > size - got)
            return -SYSTEM_PROTOCOL;
        if (came != bytes + got)
            memcpy(bytes + got, came, (size_t)part);
        got += (int)part;
    }
    return 0;
}

/* Says who it is and waits until the server has said the same. */
static int courier__introduce(courier *self, line *link, int which)
{
    unsigned char mine[64], theirs[sizeof mine];
    int size = snprintf((char *)mine + HEADER, sizeof mine - HEADER, "peer-%d", which);
    courier__header(mine, (uint32_t)size);
    size += HEADER;
    wires_piece piece = {mine, (size_t)size};
    int64_t sent = wires_send(self->wires, &link->wire, &piece, 1, 0);
    if (sent != size)
        return sent < 0 ? (int)sent : -SYSTEM_CLOSED;
    int status = courier__await(self, link, theirs, size);
    if (status != 0)
        return status;
    return memcmp(mine, theirs, (size_t)size) == 0 ? 0 : -SYSTEM_PROTOCOL;
}

int courier_connect(courier *self)
{
    for (int i = 0; i < self->config.connections; i++) {
        line *link = &self->lines[i];
        intptr_t socket = dial(self->config.address, self->config.port, 0, i);
        if (socket < 0)
            return (int)socket;
        int status = wires_add(self->wires, &link->wire, socket);
        if (status == 0)
            status = courier__introduce(self, link, i);
        if (status != 0)
            return status;
    }
    return 0;
}

/* ---- sending --------------------------------------------------------------------------------- */

static int courier__fail(courier *self, int status, const line *link)
{
    self->result.status = status;
    if (link != NULL) {
        self->result.fail_connection = (uint64_t)(link - self->lines);
        self->result.fail_message = link->received / self->frame;
        self->result.fail_offset = link->received % self->frame;
    }
    return status;
}

/* A call failed with this code. */
static int courier__fail_system(courier *self, int64_t code, const line *link)
{
    self->result.error = (int)-code;
    return courier__fail(self, LOAD_SYSTEM, link);
}

/* Bytes that this line may have sent by now. */
static uint64_t courier__allowed(const courier *self, const line *link)
{
    uint64_t begun = (link->sent + self->frame - 1) / self->frame;
    uint64_t burst = (uint64_t)self->config.burst;
    if (self->phase == DRAIN)
        return begun * self->frame;
    if (!self->config.one_way)
        return link->bursts * burst * self->frame;
    uint64_t endless = UINT64_MAX / self->frame;
    return (self->config.quota != 0 ? self->config.quota * burst : endless) * self->frame;
}

static int courier__wait_to_send(courier *self, line *link, int wait)
{
    int status = wires_watch(self->wires, &link->wire, WIRES_READS | (wait ? WIRES_SENDS : 0));
    return status == 0 ? LOAD_OK : courier__fail_system(self, status, link);
}

/* One send of what lies together in the ring; the number of bytes, or a code. */
static int64_t courier__send_some(courier *self, line *link, uint64_t allowed)
{
    uint64_t at = (link->first + link->sent / self->frame) % self->frames;
    uint64_t offset = at * self->frame + link->sent % self->frame;
    uint64_t size = self->frames * self->frame - offset;
    if (size > allowed - link->sent)
        size = allowed - link->sent;
    if (size > SEND_MAX)
        size = SEND_MAX;
    wires_piece piece = {self->ring + offset, (size_t)size};
    int64_t sent = wires_send(self->wires, &link->wire, &piece, 1, 1);
    if (sent > 0) {
        uint64_t begun = (link->sent + self->frame - 1) / self->frame;
        link->sent += (uint64_t)sent;
        self->in_flight += (link->sent + self->frame - 1) / self->frame - begun;
        if (self->config.one_way)
            self->moved_ns = clock_ns();
    }
    return sent;
}

/* One way: nothing more is to be sent. */
static void courier__end(courier *self, line *link)
{
    if (!self->config.one_way || link->ended)
        return;
    link->ended = 1;
    self->open -= 1;
    self->result.requests_all += link->sent / self->frame;
}

static int courier__send(courier *self, line *link)
{
    for (;;) {
        uint64_t allowed = courier__allowed(self, link);
        if (link->sent >= allowed) {
            courier__end(self, link);
            return courier__wait_to_send(self, link, 0);
        }
        int64_t sent = courier__send_some(self, link, allowed);
        if (sent == WIRES_LATER)
            return courier__wait_to_send(self, link, 1);
        if (sent < 0)
            return courier__fail_system(self, sent, link);
        if (self->config.one_way && self->phase != DRAIN) /* the next line's turn */
            return courier__wait_to_send(self, link, 1);
    }
}

/* A burst's time has come: `now_ns`, unless bursts have times of their own. */
static int courier__start_burst(courier *self, line *link, uint64_t now_ns)
{
    if (self->config.quota != 0 && link->bursts == self->config.quota)
        return LOAD_OK;
    if (self->config.delay_ns == 0 || link->bursts == 0)
        link->started_ns = now_ns;
    if (self->in_flight == 0)
        self->moved_ns = clock_ns(); /* silence before it was nobody's fault */
    link->bursts += 1;
    return courier__send(self, link);
}

/* With a delay: sends the bursts whose time has come. */
static int courier__pace(courier *self)
{
    uint64_t delay_ns = self->config.delay_ns;
    uint64_t count = (uint64_t)self->config.connections;
    int status = LOAD_OK;
    while (status == LOAD_OK && self->due_ns <= clock_ns()) {
        status = courier__start_burst(self, &self->lines[self->next], self->due_ns);
        self->next = (self->next + 1) % self->config.connections;
        if (self->next == 0)
            self->round_ns += delay_ns;
        self->due_ns = self->round_ns + delay_ns * (uint64_t)self->next / count;
    }
    return status;
}

/* ---- receiving ------------------------------------------------------------------------------- */

static void courier__complete(courier *self, line *link, uint64_t message, uint64_t now_ns)
{
    uint64_t burst = (uint64_t)self->config.burst;
    uint64_t started_ns = link->started_ns + message / burst * self->config.delay_ns;
    self->in_flight -= 1;
    self->result.requests_all += 1;
    if (message + 1 == self->config.quota * burst)
        self->open -= 1;
    if (self->phase == WINDOW) {
        self->result.requests += 1;
        self->counts[histogram_index(now_ns - started_ns)] += 1;
    }
}

static int courier__verify(courier *self, line *link, const unsigned char *answer, size_t got,
                           uint64_t now_ns)
{
    if (link->received + got > link->sent)
        return courier__fail(self, LOAD_EXCESS, link);
    while (got > 0) {
        uint64_t message = link->received / self->frame, offset = link->received % self->frame;
        size_t part = got < self->frame - offset ? got : (size_t)(self->frame - offset);
        uint64_t at = (link->first + message) % self->frames;
        const unsigned char *expected = self->ring + at * self->frame + offset;
        if (memcmp(answer, expected, part) != 0) {
            while (*answer == *expected)
                answer++, expected++, link->received++;
            self->result.fail_expected = *expected;
            self->result.fail_got = *answer;
            return courier__fail(self, LOAD_MISMATCH, link);
        }
        link->received += part;
        answer += part;
        got -= part;
        if (offset + part == self->frame)
            courier__complete(self, link, message, now_ns);
    }
    return LOAD_OK;
}

static int courier__receive(courier *self, line *link)
{
    const unsigned char *bytes;
    int64_t got = wires_receive(self->wires, &link->wire, self->buffer, READ_SIZE, &bytes);
    if (got < 0)
        return got == WIRES_LATER ? LOAD_OK : courier__fail_system(self, got, link);
    if (got == 0)
        return courier__fail(self, LOAD_CLOSED, link);
    if (self->config.one_way)
        return courier__fail(self, LOAD_EXCESS, link);
    self->moved_ns = clock_ns();
    int status = courier__verify(self, link, bytes, (size_t)got, self->moved_ns);
    uint64_t asked = link->bursts * (uint64_t)self->config.burst * self->frame;
    if (status == LOAD_OK && self->config.delay_ns == 0 && link->received == asked
        && self->phase != DRAIN)
        return courier__start_burst(self, link, self->moved_ns);
    return status;
}

/* ---- phases ---------------------------------------------------------------------------------- */

/* Where bursts have their times, to the nanosecond. */
static int courier__sleep(courier *self, wires_event *events, uint64_t end_ns)
{
    uint64_t now_ns = clock_ns(), most_ns = now_ns + WAIT_NS_MAX;
    uint64_t until_ns = end_ns < most_ns ? end_ns : most_ns;
    int exact = self->config.delay_ns != 0;
    if (exact && self->phase != DRAIN && self->due_ns < until_ns)
        until_ns = self->due_ns;
    uint64_t left_ns = until_ns > now_ns && !self->config.spin ? until_ns - now_ns : 0;
    return wires_wait(self->wires, left_ns, exact, events, WIRES_EVENTS_MAX);
}

static int courier__wait(courier *self, uint64_t end_ns)
{
    wires_event events[WIRES_EVENTS_MAX];
    int count = courier__sleep(self, events, end_ns);
    if (count < 0)
        return courier__fail_system(self, count, NULL);
    for (int i = 0; i < count; i++) {
        line *link = (line *)(void *)events[i].wire;
        int status = LOAD_OK;
        if (events[i].what & WIRES_SENDS)
            status = courier__send(self, link);
        if (status == LOAD_OK && (events[i].what & WIRES_READS))
            status = courier__receive(self, link);
        if (status != LOAD_OK)
            return status;
    }
    /* One way, only the server knows how far the end is. */
    int waiting = self->in_flight > 0 && !(self->config.one_way && self->phase == DRAIN);
    if (waiting && clock_ns() - self->moved_ns > self->config.stall_ns)
        return courier__fail(self, LOAD_STALLED, NULL);
    return LOAD_OK;
}

static int courier__phase(courier *self, phase which, uint64_t length_ns)
{
    uint64_t end_ns = clock_ns() + length_ns;
    int one_way = self->config.one_way, paced = self->config.delay_ns != 0;
    int status = LOAD_OK;
    self->phase = which;
    for (int i = 0; one_way && status == LOAD_OK && i < self->config.connections; i++)
        status = courier__send(self, &self->lines[i]);
    while (status == LOAD_OK && self->open > 0 && clock_ns() < end_ns) {
        if (which == DRAIN && !one_way && self->in_flight == 0)
            break;
        if (which != DRAIN && atomics_load32(&self->stopped))
            break;
        status = courier__wait(self, end_ns);
        if (status == LOAD_OK && which != DRAIN && paced)
            status = courier__pace(self);
    }
    return status;
}

static int courier__read_clocks(courier *self, reading *now)
{
    int status = reading_take(self->config.server_pid, now);
    return status == 0 ? LOAD_OK : courier__fail_system(self, status, NULL);
}

static int courier__begin(courier *self)
{
    memset(&self->result, 0, sizeof self->result);
    memset(self->counts, 0, sizeof self->counts);
    self->open = (uint64_t)self->config.connections;
    self->in_flight = 0;
    self->phase = self->config.warmup_ns != 0 ? WARM_UP : WINDOW;
    self->moved_ns = self->due_ns = self->round_ns = clock_ns();
    int status = LOAD_OK;
    if (self->config.one_way || self->config.delay_ns != 0)
        return status;
    for (int i = 0; status == LOAD_OK && i < self->config.connections; i++)
        status = courier__start_burst(self, &self->lines[i], clock_ns());
    return status;
}

int courier_run(courier *self, load_result *result)
{
    reading first = {0}, last = {0};
    clock_be_precise();
    int status = courier__begin(self);
    if (status == LOAD_OK && self->config.warmup_ns != 0)
        status = courier__phase(self, WARM_UP, self->config.warmup_ns);
    if (status == LOAD_OK)
        status = courier__read_clocks(self, &first);
    if (status == LOAD_OK)
        status = courier__phase(self, WINDOW, self->config.measure_ns);
    if (status == LOAD_OK)
        status = courier__read_clocks(self, &last);
    if (status == LOAD_OK) {
        reading_store(&self->result, &first, &last);
        status = courier__phase(self, DRAIN, DRAIN_NS);
    }
    if (status == LOAD_OK && (self->config.one_way ? self->open : self->in_flight) != 0)
        courier__fail(self, LOAD_STALLED, NULL);
    *result = self->result;
    return result->status;
}
