/* sockets.c: cold questions about sockets, and operations on one without a request.
 *
 * Sockets may be blocking: every call passes MSG_DONTWAIT. SIGPIPE: every send passes MSG_NOSIGNAL.
 * A number is no identity: if others may close a socket, its inode is checked (rio.h, guard).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/sockets.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void sockets_close(rio_socket socket)
{
    close((int)socket);
}

int sockets_option(rio_socket socket, int option, int *value)
{
    socklen_t length = sizeof *value;
    if (socket > INT_MAX) {
        errno = EBADF;
        return -1;
    }
    return getsockopt((int)socket, SOL_SOCKET, option, value, &length);
}

int32_t sockets_kind(rio_socket socket, uint8_t *stream)
{
    int type, family;
    if (sockets_option(socket, SO_TYPE, &type) != 0 ||
        sockets_option(socket, SO_DOMAIN, &family) != 0)
        return RIO_ENOTSOCK;
    if ((type != SOCK_STREAM && type != SOCK_DGRAM) ||
        (family != AF_INET && family != AF_INET6 && family != AF_UNIX))
        return RIO_EOPNOTSUPP;
    *stream = type == SOCK_STREAM;
    return 0;
}

int32_t sockets_learn(rio_rq *rq)
{
    if (rq->hub->known != rq->socket || rq->socket > INT_MAX)
        return sockets_kind(rq->socket, &rq->stream);
    rq->stream = 1;
    return 0;
}

uint32_t sockets_remote_length(const void *remote)
{
    RIO_SOCKADDR_INET address;
    if (remote == NULL)
        return 0;
    memcpy(&address, remote, sizeof address);
    return address.family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* EPIPE says that sending is shut down. Either we did that (WSAESHUTDOWN), or the connection is
 * gone and an earlier call got its error. If both directions are shut, it is the second case. */
int32_t sockets_send_code(const rio_rq *rq, int error)
{
    if (error != EPIPE)
        return rio_code_of_errno(error);
    if (rq->broken != 0)
        return rq->broken;
    struct pollfd state = { .fd = (int)rq->socket };
    if (poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR)))
        return RIO_ECONNRESET;
    return RIO_ESHUTDOWN;
}

uint32_t sockets_gather(const rio_lane *lane, struct iovec *pieces, size_t *total)
{
    uint32_t count = rq_waiting(lane);
    size_t room = RQ_TRANSFER_MAX;

    if (count > RQ_GATHER_MAX)
        count = RQ_GATHER_MAX;
    for (uint32_t i = 0; i < count && room != 0; i++) {
        const rio_request *request = rq_request(lane, i);
        size_t rest = request->length - request->done;
        if (rest > room)
            rest = room;
        pieces[i] = (struct iovec){ request->memory + request->done, rest };
        room -= rest;
        if (room == 0)
            count = i + 1;
    }
    *total = RQ_TRANSFER_MAX - room;
    return count;
}

/* ------------------------------------------------------------------------ others may close it */

/* No other open file has the same inode, and the numbers of file systems do not overlap: sockets
 * have one of their own, and anything else that a number may stand for now is in another. */
uint64_t sockets_identity(rio_socket socket)
{
    struct stat about;
    if (socket > INT_MAX || fstat((int)socket, &about) != 0)
        return 0;
    return ((uint64_t)about.st_dev << 48 ^ (uint64_t)about.st_ino) + 1;
}

int sockets_closed_behind(const rio_rq *rq)
{
    return sockets_identity(rq->socket) != rq->identity;
}

int sockets_give_up(rio_rq *rq)
{
    if (RIO_LIKELY(!sockets_closed_behind(rq)))
        return 0;
    for (int i = 0; i < 2; i++)
        while (rq->lanes[i].flight == 0 && rq_waiting(&rq->lanes[i]) != 0)
            rq_failed(rq, (enum rio_direction)i, RIO_EBADF);
    return 1;
}

/* -------------------------------------------------------------------------- without a request */

int64_t sockets_now(rio_rq *rq, enum rio_direction direction, char *memory, uint32_t length)
{
    int fd = (int)rq->socket;
    ssize_t moved;

    if (direction == RIO_RECEIVES && sockets_lost(rq))
        return -RIO_EBADF;
    do
        moved = direction == RIO_SENDS ? send(fd, memory, length, MSG_DONTWAIT | MSG_NOSIGNAL)
                                       : recv(fd, memory, length, MSG_DONTWAIT);
    while (moved < 0 && errno == EINTR);
    if (moved >= 0)
        return moved;
    return -(int64_t)(direction == RIO_SENDS ? sockets_send_code(rq, errno)
                                             : rio_code_of_errno(errno));
}

static int64_t sockets__moved(ssize_t bytes)
{
    if (bytes >= 0)
        return bytes;
    return errno == EAGAIN || errno == EINTR ? RIO_NOT_NOW : -(int64_t)errno;
}

int64_t sockets_send(rio_socket socket, const void *memory, uint32_t length)
{
    if (socket > INT_MAX)
        return -EBADF;
    return sockets__moved(send((int)socket, memory, length, MSG_DONTWAIT | MSG_NOSIGNAL));
}

int64_t sockets_receive(rio_socket socket, void *memory, uint32_t length)
{
    if (socket > INT_MAX)
        return -EBADF;
    return sockets__moved(recv((int)socket, memory, length, MSG_DONTWAIT));
}
