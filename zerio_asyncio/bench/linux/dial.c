/* One connection to a server, by numeric address or by path. */
#define _GNU_SOURCE
#include "parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum {
    /* Connections from one source address: the usual range of ephemeral ports holds 28,000. */
    CONNECTIONS_PER_SOURCE = 20000,
    WAIT_MS = 50, /* between looks at the clock */
};
static const uint64_t CONNECT_NS = 10000000000u; /* ten SYNs' worth of patience on loopback */

static int dial__address(const char *text, int port, struct sockaddr_storage *address,
                         socklen_t *size)
{
    memset(address, 0, sizeof *address);
    struct sockaddr_in *in = (struct sockaddr_in *)address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
    struct sockaddr_un *un = (struct sockaddr_un *)address;
    if (text[0] == '/') {
        if (strlen(text) >= sizeof un->sun_path)
            return -ENAMETOOLONG;
        un->sun_family = AF_UNIX;
        strcpy(un->sun_path, text);
        *size = sizeof *un;
    } else if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        *size = sizeof *in;
    } else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        *size = sizeof *in6;
    } else {
        return -EINVAL;
    }
    return 0;
}

/* All of 127.0.0.0/8 is ours: when the ports of 127.0.0.1 run short, the next address has more. */
static int dial__bind_source(int fd, const struct sockaddr_storage *server, int which)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)server;
    if (server->ss_family != AF_INET || (ntohl(in->sin_addr.s_addr) >> 24) != 127
        || which < CONNECTIONS_PER_SOURCE)
        return 0;
    int on = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(which / CONNECTIONS_PER_SOURCE));
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    return bind(fd, (struct sockaddr *)&source, sizeof source) == 0 ? 0 : -errno;
}

/* A Unix socket's connect says EAGAIN when the backlog is full, TCP's is in progress. */
static int dial__finish_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    uint64_t deadline_ns = clock_ns() + CONNECT_NS;
    while (connect(fd, address, size) != 0) {
        if (errno == EISCONN)
            return 0;
        if (errno != EINPROGRESS && errno != EALREADY && errno != EAGAIN && errno != EINTR)
            return -errno;
        if (clock_ns() > deadline_ns)
            return -ETIMEDOUT;
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        if (errno == EAGAIN)
            poll(NULL, 0, 1);
        else
            poll(&ready, 1, WAIT_MS);
    }
    return 0;
}

intptr_t dial(const char *address, int port, int datagrams, int which)
{
    int kind = datagrams ? SOCK_DGRAM : SOCK_STREAM;
    struct sockaddr_storage server;
    socklen_t size = 0;
    int status = dial__address(address, port, &server, &size);
    if (status != 0)
        return status;
    int fd = socket(server.ss_family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* only TCP has it */
    status = dial__bind_source(fd, &server, which);
    if (status == 0)
        status = dial__finish_connect(fd, (struct sockaddr *)&server, size);
    if (status != 0) {
        close(fd);
        return status;
    }
    return fd;
}
