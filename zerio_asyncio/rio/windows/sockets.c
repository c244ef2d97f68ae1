/* sockets.c: cold questions about sockets. */
#include "windows/sockets.h"

#include "windows/codes.h"

void sockets_close(rio_socket socket)
{
    closesocket((SOCKET)socket);
}

int32_t sockets_kind(rio_socket socket, uint8_t *stream, int *family)
{
    WSAPROTOCOL_INFOW protocol;
    int length = sizeof protocol;
    if (getsockopt((SOCKET)socket, SOL_SOCKET, SO_PROTOCOL_INFOW, (char *)&protocol, &length) != 0)
        return WSAGetLastError() == WSAENOTSOCK ? RIO_ENOTSOCK : codes_winsock(WSAGetLastError());
    if ((protocol.iSocketType != SOCK_STREAM && protocol.iSocketType != SOCK_DGRAM) ||
        (protocol.iAddressFamily != AF_INET && protocol.iAddressFamily != AF_INET6 &&
         protocol.iAddressFamily != AF_UNIX))
        return RIO_EOPNOTSUPP;
    *stream = protocol.iSocketType == SOCK_STREAM;
    *family = protocol.iAddressFamily;
    return 0;
}

void *sockets_extension(SOCKET socket, GUID which)
{
    void *function = NULL;
    DWORD bytes;
    if (WSAIoctl(socket, SIO_GET_EXTENSION_FUNCTION_POINTER, &which, sizeof which, &function,
                 sizeof function, &bytes, NULL, NULL) != 0)
        return NULL;
    return function;
}

/* Sockets here cannot be asked for one call that does not block. */
int64_t sockets_send(rio_socket socket, const void *memory, uint32_t length)
{
    (void)socket, (void)memory, (void)length;
    return -(int64_t)RIO_EOPNOTSUPP;
}

int64_t sockets_receive(rio_socket socket, void *memory, uint32_t length)
{
    (void)socket, (void)memory, (void)length;
    return -(int64_t)RIO_EOPNOTSUPP;
}

/* Windows tells nothing by which two sockets of one number could be told apart. */
uint64_t sockets_identity(rio_socket socket)
{
    int type, length = sizeof type;
    return getsockopt(socket, SOL_SOCKET, SO_TYPE, (char *)&type, &length) == 0;
}
