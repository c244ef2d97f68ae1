/* The limit of TLS: an echo server in plain C, with one receive, one send, and the ciphers.
 *
 * What limit.c is to a plain connection. Both directions of the cipher are in it, which neither
 * Python nor a loop can save, so what a loop adds is what it takes beyond this.
 *
 * What can go wrong: the peer reads slowly and send takes only a part. Records are kept then, and
 * nothing is received until they have gone: memory is bounded by one read a connection.
 */
#include "tls.h"

#include <stdlib.h>

enum {
    READ_SIZE = 256 * 1024, /* as limit.c */
    AHEAD = 64 * 1024,
};

typedef struct {
    wire wire; /* first: an event's wire is its peer */
    tls_link tls;
    int ready; /* the handshake is over */
    int ends;  /* it is closed as soon as all has been sent */
} peer;

typedef struct {
    wires *wires;
    tls_context *context;
} server;

static unsigned char tls_limit__received[READ_SIZE];
static unsigned char tls_limit__plain[READ_SIZE];

static void tls_limit__drop(server *all, peer *self)
{
    wires_close(all->wires, &self->wire);
    tls_free(&self->tls);
    free(self);
}

static void tls_limit__flush(server *all, peer *self)
{
    int status = tls_flush(all->wires, &self->wire, &self->tls);
    int waits = status == WIRES_LATER;
    if ((status != 0 && !waits) || (status == 0 && self->ends))
        tls_limit__drop(all, self);
    else if (wires_watch(all->wires, &self->wire, waits ? WIRES_SENDS : WIRES_READS) != 0)
        tls_limit__drop(all, self);
}

/* Accepts all that wait. */
static int tls_limit__accept(server *all)
{
    for (;;) {
        peer *self = calloc(1, sizeof *self);
        if (self == NULL)
            return 0;
        int status = wires_accept(all->wires, &self->wire);
        if (status != 1) {
            free(self);
            return status;
        }
        if (tls_begin(all->context, &self->tls) != 0)
            tls_limit__drop(all, self);
    }
}

/* Decrypts, and encrypts again, all that was received. */
static void tls_limit__turn_round(peer *self)
{
    if (!self->ready) {
        int status = tls_handshake(&self->tls);
        self->ready = status == 1;
        self->ends = status < 0; /* an alert is among the records */
    }
    while (self->ready && !self->ends) {
        int64_t got = tls_read(&self->tls, tls_limit__plain, READ_SIZE);
        if (got == WIRES_LATER)
            return;
        if (got == 0)
            tls_end(&self->tls);
        self->ends = got <= 0 || tls_write(&self->tls, tls_limit__plain, (size_t)got) != 0;
    }
}

static void tls_limit__echo(server *all, peer *self)
{
    const unsigned char *bytes;
    int64_t got =
        wires_receive(all->wires, &self->wire, tls_limit__received, READ_SIZE, &bytes);
    if (got == WIRES_LATER)
        return;
    if (got <= 0) {
        tls_limit__drop(all, self);
        return;
    }
    tls_give(&self->tls, bytes, (size_t)got);
    tls_limit__turn_round(self);
    tls_limit__flush(all, self);
}

static int tls_limit__serve(server *all, intptr_t listener)
{
    wires_event events[WIRES_EVENTS_MAX];
    int status = wires_listen(all->wires, listener);
    while (status == 0) {
        int count = wires_wait(all->wires, WIRES_FOREVER, 0, events, WIRES_EVENTS_MAX);
        if (count < 0)
            status = count;
        for (int i = 0; i < count; i++) {
            peer *self = (peer *)(void *)events[i].wire;
            if (events[i].what == WIRES_LISTENER)
                status = tls_limit__accept(all);
            else if (tls_waits(&self->tls))
                tls_limit__flush(all, self);
            else
                tls_limit__echo(all, self);
        }
    }
    return status;
}

int tls_limit_serve(intptr_t listener, const char *certificate)
{
    server all = {wires_new(AHEAD), tls_server(certificate)};
    int status = all.wires == NULL || all.context == NULL ? -SYSTEM_INVALID : 0;
    if (status == 0)
        status = tls_limit__serve(&all, listener);
    tls_context_free(all.context);
    wires_free(all.wires);
    return status;
}
