/* connect.c: connecting on Linux, for both providers: connect() does not block, and the socket
 * becomes writable when it has ended. SO_ERROR gives the result.
 *
 * Link: https://man7.org/linux/man-pages/man2/connect.2.html (EINPROGRESS)
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/connect.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

#include "linux/sockets.h"

int32_t connect_check(rio_socket socket, const void *address, uint32_t length)
{
    uint8_t stream;
    if (address == NULL)
        return RIO_EFAULT;
    if (length == 0 || length > sizeof(struct sockaddr_storage))
        return RIO_EINVAL;
    int32_t code = sockets_kind(socket, &stream);
    if (code != 0 || !stream)
        return code;
    /* Linux reports success for the second connect of a non-blocking socket, once. */
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    return getpeername((int)socket, (struct sockaddr *)&peer, &size) == 0 ? RIO_EISCONN : 0;
}

rio_port_event connect_event(rio_socket socket, int error, uint64_t key)
{
    return (rio_port_event){
        .kind = RIO_PORT_CONNECT, .status = rio_code_of_errno(error), .key = key, .value = socket
    };
}

int connect_begin(rio_socket socket, const void *address, uint32_t length, uint64_t key,
                  rio_port_event *ended)
{
    int result = connect((int)socket, address, length);
    if (result != 0 && (errno == EINPROGRESS || errno == EINTR))
        return 1;
    *ended = connect_event(socket, result == 0 ? 0 : errno, key);
    return 0;
}

rio_port_event connect_ended(rio_socket socket, uint64_t key)
{
    int error = 0;
    if (sockets_option(socket, SO_ERROR, &error) != 0)
        error = errno;
    return connect_event(socket, error, key);
}
