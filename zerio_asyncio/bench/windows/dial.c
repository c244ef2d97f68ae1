/* One connection to a server, by numeric address. */
#include "parts.h"

#include <string.h>

enum {
    /* Connections from one source address: Windows has 16,000 ephemeral ports. */
    CONNECTIONS_PER_SOURCE = 12000,
    CONNECT_MS = 10000,
};

static int dial__address(const char *text, int port, struct sockaddr_storage *address, int *size)
{
    memset(address, 0, sizeof *address);
    struct sockaddr_in *in = (struct sockaddr_in *)address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        *size = sizeof *in;
    } else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        *size = sizeof *in6;
    } else {
        return -WSAEINVAL; /* a path of a Unix socket, too: ConnectEx knows none */
    }
    return 0;
}

/* ConnectEx wants a bound socket. All of 127.0.0.0/8 is ours: when the ports of 127.0.0.1 run
 * short, the next address has more. */
static int dial__bind_source(SOCKET socket, const struct sockaddr_storage *server, int size,
                             int which)
{
    struct sockaddr_storage source;
    memset(&source, 0, sizeof source);
    source.ss_family = server->ss_family;
    const struct sockaddr_in *in = (const struct sockaddr_in *)server;
    if (server->ss_family == AF_INET && ntohl(in->sin_addr.s_addr) >> 24 == 127) {
        uint32_t host = INADDR_LOOPBACK + (uint32_t)(which / CONNECTIONS_PER_SOURCE);
        ((struct sockaddr_in *)&source)->sin_addr.s_addr = htonl(host);
    }
    return bind(socket, (struct sockaddr *)&source, size) == 0 ? 0 : -WSAGetLastError();
}

static int dial__await(SOCKET socket, OVERLAPPED *operation)
{
    DWORD moved = 0, flags = 0;
    if (WaitForSingleObject(operation->hEvent, CONNECT_MS) != WAIT_OBJECT_0) {
        CancelIoEx((HANDLE)socket, operation);
        WaitForSingleObject(operation->hEvent, INFINITE); /* it is the system's until then */
        return -WSAETIMEDOUT;
    }
    if (!WSAGetOverlappedResult(socket, operation, &moved, FALSE, &flags))
        return -WSAGetLastError();
    return 0;
}

static int dial__connect(SOCKET socket, const struct sockaddr_storage *server, int size)
{
    GUID which = WSAID_CONNECTEX;
    LPFN_CONNECTEX connect_ex = NULL;
    DWORD got = 0;
    if (WSAIoctl(socket, SIO_GET_EXTENSION_FUNCTION_POINTER, &which, sizeof which, &connect_ex,
                 sizeof connect_ex, &got, NULL, NULL)
        != 0)
        return -WSAGetLastError();
    OVERLAPPED operation;
    memset(&operation, 0, sizeof operation);
    operation.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (operation.hEvent == NULL)
        return process_code(GetLastError());
    int status = 0;
    if (!connect_ex(socket, (const struct sockaddr *)server, size, NULL, 0, &got, &operation)) {
        int error = WSAGetLastError();
        status = error == WSA_IO_PENDING ? dial__await(socket, &operation) : -error;
    }
    CloseHandle(operation.hEvent);
    if (status == 0 && setsockopt(socket, SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, NULL, 0) != 0)
        status = -WSAGetLastError();
    return status;
}

intptr_t dial(const char *address, int port, int datagrams, int which)
{
    struct sockaddr_storage server;
    WSADATA data;
    int size = 0, status = dial__address(address, port, &server, &size);
    if (status != 0)
        return status;
    if (WSAStartup(MAKEWORD(2, 2), &data) != 0) /* Python has done so if it imported socket */
        return -WSANOTINITIALISED;
    SOCKET socket = WSASocketW(server.ss_family, datagrams ? SOCK_DGRAM : SOCK_STREAM, 0, NULL, 0,
                               WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
    if (socket == INVALID_SOCKET)
        return -WSAGetLastError();
    BOOL on = TRUE;
    if (!datagrams)
        (void)setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, (char *)&on, sizeof on);
    if (datagrams)
        status = connect(socket, (struct sockaddr *)&server, size) == 0 ? 0 : -WSAGetLastError();
    else
        status = dial__bind_source(socket, &server, size, which);
    if (status == 0 && !datagrams)
        status = dial__connect(socket, &server, size);
    if (status != 0) {
        closesocket(socket);
        return status;
    }
    return (intptr_t)socket;
}
