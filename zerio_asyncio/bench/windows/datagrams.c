/* The limit for datagrams: receives posted ahead on a completion port, each sent back at once.
 *
 * The system's own buffer stands behind the receives, so none is lost while all of them are used.
 */
#include "parts.h"

#include <string.h>

enum { READ_SIZE = 64 * 1024, RECEIVES = 16 };

typedef struct {
    OVERLAPPED overlapped;
    struct sockaddr_storage from;
    int from_size;
    char bytes[READ_SIZE];
} receive;

static receive datagrams__receives[RECEIVES];

static int datagrams__post(SOCKET socket, receive *one)
{
    WSABUF room = {READ_SIZE, one->bytes};
    DWORD got = 0, flags = 0;
    memset(&one->overlapped, 0, sizeof one->overlapped);
    one->from_size = sizeof one->from;
    for (;;) {
        if (WSARecvFrom(socket, &room, 1, &got, &flags, (struct sockaddr *)&one->from,
                        &one->from_size, &one->overlapped, NULL)
            == 0)
            return 0; /* it makes a packet all the same */
        int error = WSAGetLastError();
        if (error == WSA_IO_PENDING)
            return 0;
        if (error != WSAECONNRESET) /* an earlier datagram found nobody */
            return -error;
    }
}

static int datagrams__return(SOCKET socket, const OVERLAPPED_ENTRY *entry)
{
    receive *one = CONTAINING_RECORD(entry->lpOverlapped, receive, overlapped);
    /* One that cannot be sent is lost, as datagrams may be; the generator will miss it. */
    if ((LONG)one->overlapped.Internal >= 0)
        (void)sendto(socket, one->bytes, (int)entry->dwNumberOfBytesTransferred, 0,
                     (struct sockaddr *)&one->from, one->from_size);
    return datagrams__post(socket, one);
}

int limit_serve_datagrams(intptr_t socket, int spin)
{
    OVERLAPPED_ENTRY entries[RECEIVES];
    int status = 0;
    HANDLE port = CreateIoCompletionPort((HANDLE)socket, NULL, 0, 1);
    if (port == NULL)
        return process_code(GetLastError());
    for (int i = 0; status == 0 && i < RECEIVES; i++)
        status = datagrams__post((SOCKET)socket, &datagrams__receives[i]);
    while (status == 0) {
        ULONG count = 0;
        if (!GetQueuedCompletionStatusEx(port, entries, RECEIVES, &count, spin ? 0 : INFINITE,
                                         FALSE)) {
            DWORD error = GetLastError();
            status = error == WAIT_TIMEOUT ? 0 : process_code(error);
            count = 0;
        }
        for (ULONG i = 0; status == 0 && i < count; i++)
            status = datagrams__return((SOCKET)socket, &entries[i]);
    }
    CloseHandle(port);
    return status;
}
