/* New connections over TLS: how many a second, and what one costs the server.
 *
 * `connections` of them are under way at a time, each in a slot. A connection goes through
 *
 *       dial ──► handshake ──► one message and its echo ──► close_notify ──► the server's end
 *
 * and the next one takes its slot. The message is there because a server knows that a handshake
 * went well only when it has decrypted something, and because tickets come before it. The server's
 * end is waited for, so that all that a connection costs it falls into the same window.
 *
 * Resumption. The first connection, before the run, leaves a session behind. If the run is to
 * resume, every connection offers it, and one that the server did not take fails the run: a figure
 * of some of both would tell nothing. TLS 1.3 makes fresh keys each time, so a session may be
 * offered often.
 */
#include "tls.h"

#include <stdlib.h>
#include <string.h>

enum {
    READ_SIZE = 64 * 1024,
    SOURCES = 1 << 20, /* numbers of connections, after which source addresses begin anew */
};
static const uint64_t DRAIN_NS = 2000000000u;
static const uint64_t WAIT_NS_MAX = 50000000u;

typedef enum { SHAKING, TALKING, ENDING } stage;
typedef enum { WARM_UP, WINDOW, DRAIN } phase;

typedef struct {
    wire wire; /* first: an event's wire is its slot */
    tls_link tls;
    stage stage;
    int received; /* bytes of the message */
    uint64_t opened; /* connections of this slot so far */
    uint64_t started_ns;
} slot;

struct handshakes {
    handshakes_config config;
    wires *wires;
    tls_context *context;
    void *session;
    int resumes; /* connections from now on offer it */
    phase phase;
    slot *slots;
    unsigned char *message;
    unsigned char *buffer;
    unsigned char *plain;
    int dialled;
    uint64_t quota; /* of the slots that are under way */
    uint64_t busy;  /* slots with a connection */
    uint64_t moved_ns;
    load_result result;
    uint64_t counts[LOAD_COUNTS];
};

const uint64_t *handshakes_counts(const handshakes *self)
{
    return self->counts;
}

/* ---- life ------------------------------------------------------------------------------------ */

handshakes *handshakes_new(const handshakes_config *config)
{
    handshakes *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->config = *config;
    self->wires = wires_new(READ_SIZE);
    self->context = tls_client();
    self->slots = calloc((size_t)config->connections, sizeof *self->slots);
    self->message = malloc((size_t)config->size);
    self->buffer = malloc(READ_SIZE);
    self->plain = malloc(READ_SIZE);
    if (self->wires == NULL || self->context == NULL || self->slots == NULL
        || self->message == NULL || self->buffer == NULL || self->plain == NULL) {
        handshakes_free(self);
        return NULL;
    }
    pattern_fill(self->message, (size_t)config->size);
    return self;
}

static void handshakes__close(handshakes *self, slot *one)
{
    tls_free(&one->tls);
    if (!wires_is_open(&one->wire))
        return;
    wires_close(self->wires, &one->wire);
    self->busy -= 1;
}

void handshakes_free(handshakes *self)
{
    if (self == NULL)
        return;
    for (int i = 0; self->slots != NULL && i < self->config.connections; i++)
        handshakes__close(self, &self->slots[i]);
    tls_session_free(self->session);
    tls_context_free(self->context);
    wires_free(self->wires);
    free(self->slots);
    free(self->message);
    free(self->buffer);
    free(self->plain);
    free(self);
}

/* ---- one connection -------------------------------------------------------------------------- */

static int handshakes__fail(handshakes *self, int status, const slot *one)
{
    self->result.status = status;
    if (one != NULL) {
        self->result.fail_connection = (uint64_t)(one - self->slots);
        self->result.fail_message = one->opened - 1;
        self->result.fail_offset = (uint64_t)one->received;
    }
    return status;
}

static int handshakes__fail_system(handshakes *self, int64_t code, const slot *one)
{
    self->result.error = (int)-code;
    return handshakes__fail(self, LOAD_SYSTEM, one);
}

static int handshakes__flush(handshakes *self, slot *one)
{
    int status = tls_flush(self->wires, &one->wire, &one->tls);
    if (status == 0 || status == WIRES_LATER)
        status = wires_watch(self->wires, &one->wire,
                             WIRES_READS | (status == WIRES_LATER ? WIRES_SENDS : 0));
    return status == 0 ? LOAD_OK : handshakes__fail_system(self, status, one);
}

/* Opens the next connection of a slot, unless it has had its share. */
static int handshakes__open(handshakes *self, slot *one)
{
    if (self->phase == DRAIN || (self->quota != 0 && one->opened == self->quota))
        return LOAD_OK;
    one->opened += 1;
    one->stage = SHAKING;
    one->received = 0;
    one->started_ns = clock_ns();
    self->dialled = (self->dialled + 1) % SOURCES;
    intptr_t socket = dial(self->config.address, self->config.port, 0, self->dialled);
    if (socket < 0)
        return handshakes__fail_system(self, socket, one);
    int status = wires_add(self->wires, &one->wire, socket);
    if (status != 0)
        return handshakes__fail_system(self, status, one);
    self->busy += 1;
    status = tls_begin(self->context, &one->tls);
    if (status == 0 && self->resumes)
        tls_resume(&one->tls, self->session);
    if (status == 0)
        status = tls_handshake(&one->tls);
    return status == 0 ? handshakes__flush(self, one) : handshakes__fail_system(self, status, one);
}

static int handshakes__shake(handshakes *self, slot *one)
{
    int status = tls_handshake(&one->tls);
    if (status == 1) {
        if (tls_resumed(&one->tls) != self->resumes)
            return handshakes__fail(self, LOAD_ANEW, one);
        one->stage = TALKING;
        status = tls_write(&one->tls, self->message, (size_t)self->config.size);
    }
    return status == 0 ? LOAD_OK : handshakes__fail_system(self, status, one);
}

static void handshakes__answered(handshakes *self, slot *one)
{
    if (self->phase == WINDOW)
        self->counts[histogram_index(self->moved_ns - one->started_ns)] += 1;
    if (self->session == NULL)
        self->session = tls_session(&one->tls);
    tls_end(&one->tls);
    one->stage = ENDING;
}

static int handshakes__read(handshakes *self, slot *one)
{
    while (one->stage == TALKING) {
        int64_t got = tls_read(&one->tls, self->plain, READ_SIZE);
        if (got == WIRES_LATER)
            return LOAD_OK;
        if (got <= 0)
            return got == 0 ? handshakes__fail(self, LOAD_CLOSED, one)
                            : handshakes__fail_system(self, got, one);
        if (got > self->config.size - one->received)
            return handshakes__fail(self, LOAD_EXCESS, one);
        for (int64_t i = 0; i < got; i++, one->received++) {
            self->result.fail_got = self->plain[i];
            self->result.fail_expected = self->message[one->received];
            if (self->result.fail_got != self->result.fail_expected)
                return handshakes__fail(self, LOAD_MISMATCH, one);
        }
        if (one->received == self->config.size)
            handshakes__answered(self, one);
    }
    return LOAD_OK;
}

static int handshakes__next(handshakes *self, slot *one)
{
    handshakes__close(self, one);
    self->result.requests_all += 1;
    self->result.requests += self->phase == WINDOW;
    return handshakes__open(self, one);
}

static int handshakes__receive(handshakes *self, slot *one)
{
    const unsigned char *bytes;
    int64_t got = wires_receive(self->wires, &one->wire, self->buffer, READ_SIZE, &bytes);
    if (got == WIRES_LATER)
        return LOAD_OK;
    self->moved_ns = clock_ns();
    if (one->stage == ENDING && (got == 0 || got == -SYSTEM_CLOSED))
        return handshakes__next(self, one);
    if (got <= 0)
        return got == 0 ? handshakes__fail(self, LOAD_CLOSED, one)
                        : handshakes__fail_system(self, got, one);
    if (one->stage == ENDING)
        return LOAD_OK; /* the server's last word */
    tls_give(&one->tls, bytes, (size_t)got);
    int status = one->stage == SHAKING ? handshakes__shake(self, one) : LOAD_OK;
    if (status == LOAD_OK)
        status = handshakes__read(self, one);
    return status == LOAD_OK ? handshakes__flush(self, one) : status;
}

/* ---- the run --------------------------------------------------------------------------------- */

static int handshakes__wait(handshakes *self)
{
    wires_event events[WIRES_EVENTS_MAX];
    int count = wires_wait(self->wires, WAIT_NS_MAX, 0, events, WIRES_EVENTS_MAX);
    if (count < 0)
        return handshakes__fail_system(self, count, NULL);
    for (int i = 0; i < count; i++) {
        slot *one = (slot *)(void *)events[i].wire;
        int status = events[i].what & WIRES_READS ? handshakes__receive(self, one)
                                                  : handshakes__flush(self, one);
        if (status != LOAD_OK)
            return status;
    }
    if (self->busy > 0 && clock_ns() - self->moved_ns > self->config.stall_ns)
        return handshakes__fail(self, LOAD_STALLED, NULL);
    return LOAD_OK;
}

/* Until the time is up, or no connection is left. */
static int handshakes__phase(handshakes *self, phase which, uint64_t length_ns)
{
    uint64_t end_ns = clock_ns() + length_ns;
    int status = LOAD_OK;
    self->phase = which;
    while (status == LOAD_OK && self->busy > 0 && clock_ns() < end_ns)
        status = handshakes__wait(self);
    return status;
}

static int handshakes__begin(handshakes *self, int slots, uint64_t quota)
{
    int status = LOAD_OK;
    memset(&self->result, 0, sizeof self->result);
    memset(self->counts, 0, sizeof self->counts);
    self->quota = quota;
    self->moved_ns = clock_ns();
    for (int i = 0; status == LOAD_OK && i < slots; i++) {
        self->slots[i].opened = 0;
        status = handshakes__open(self, &self->slots[i]);
    }
    return status;
}

int handshakes_connect(handshakes *self)
{
    self->phase = WARM_UP;
    int status = handshakes__begin(self, 1, 1);
    if (status == LOAD_OK)
        status = handshakes__phase(self, WARM_UP, self->config.stall_ns + DRAIN_NS);
    self->resumes = self->config.resumed;
    if (status == LOAD_SYSTEM)
        return -self->result.error;
    if (status == LOAD_STALLED || (status == LOAD_OK && self->busy > 0))
        return -SYSTEM_TIMED_OUT;
    return status == LOAD_OK ? 0 : -SYSTEM_PROTOCOL;
}

static int handshakes__read_clocks(handshakes *self, reading *now)
{
    int status = reading_take(self->config.server_pid, now);
    return status == 0 ? LOAD_OK : handshakes__fail_system(self, status, NULL);
}

int handshakes_run(handshakes *self, load_result *result)
{
    reading first = {0}, last = {0};
    self->phase = self->config.warmup_ns != 0 ? WARM_UP : WINDOW;
    int status = handshakes__begin(self, self->config.connections, self->config.quota);
    if (status == LOAD_OK && self->phase == WARM_UP)
        status = handshakes__phase(self, WARM_UP, self->config.warmup_ns);
    if (status == LOAD_OK)
        status = handshakes__read_clocks(self, &first);
    if (status == LOAD_OK)
        status = handshakes__phase(self, WINDOW, self->config.measure_ns);
    if (status == LOAD_OK)
        status = handshakes__read_clocks(self, &last);
    if (status == LOAD_OK) {
        reading_store(&self->result, &first, &last);
        status = handshakes__phase(self, DRAIN, DRAIN_NS);
    }
    if (status == LOAD_OK && self->busy > 0)
        handshakes__fail(self, LOAD_STALLED, NULL);
    *result = self->result;
    return result->status;
}
