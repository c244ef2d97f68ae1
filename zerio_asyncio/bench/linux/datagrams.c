/* The limit for datagrams: one recvfrom and one sendto each, and a poll when none is there. */
#define _GNU_SOURCE
#include "parts.h"

#include <poll.h>
#include <sys/socket.h>

enum { READ_SIZE = 64 * 1024 };

static char datagrams__buffer[READ_SIZE];

/* All that have come, then those that come meanwhile: as many calls as datagrams, and one more. */
static int datagrams__return(int socket)
{
    for (;;) {
        struct sockaddr_storage from;
        socklen_t from_size = sizeof from;
        struct sockaddr *whom = (struct sockaddr *)&from;
        ssize_t got = recvfrom(socket, datagrams__buffer, READ_SIZE, 0, whom, &from_size);
        if (got < 0)
            return errno == EBADF || errno == ENOTSOCK ? -errno : 0;
        /* One that cannot be sent is lost, as datagrams may be; the generator will miss it. */
        (void)sendto(socket, datagrams__buffer, (size_t)got, 0, whom, from_size);
    }
}

int limit_serve_datagrams(intptr_t socket, int spin)
{
    struct pollfd ready = {.fd = (int)socket, .events = POLLIN};
    int status = 0;
    while (status == 0) {
        if (poll(&ready, 1, spin ? 0 : -1) < 0 && errno != EINTR)
            status = -errno;
        if (status == 0 && ready.revents != 0)
            status = datagrams__return((int)socket);
    }
    return status;
}
