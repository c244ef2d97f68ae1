/* iocp_poll.c: asking Winsock's own driver, once, whether a socket is ready.
 *
 * select() and WSAPoll() are built on the driver AFD, which can be asked directly: one request
 * (IOCTL_AFD_POLL) waits until a socket has one of some events, and ends with a packet like any
 * overlapped operation. That is how libuv, wepoll, mio and others wait for readiness on a
 * completion port; the driver's interface is not documented, but has not changed since Windows
 * Vista, and too much rests on it.
 *
 * The question goes by a handle of the port's own. So it may be about a socket that belongs to no
 * port, or to another one, of another loop or process.
 *
 * What can go wrong: layered service providers wrap sockets; AFD wants the one below
 * (SIO_BASE_HANDLE).
 */
#include "windows/iocp_poll.h"

#include <winternl.h>

#include "windows/codes.h"

#define LAYERS_MAX 16 /* of providers over a socket; more is a layer that answers with itself */

#ifndef SIO_BSP_HANDLE_POLL
#define SIO_BSP_HANDLE_POLL _WSAIOR(IOC_WS2, 29)
#endif

#define AFD_POLL 0x00012024u

#define NOT_YET 0x103 /* STATUS_PENDING */

/* The source: the way to the driver. */
typedef struct iocp_afd {
    iocp_source source; /* first */
    HANDLE handle;      /* null: not opened yet */
} iocp_afd;

static void iocp_poll__close(iocp_source *);

static const iocp_source_kind iocp_poll__kind = {
    .bytes = sizeof(iocp_afd),
    .close = iocp_poll__close,
};

static void iocp_poll__close(iocp_source *source)
{
    const iocp_afd *afd = (const iocp_afd *)source;
    if (afd->handle != NULL)
        CloseHandle(afd->handle);
}

/* 0 or a code. */
static int32_t iocp_poll__open(iocp_port *port, iocp_afd *afd)
{
    static const WCHAR text[] = L"\\Device\\Afd\\zerio";
    UNICODE_STRING name = { sizeof text - sizeof text[0], sizeof text, (WCHAR *)(uintptr_t)text };
    OBJECT_ATTRIBUTES attributes = { .Length = sizeof attributes, .ObjectName = &name };
    IO_STATUS_BLOCK status;
    HANDLE handle;

    if (afd->handle != NULL)
        return 0;
    if (NtCreateFile(&handle, SYNCHRONIZE, &attributes, &status, NULL, 0,
                     FILE_SHARE_READ | FILE_SHARE_WRITE, FILE_OPEN, 0, NULL, 0) != 0)
        return RIO_EOPNOTSUPP;
    int32_t code = iocp_join(port, (SOCKET)handle);
    if (code != 0) {
        CloseHandle(handle);
        return code;
    }
    afd->handle = handle;
    return 0;
}

/* Some layers do not say what is below all of them, but pass on what polls ask for: the socket
 * below the first, and so on. */
int32_t iocp_poll_base(SOCKET socket, SOCKET *base)
{
    DWORD bytes;
    int error = WSAEOPNOTSUPP;

    for (int layer = 0; layer < LAYERS_MAX; layer++) {
        if (WSAIoctl(socket, SIO_BASE_HANDLE, NULL, 0, base, sizeof *base, &bytes, NULL, NULL) == 0)
            return 0;
        error = WSAGetLastError();
        if (error == WSAENOTSOCK || WSAIoctl(socket, SIO_BSP_HANDLE_POLL, NULL, 0, base,
                                             sizeof *base, &bytes, NULL, NULL) != 0 ||
            *base == socket)
            break;
        socket = *base;
    }
    return codes_winsock((DWORD)error);
}

int32_t iocp_poll_ask(iocp_port *port, iocp_poll *poll, SOCKET base, ULONG events)
{
    iocp_afd *afd = (iocp_afd *)iocp_source_made(port, &iocp_poll__kind);
    int32_t code = afd != NULL ? iocp_poll__open(port, afd) : RIO_ENOBUFS;
    if (code != 0)
        return code;
    OVERLAPPED *overlapped = iocp_fresh(&poll->operation, afd->handle);
    afd_question *question = &poll->question;
    question->timeout.QuadPart = INT64_MAX;
    question->count = 1;
    question->exclusive = FALSE;
    question->handles[0].handle = (HANDLE)base;
    question->handles[0].events = AFD_POLL_LOCAL_CLOSE | events;
    question->handles[0].status = 0;
    overlapped->Internal = (ULONG_PTR)NOT_YET;
    counts_add(&port->hub.counts.system_calls, 1);
    NTSTATUS status = NtDeviceIoControlFile(afd->handle, NULL, NULL, overlapped,
                                            (IO_STATUS_BLOCK *)&overlapped->Internal, AFD_POLL,
                                            question, sizeof *question, question, sizeof *question);
    if (status != 0 && status != NOT_YET)
        return codes_winsock(RtlNtStatusToDosError(status));
    iocp_expect(port, &poll->operation);
    return 0;
}
