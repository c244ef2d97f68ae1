/* The limit: an echo server in plain C, level-triggered epoll, one recv and one send a message.
 *
 * It does what every event loop under test has to ask of the kernel, and nothing else, so its CPU
 * time per request is the part no Python can save. Two shapes:
 *   - blocking: epoll_wait sleeps until there is work, as any server that shares a machine;
 *   - spinning: epoll_wait never sleeps. It burns its core, and its answer skips the wake-up,
 *     which costs more than everything else in a ping-pong.
 *
 * What can go wrong: the peer reads slowly and send takes only a part. The rest is copied, and the
 * connection is not read again until it has gone: memory is bounded by one read a connection.
 */
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READ_SIZE = 256 * 1024, /* what asyncio's transports read at most: the same number of calls */
    EVENTS_MAX = 256,
};

typedef struct {
    int fd;
    char *rest; /* bytes that send refused, NULL when there are none */
    size_t rest_size;
    size_t rest_sent;
} peer;

static char limit__buffer[READ_SIZE];

static void limit__drop(peer *self)
{
    close(self->fd); /* closing takes it out of the epoll set */
    free(self->rest);
    free(self);
}

static int limit__watch(int epoll, int operation, peer *self, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = self};
    return epoll_ctl(epoll, operation, self->fd, &event);
}

/* Accepts all that wait. Out of descriptors or memory: the listener stays ready, we try again. */
static int limit__accept(int epoll, int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            int fatal = errno == EBADF || errno == EINVAL || errno == ENOTSOCK;
            return fatal ? -errno : 0;
        }
        int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* fails on Unix sockets */
        peer *self = calloc(1, sizeof *self);
        if (self == NULL) {
            close(fd);
            return 0;
        }
        self->fd = fd;
        if (limit__watch(epoll, EPOLL_CTL_ADD, self, EPOLLIN) != 0)
            limit__drop(self);
    }
}

static void limit__echo(int epoll, peer *self)
{
    ssize_t got = recv(self->fd, limit__buffer, READ_SIZE, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            limit__drop(self);
        return;
    }
    ssize_t sent = send(self->fd, limit__buffer, (size_t)got, MSG_NOSIGNAL);
    if (sent == got)
        return;
    if (sent < 0) {
        if (errno != EAGAIN) {
            limit__drop(self);
            return;
        }
        sent = 0;
    }
    self->rest_size = (size_t)(got - sent);
    self->rest_sent = 0;
    self->rest = malloc(self->rest_size);
    if (self->rest == NULL || limit__watch(epoll, EPOLL_CTL_MOD, self, EPOLLOUT) != 0) {
        limit__drop(self);
        return;
    }
    memcpy(self->rest, limit__buffer + sent, self->rest_size);
}

static void limit__flush(int epoll, peer *self)
{
    size_t left = self->rest_size - self->rest_sent;
    ssize_t sent = send(self->fd, self->rest + self->rest_sent, left, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            limit__drop(self);
        return;
    }
    self->rest_sent += (size_t)sent;
    if (self->rest_sent < self->rest_size)
        return;
    free(self->rest);
    self->rest = NULL;
    if (limit__watch(epoll, EPOLL_CTL_MOD, self, EPOLLIN) != 0)
        limit__drop(self);
}

int limit_serve(int listener, int spin)
{
    struct epoll_event events[EVENTS_MAX];
    int status = 0;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        return -errno;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}; /* NULL: the listener */
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0)
        status = -errno;
    while (status == 0) {
        int count = epoll_wait(epoll, events, EVENTS_MAX, spin ? 0 : -1);
        if (count < 0 && errno != EINTR)
            status = -errno;
        for (int i = 0; i < count; i++) {
            peer *self = events[i].data.ptr;
            if (self == NULL)
                status = limit__accept(epoll, listener);
            else if (self->rest != NULL)
                limit__flush(epoll, self);
            else
                limit__echo(epoll, self);
        }
    }
    close(epoll);
    return status;
}

/* All that have come, then those that come meanwhile: as many calls as datagrams, and one more. */
static int limit__return_datagrams(int socket)
{
    for (;;) {
        struct sockaddr_storage from;
        socklen_t from_size = sizeof from;
        struct sockaddr *whom = (struct sockaddr *)&from;
        ssize_t got = recvfrom(socket, limit__buffer, READ_SIZE, 0, whom, &from_size);
        if (got < 0)
            return errno == EBADF || errno == ENOTSOCK ? -errno : 0;
        /* One that cannot be sent is lost, as datagrams may be; the generator will miss it. */
        (void)sendto(socket, limit__buffer, (size_t)got, 0, whom, from_size);
    }
}

int limit_serve_datagrams(int socket, int spin)
{
    struct pollfd ready = {.fd = socket, .events = POLLIN};
    int status = 0;
    while (status == 0) {
        if (poll(&ready, 1, spin ? 0 : -1) < 0 && errno != EINTR)
            status = -errno;
        if (status == 0 && ready.revents != 0)
            status = limit__return_datagrams(socket);
    }
    return status;
}
