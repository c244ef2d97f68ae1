/* The limit of messaging: framed messages in plain C, level-triggered epoll, one recv for all that
 * has come, a call for every message, and one send for all answers.
 *
 * A message is its length (4 bytes, little-endian) and its bytes. The first of a connection names
 * the peer and is sent back. One way, the others are counted; otherwise they are sent back, too.
 *
 * Nothing is copied but the beginning of a message that has not come whole: it is kept, and put
 * before what comes next. As in limit.c, answers that do not fit are kept, and their connection is
 * not read until they have gone.
 */
#define _GNU_SOURCE
#include "parts.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HEADER = 4,
    FRAME_MAX = 64 * 1024 * 1024 + HEADER, /* the generator's own limit */
    READ_SIZE = 256 * 1024,
    EVENTS_MAX = 256,
};

typedef struct {
    char *bytes;
    size_t size, room;
} piece;

typedef struct {
    int fd;
    int named;     /* the first message has come */
    int waits;     /* for the socket to take more */
    piece begun;   /* of a message that has not come whole */
    piece answers; /* that the socket has not taken */
} peer;

typedef struct {
    int epoll, listener, spin, one_way, commands, answers;
    uint64_t messages;
    piece input;
} frames;

static char frames__listener, frames__commands; /* what an event is about, when it is no peer */

static int piece__reserve(piece *self, size_t room)
{
    if (room <= self->room)
        return 0;
    char *bytes = realloc(self->bytes, room);
    if (bytes == NULL)
        return -ENOMEM;
    self->bytes = bytes;
    self->room = room;
    return 0;
}

static int piece__set(piece *self, const char *bytes, size_t size)
{
    int status = piece__reserve(self, size);
    if (status == 0) {
        memmove(self->bytes, bytes, size);
        self->size = size;
    }
    return status;
}

static int frames__watch(const frames *self, int operation, int fd, uint32_t events, void *what)
{
    struct epoll_event event = {.events = events, .data.ptr = what};
    return epoll_ctl(self->epoll, operation, fd, &event) == 0 ? 0 : -errno;
}

static void frames__drop(peer *link)
{
    close(link->fd); /* closing takes it out of the epoll set */
    free(link->begun.bytes);
    free(link->answers.bytes);
    free(link);
}

static int frames__accept(const frames *self)
{
    for (;;) {
        int fd = accept4(self->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            int fatal = errno == EBADF || errno == EINVAL || errno == ENOTSOCK;
            return fatal ? -errno : 0;
        }
        int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* fails on Unix sockets */
        peer *link = calloc(1, sizeof *link);
        if (link == NULL) {
            close(fd);
            return 0;
        }
        link->fd = fd;
        if (frames__watch(self, EPOLL_CTL_ADD, fd, EPOLLIN, link) != 0)
            frames__drop(link);
    }
}

/* Sends, and keeps what the socket does not take; negative if the connection is lost. */
static int frames__send(const frames *self, peer *link, const char *bytes, size_t size)
{
    ssize_t sent = size > 0 ? send(link->fd, bytes, size, MSG_NOSIGNAL) : 0;
    if (sent < 0 && errno != EAGAIN)
        return -errno;
    size_t taken = sent < 0 ? 0 : (size_t)sent;
    int waits = taken < size;
    int status = piece__set(&link->answers, bytes + taken, size - taken);
    if (status == 0 && waits != link->waits) {
        link->waits = waits;
        uint32_t events = waits ? EPOLLOUT : EPOLLIN;
        status = frames__watch(self, EPOLL_CTL_MOD, link->fd, events, link);
    }
    return status;
}

/* The application: what it does with a message. Not inlined, as it is not in any other server. */
__attribute__((noinline)) static void frames__received(frames *self, const peer *link,
                                                       const char *message, size_t size)
{
    (void)link;
    __asm__ volatile("" : : "r"(message), "r"(size));
    self->messages += 1;
}

static uint32_t frames__length(const char *at)
{
    const unsigned char *bytes = (const unsigned char *)at;
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16
           | (uint32_t)bytes[3] << 24;
}

/* Takes whole messages from the input; negative if the peer breaks the rules or is lost. */
static int frames__take(frames *self, peer *link, size_t size)
{
    const char *bytes = self->input.bytes;
    size_t at = 0, back = self->one_way ? 0 : size; /* how much of it is sent back, at most */
    while (size - at >= HEADER) {
        size_t whole = (size_t)frames__length(bytes + at) + HEADER;
        if (whole > FRAME_MAX)
            return -EPROTO;
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
    ssize_t got = recv(link->fd, self->input.bytes + begun, READ_SIZE, 0);
    if (got < 0)
        return errno == EAGAIN ? 0 : -errno;
    return got == 0 ? -ECONNRESET : frames__take(self, link, begun + (size_t)got);
}

/* A line has come: how far are we? */
static void frames__report(const frames *self)
{
    char line[256];
    ssize_t got = read(self->commands, line, sizeof line);
    if (got <= 0) {
        (void)epoll_ctl(self->epoll, EPOLL_CTL_DEL, self->commands, NULL);
        return;
    }
    uint64_t cpu_ns = 0;
    (void)process_cpu_ns(0, &cpu_ns);
    dprintf(self->answers,
            "{\"messages\": %" PRIu64 ", \"cpu_ns\": %" PRIu64 ", \"wall_ns\": %" PRIu64 "}\n",
            self->messages, cpu_ns, clock_ns());
}

static int frames__loop(frames *self)
{
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int count = epoll_wait(self->epoll, events, EVENTS_MAX, self->spin ? 0 : -1);
        if (count < 0 && errno != EINTR)
            return -errno;
        for (int i = 0; i < count; i++) {
            void *what = events[i].data.ptr;
            peer *link = what;
            int status = 0;
            if (what == &frames__commands)
                frames__report(self);
            else if (what == &frames__listener)
                status = frames__accept(self);
            else if ((link->waits ? frames__send(self, link, link->answers.bytes,
                                                 link->answers.size)
                                  : frames__receive(self, link))
                     != 0)
                frames__drop(link);
            if (status != 0)
                return status;
        }
    }
}

int frames_serve(int listener, int spin, int one_way, int commands, int answers)
{
    frames self = {.epoll = epoll_create1(EPOLL_CLOEXEC), .listener = listener, .spin = spin,
                   .one_way = one_way, .commands = commands, .answers = answers};
    if (self.epoll < 0)
        return -errno;
    int status = frames__watch(&self, EPOLL_CTL_ADD, listener, EPOLLIN, &frames__listener);
    /* A file or nothing at all cannot be waited for: then nobody asks. */
    (void)frames__watch(&self, EPOLL_CTL_ADD, commands, EPOLLIN, &frames__commands);
    if (status == 0)
        status = frames__loop(&self);
    close(self.epoll);
    free(self.input.bytes);
    return status;
}
