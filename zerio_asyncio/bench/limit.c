/* The limit: an echo server in plain C, one receive and one send a message.
 *
 * It does what every event loop under test has to ask of the kernel, and nothing else, so its CPU
 * time per request is the part no Python can save. Two shapes:
 *   - blocking: it sleeps in the kernel until there is work, as any server that shares a machine;
 *   - spinning: it never sleeps. It burns its core, and its answer skips the wake-up, which costs
 *     more than everything else in a ping-pong.
 *
 * What can go wrong: the peer reads slowly and send takes only a part. The rest is copied, and the
 * connection is not read again until it has gone: memory is bounded by one read a connection.
 */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

enum {
    READ_SIZE = 256 * 1024, /* what asyncio's transports read at most: the same number of calls */
    AHEAD = 64 * 1024,      /* the same where a receive is posted ahead: what its proactor reads */
};

typedef struct {
    wire wire; /* first: an event's wire is its peer */
    unsigned char *rest; /* bytes that send refused, NULL when there are none */
    size_t rest_size;
    size_t rest_sent;
} peer;

static unsigned char limit__buffer[READ_SIZE];

static void limit__drop(wires *all, peer *self)
{
    wires_close(all, &self->wire);
    free(self->rest);
    free(self);
}

/* Accepts all that wait. */
static int limit__accept(wires *all)
{
    for (;;) {
        peer *self = calloc(1, sizeof *self);
        if (self == NULL)
            return 0;
        int status = wires_accept(all, &self->wire);
        if (status != 1) {
            free(self);
            return status;
        }
    }
}

static int64_t limit__send(wires *all, peer *self, const unsigned char *bytes, size_t size)
{
    wires_piece piece = {bytes, size};
    return wires_send(all, &self->wire, &piece, 1, 0);
}

static void limit__echo(wires *all, peer *self)
{
    const unsigned char *bytes;
    int64_t got = wires_receive(all, &self->wire, limit__buffer, READ_SIZE, &bytes);
    if (got <= 0) {
        if (got != WIRES_LATER)
            limit__drop(all, self);
        return;
    }
    int64_t sent = limit__send(all, self, bytes, (size_t)got);
    if (sent == got)
        return;
    if (sent < 0) {
        if (sent != WIRES_LATER) {
            limit__drop(all, self);
            return;
        }
        sent = 0;
    }
    self->rest_size = (size_t)(got - sent);
    self->rest_sent = 0;
    self->rest = malloc(self->rest_size);
    if (self->rest == NULL || wires_watch(all, &self->wire, WIRES_SENDS) != 0) {
        limit__drop(all, self);
        return;
    }
    memcpy(self->rest, bytes + sent, self->rest_size);
}

static void limit__flush(wires *all, peer *self)
{
    size_t left = self->rest_size - self->rest_sent;
    int64_t sent = limit__send(all, self, self->rest + self->rest_sent, left);
    if (sent < 0) {
        if (sent != WIRES_LATER)
            limit__drop(all, self);
        return;
    }
    self->rest_sent += (size_t)sent;
    if (self->rest_sent < self->rest_size)
        return;
    free(self->rest);
    self->rest = NULL;
    if (wires_watch(all, &self->wire, WIRES_READS) != 0)
        limit__drop(all, self);
}

int limit_serve(intptr_t listener, int spin)
{
    wires_event events[WIRES_EVENTS_MAX];
    wires *all = wires_new(AHEAD);
    int status = all == NULL ? -ENOMEM : wires_listen(all, listener);
    while (status == 0) {
        int count = wires_wait(all, spin ? 0 : WIRES_FOREVER, 0, events, WIRES_EVENTS_MAX);
        if (count < 0)
            status = count;
        for (int i = 0; i < count; i++) {
            peer *self = (peer *)(void *)events[i].wire;
            if (events[i].what == WIRES_LISTENER)
                status = limit__accept(all);
            else if (self->rest != NULL)
                limit__flush(all, self);
            else
                limit__echo(all, self);
        }
    }
    wires_free(all);
    return status;
}
