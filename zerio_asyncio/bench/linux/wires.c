/* Connections on epoll, level-triggered: a receive and a send are system calls of their own. */
#define _GNU_SOURCE
#include "parts.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct wires {
    int epoll;
    int listener; /* addresses of these two tell their events from those of wires */
    int commands;
};

wires *wires_new(size_t piece)
{
    (void)piece;
    wires *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll >= 0)
        return self;
    free(self);
    return NULL;
}

void wires_free(wires *self)
{
    if (self == NULL)
        return;
    close(self->epoll);
    free(self);
}

static int wires__control(const wires *self, int operation, int fd, int what, void *about)
{
    struct epoll_event event = {.data.ptr = about};
    event.events = (what & WIRES_READS ? EPOLLIN : 0u) | (what & WIRES_SENDS ? EPOLLOUT : 0u);
    return epoll_ctl(self->epoll, operation, fd, &event) == 0 ? 0 : -errno;
}

int wires_add(wires *self, wire *link, intptr_t socket)
{
    link->fd = (int)socket;
    link->watched = WIRES_READS;
    return wires__control(self, EPOLL_CTL_ADD, link->fd, WIRES_READS, link);
}

int wires_listen(wires *self, intptr_t listener)
{
    self->listener = (int)listener;
    return wires__control(self, EPOLL_CTL_ADD, self->listener, WIRES_READS, &self->listener);
}

int wires_listen_for_commands(wires *self, intptr_t commands)
{
    self->commands = (int)commands;
    return wires__control(self, EPOLL_CTL_ADD, self->commands, WIRES_READS, &self->commands);
}

/* Out of descriptors or memory: the listener stays ready, we are asked again. */
int wires_accept(wires *self, wire *link)
{
    int fd = accept4(self->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        int fatal = errno == EBADF || errno == EINVAL || errno == ENOTSOCK;
        return fatal ? -errno : 0;
    }
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* fails on Unix sockets */
    if (wires_add(self, link, fd) == 0)
        return 1;
    wires_close(self, link);
    return 0;
}

int wires_take_command(wires *self)
{
    char line[256];
    if (read(self->commands, line, sizeof line) > 0)
        return 1;
    (void)epoll_ctl(self->epoll, EPOLL_CTL_DEL, self->commands, NULL);
    return 0;
}

static int wires__sleep(const wires *self, uint64_t ns, int exact, struct epoll_event *found,
                        int most)
{
    if (ns == 0 || ns == WIRES_FOREVER)
        return epoll_wait(self->epoll, found, most, ns == 0 ? 0 : -1);
    if (!exact)
        return epoll_wait(self->epoll, found, most, (int)(ns / 1000000u) + 1);
    struct timespec left = {.tv_sec = (time_t)(ns / 1000000000u),
                            .tv_nsec = (long)(ns % 1000000000u)};
    struct pollfd ready = {.fd = self->epoll, .events = POLLIN};
    int status = ppoll(&ready, 1, &left, NULL);
    return status > 0 ? epoll_wait(self->epoll, found, most, 0) : status;
}

int wires_wait(wires *self, uint64_t ns, int exact, wires_event *events, int most)
{
    struct epoll_event found[WIRES_EVENTS_MAX];
    int count = wires__sleep(self, ns, exact, found,
                             most < WIRES_EVENTS_MAX ? most : WIRES_EVENTS_MAX);
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++) {
        void *about = found[i].data.ptr;
        uint32_t bits = found[i].events;
        events[i].wire = about;
        if (about == &self->listener)
            events[i].what = WIRES_LISTENER;
        else if (about == &self->commands)
            events[i].what = WIRES_COMMANDS;
        else /* an error is found out by a receive, or by a send where none is waited for */
            events[i].what = (bits & EPOLLOUT ? WIRES_SENDS : 0)
                             | (bits & ~(uint32_t)EPOLLOUT ? WIRES_READS : 0);
    }
    return count;
}

int64_t wires_send(wires *self, wire *link, const wires_piece *pieces, int count, int lasting)
{
    (void)self, (void)lasting;
    ssize_t sent;
    if (count == 1) {
        sent = send(link->fd, pieces[0].bytes, pieces[0].size, MSG_NOSIGNAL);
    } else {
        struct iovec parts[WIRES_PIECES_MAX];
        for (int i = 0; i < count; i++)
            parts[i] = (struct iovec){(void *)pieces[i].bytes, pieces[i].size};
        struct msghdr header = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        sent = sendmsg(link->fd, &header, MSG_NOSIGNAL);
    }
    return sent < 0 ? -errno : sent;
}

int64_t wires_receive(wires *self, wire *link, unsigned char *room, size_t size,
                      const unsigned char **bytes)
{
    (void)self;
    *bytes = room;
    ssize_t got = recv(link->fd, room, size, 0);
    return got < 0 ? -errno : got;
}

int wires_watch(wires *self, wire *link, int what)
{
    if (link->watched == what)
        return 0;
    link->watched = what;
    return wires__control(self, EPOLL_CTL_MOD, link->fd, what, link);
}

void wires_close(wires *self, wire *link)
{
    (void)self;
    close(link->fd); /* closing takes it out of the epoll set */
    link->watched = 0;
}

int wires_is_open(const wire *link)
{
    return link->watched != 0;
}

void wires_answer(intptr_t answers, const char *line, size_t size)
{
    while (size > 0) {
        ssize_t written = write((int)answers, line, size);
        if (written <= 0)
            return; /* nobody asks any more */
        line += written;
        size -= (size_t)written;
    }
}
