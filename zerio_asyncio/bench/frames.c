/* The limit of messaging: framed messages in plain C, one receive for all that has come, a call
 * for every message, and one send for all answers.
 *
 * A message is its length (4 bytes, little-endian) and its bytes. The first of a connection names
 * the peer and is sent back. One way, the others are counted; otherwise they are sent back, too.
 *
 * Nothing is copied but the beginning of a message that has not come whole: it is kept, and put
 * before what comes next. As in limit.c, answers that do not fit are kept, and their connection is
 * not read until they have gone.
 */
#include "parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADER = 4,
    FRAME_MAX = 64 * 1024 * 1024 + HEADER, /* the generator's own limit */
    READ_SIZE = 256 * 1024,
};

typedef struct {
    unsigned char *bytes;
    size_t size, room;
} piece;

typedef struct {
    wire wire;     /* first: an event's wire is its peer */
    int named;     /* the first message has come */
    int waits;     /* for the socket to take more */
    piece begun;   /* of a message that has not come whole */
    piece answers; /* that the socket has not taken */
} peer;

typedef struct {
    wires *wires;
    intptr_t answers;
    int spin, one_way;
    uint64_t messages;
    piece input;
} frames;

static int piece__reserve(piece *self, size_t room)
{
    if (room <= self->room)
        return 0;
    unsigned char *bytes = realloc(self->bytes, room);
    if (bytes == NULL)
        return -ENOMEM;
    self->bytes = bytes;
    self->room = room;
    return 0;
}

static int piece__set(piece *self, const unsigned char *bytes, size_t size)
{
    int status = piece__reserve(self, size);
    if (status == 0) {
        memmove(self->bytes, bytes, size);
        self->size = size;
    }
    return status;
}

static void frames__drop(const frames *self, peer *link)
{
    wires_close(self->wires, &link->wire);
    free(link->begun.bytes);
    free(link->answers.bytes);
    free(link);
}

static int frames__accept(const frames *self)
{
    for (;;) {
        peer *link = calloc(1, sizeof *link);
        if (link == NULL)
            return 0;
        int status = wires_accept(self->wires, &link->wire);
        if (status != 1) {
            free(link);
            return status;
        }
    }
}

/* Sends, and keeps what the socket does not take; negative if the connection is lost. */
static int frames__send(const frames *self, peer *link, const unsigned char *bytes, size_t size)
{
    wires_piece piece = {bytes, size};
    int64_t sent = size > 0 ? wires_send(self->wires, &link->wire, &piece, 1, 0) : 0;
    if (sent < 0 && sent != WIRES_LATER)
        return -1;
    size_t taken = sent < 0 ? 0 : (size_t)sent;
    int waits = taken < size;
    int status = piece__set(&link->answers, bytes + taken, size - taken);
    if (status == 0 && waits != link->waits) {
        link->waits = waits;
        status = wires_watch(self->wires, &link->wire, waits ? WIRES_SENDS : WIRES_READS);
    }
    return status;
}

/* The application: what it does with a message. Not inlined, as it is not in any other server. */
static NOT_INLINED void frames__received(frames *self, const peer *link,
                                         const unsigned char *message, size_t size)
{
    (void)link;
    system_look_at(message, size);
    self->messages += 1;
}

static uint32_t frames__length(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16
           | (uint32_t)bytes[3] << 24;
}

/* Takes whole messages from the input; negative if the peer breaks the rules or is lost. */
static int frames__take(frames *self, peer *link, size_t size)
{
    const unsigned char *bytes = self->input.bytes;
    size_t at = 0, back = self->one_way ? 0 : size; /* how much of it is sent back, at most */
    while (size - at >= HEADER) {
        size_t whole = (size_t)frames__length(bytes + at) + HEADER;
        if (whole > FRAME_MAX)
            return -1;
        if (whole > size - at)
            break;
        if (link->named)
            frames__received(self, link, bytes + at + HEADER, whole - HEADER);
        else if (self->one_way)
            back = at + whole;
        link->named = 1;
        at += whole;
    }
    int status = piece__set(&link->begun, bytes + at, size - at);
    if (status == 0 && back > 0)
        status = frames__send(self, link, bytes, back < at ? back : at);
    return status;
}

static int frames__receive(frames *self, peer *link)
{
    size_t begun = link->begun.size;
    int status = piece__reserve(&self->input, begun + READ_SIZE);
    if (status != 0)
        return status;
    if (begun > 0)
        memcpy(self->input.bytes, link->begun.bytes, begun);
    unsigned char *room = self->input.bytes + begun;
    const unsigned char *bytes;
    int64_t got = wires_receive(self->wires, &link->wire, room, READ_SIZE, &bytes);
    if (got <= 0)
        return got == WIRES_LATER ? 0 : -1;
    if (bytes != room)
        memcpy(room, bytes, (size_t)got);
    return frames__take(self, link, begun + (size_t)got);
}

/* A line has come: how far are we? */
static void frames__report(const frames *self)
{
    char line[256];
    uint64_t cpu_ns = 0;
    if (!wires_take_command(self->wires))
        return;
    (void)process_cpu_ns(0, &cpu_ns);
    int size = snprintf(line, sizeof line,
                        "{\"messages\": %" PRIu64 ", \"cpu_ns\": %" PRIu64
                        ", \"wall_ns\": %" PRIu64 "}\n",
                        self->messages, cpu_ns, clock_ns());
    wires_answer(self->answers, line, (size_t)size);
}

static void frames__serve(frames *self, peer *link)
{
    int status = link->waits
                     ? frames__send(self, link, link->answers.bytes, link->answers.size)
                     : frames__receive(self, link);
    if (status != 0)
        frames__drop(self, link);
}

static int frames__loop(frames *self)
{
    wires_event events[WIRES_EVENTS_MAX];
    uint64_t patience_ns = self->spin ? 0 : WIRES_FOREVER;
    for (;;) {
        int count = wires_wait(self->wires, patience_ns, 0, events, WIRES_EVENTS_MAX);
        int status = count < 0 ? count : 0;
        for (int i = 0; i < count; i++) {
            if (events[i].what == WIRES_COMMANDS)
                frames__report(self);
            else if (events[i].what == WIRES_LISTENER)
                status = frames__accept(self);
            else
                frames__serve(self, (peer *)(void *)events[i].wire);
        }
        if (status != 0)
            return status;
    }
}

int frames_serve(intptr_t listener, int spin, int one_way, intptr_t commands, intptr_t answers)
{
    frames self = {.wires = wires_new(READ_SIZE), .spin = spin, .one_way = one_way,
                   .answers = answers};
    if (self.wires == NULL)
        return -ENOMEM;
    int status = wires_listen(self.wires, listener);
    /* A file or nothing at all cannot be waited for: then nobody asks. */
    (void)wires_listen_for_commands(self.wires, commands);
    if (status == 0)
        status = frames__loop(&self);
    wires_free(self.wires);
    free(self.input.bytes);
    return status;
}
