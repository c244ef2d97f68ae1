/* fake_rio_hooks.c: what else a socket that was made for Registered I/O refuses, or passes on.
 *
 * On Windows such a socket is for the thirteen functions alone, beside options, shutdown, closing,
 * AcceptEx and ConnectEx. Wine knows nothing of that. So the calls that modules make of Winsock are
 * led through here: their import tables name the functions, and are changed. What a module asks for
 * by WSAIoctl (AcceptEx, TransmitFile) is exchanged in the answer.
 *
 * Microsoft documents none of this. Several public projects met it on real machines, on their own.
 */
#include "fake_rio.h"

#include <mswsock.h>

#define SOCKETS_MAX 4096
#define PLAIN_EXTENSION 0xC8000006u
#define BASE_HANDLE 0x48000022u
#define POLL_HANDLE 0x4800001Du

/* Open sockets that were made for it, and those of them that no receive ever ends on. */
static SOCKET flagged[SOCKETS_MAX], dead[SOCKETS_MAX];

static void put(SOCKET *list, SOCKET socket)
{
    EnterCriticalSection(&lock);
    for (int i = 0; i < SOCKETS_MAX; i++) {
        if (list[i] == 0 || list[i] == socket) {
            list[i] = socket;
            break;
        }
    }
    LeaveCriticalSection(&lock);
}

static void take_out(SOCKET *list, SOCKET socket)
{
    EnterCriticalSection(&lock);
    for (int i = 0; i < SOCKETS_MAX; i++)
        if (list[i] == socket)
            list[i] = 0;
    LeaveCriticalSection(&lock);
}

int some_flagged(void)
{
    int found = 0;
    EnterCriticalSection(&lock);
    for (int i = 0; i < SOCKETS_MAX && !found; i++)
        found = flagged[i] != 0 && mark_of(flagged[i]) != 0;
    LeaveCriticalSection(&lock);
    return found;
}

void remember(SOCKET socket)
{
    put(flagged, socket);
}

int is_dead(SOCKET socket)
{
    int found = 0;
    for (int i = 0; i < SOCKETS_MAX && !found; i++)
        found = dead[i] == socket;
    return found && (rules & FLAGS_MATCH);
}

/* 1 if this call is refused: the socket is for Registered I/O. */
static int refused(SOCKET socket, const char *function)
{
    if (!(rules & NO_PLAIN_CALLS) || mark_of(socket) == 0)
        return 0;
    violated("%s: the socket is for Registered I/O", function);
    WSASetLastError(WSAENOTSOCK);
    return 1;
}

/* --------------------------------------------------------------------------------- plain calls */

static int WSAAPI plain_send(SOCKET socket, const char *data, int length, int flags)
{
    return refused(socket, "send") ? SOCKET_ERROR : send(socket, data, length, flags);
}

static int WSAAPI plain_recv(SOCKET socket, char *data, int length, int flags)
{
    return refused(socket, "recv") ? SOCKET_ERROR : recv(socket, data, length, flags);
}

static int WSAAPI plain_sendto(SOCKET socket, const char *data, int length, int flags,
                               const struct sockaddr *to, int to_length)
{
    return refused(socket, "sendto") ? SOCKET_ERROR
                                     : sendto(socket, data, length, flags, to, to_length);
}

static int WSAAPI plain_recvfrom(SOCKET socket, char *data, int length, int flags,
                                 struct sockaddr *from, int *from_length)
{
    return refused(socket, "recvfrom") ? SOCKET_ERROR
                                       : recvfrom(socket, data, length, flags, from, from_length);
}

static int WSAAPI plain_wsa_send(SOCKET socket, WSABUF *pieces, DWORD count, DWORD *sent,
                                 DWORD flags, OVERLAPPED *overlapped,
                                 LPWSAOVERLAPPED_COMPLETION_ROUTINE routine)
{
    return refused(socket, "WSASend")
               ? SOCKET_ERROR
               : WSASend(socket, pieces, count, sent, flags, overlapped, routine);
}

static int WSAAPI plain_wsa_recv(SOCKET socket, WSABUF *pieces, DWORD count, DWORD *received,
                                 DWORD *flags, OVERLAPPED *overlapped,
                                 LPWSAOVERLAPPED_COMPLETION_ROUTINE routine)
{
    return refused(socket, "WSARecv")
               ? SOCKET_ERROR
               : WSARecv(socket, pieces, count, received, flags, overlapped, routine);
}

static int WSAAPI plain_wsa_send_to(SOCKET socket, WSABUF *pieces, DWORD count, DWORD *sent,
                                    DWORD flags, const struct sockaddr *to, int to_length,
                                    OVERLAPPED *overlapped,
                                    LPWSAOVERLAPPED_COMPLETION_ROUTINE routine)
{
    return refused(socket, "WSASendTo") ? SOCKET_ERROR
                                        : WSASendTo(socket, pieces, count, sent, flags, to,
                                                    to_length, overlapped, routine);
}

static int WSAAPI plain_wsa_recv_from(SOCKET socket, WSABUF *pieces, DWORD count, DWORD *received,
                                      DWORD *flags, struct sockaddr *from, int *from_length,
                                      OVERLAPPED *overlapped,
                                      LPWSAOVERLAPPED_COMPLETION_ROUTINE routine)
{
    return refused(socket, "WSARecvFrom") ? SOCKET_ERROR
                                          : WSARecvFrom(socket, pieces, count, received, flags,
                                                        from, from_length, overlapped, routine);
}

static LPFN_TRANSMITFILE real_transmit;

static BOOL WSAAPI plain_transmit(SOCKET socket, HANDLE file, DWORD length, DWORD at_once,
                                  OVERLAPPED *overlapped, TRANSMIT_FILE_BUFFERS *around,
                                  DWORD flags)
{
    return refused(socket, "TransmitFile")
               ? FALSE
               : real_transmit(socket, file, length, at_once, overlapped, around, flags);
}

static int WSAAPI plain_ioctl(SOCKET socket, long command, u_long *argument)
{
    if ((rules & NO_BLOCKING_MODE) && command == (long)FIONBIO && mark_of(socket) != 0) {
        violated("ioctlsocket: FIONBIO on a socket for Registered I/O");
        WSASetLastError(WSAEOPNOTSUPP);
        return SOCKET_ERROR;
    }
    return ioctlsocket(socket, command, argument);
}

/* --------------------------------------------------------------------------- birth and death */

/* A connection has the flag of its listener. */
static SOCKET WSAAPI plain_accept(SOCKET listener, struct sockaddr *from, int *from_length)
{
    DWORD mark = MARK;
    SOCKET made = accept(listener, from, from_length);
    if (made != INVALID_SOCKET && mark_of(listener) != 0) {
        setsockopt(made, SOL_SOCKET, SO_RCVTIMEO, (char *)&mark, sizeof mark);
        remember(made);
    }
    return made;
}

static LPFN_ACCEPTEX real_accept_ex;

static BOOL WSAAPI plain_accept_ex(SOCKET listener, SOCKET connection, void *memory, DWORD data,
                                   DWORD own, DWORD remote, DWORD *bytes, OVERLAPPED *overlapped)
{
    if (mark_of(connection) != 0 && mark_of(listener) == 0)
        put(dead, connection);
    return real_accept_ex(listener, connection, memory, data, own, remote, bytes, overlapped);
}

/* A layer's socket: another handle stands for the one below. */
static int layered(SOCKET socket, DWORD code, SOCKET *below)
{
    static SOCKET lower;
    HANDLE me = GetCurrentProcess(), copy;
    if (!(rules & LAYERED) || socket == lower || (code != BASE_HANDLE && code != POLL_HANDLE))
        return 0;
    if (code == BASE_HANDLE) {
        WSASetLastError(WSAEOPNOTSUPP);
        return SOCKET_ERROR;
    }
    DuplicateHandle(me, (HANDLE)socket, me, &copy, 0, FALSE, DUPLICATE_SAME_ACCESS);
    *below = lower = (SOCKET)copy;
    return 1;
}

int WSAAPI plain_wsa_ioctl(SOCKET socket, DWORD code, void *in, DWORD in_bytes, void *out,
                                  DWORD out_bytes, DWORD *bytes, OVERLAPPED *overlapped,
                                  LPWSAOVERLAPPED_COMPLETION_ROUTINE routine)
{
    static const GUID accept_ex = WSAID_ACCEPTEX, transmit = WSAID_TRANSMITFILE;
    int answer = layered(socket, code, out);
    if (answer != 0)
        return answer == SOCKET_ERROR ? SOCKET_ERROR : 0;
    int failed =
        WSAIoctl(socket, code, in, in_bytes, out, out_bytes, bytes, overlapped, routine);
    if (failed || code != PLAIN_EXTENSION || in_bytes != sizeof(GUID))
        return failed;
    if (memcmp(in, &accept_ex, sizeof accept_ex) == 0) {
        real_accept_ex = *(LPFN_ACCEPTEX *)out;
        *(LPFN_ACCEPTEX *)out = plain_accept_ex;
    } else if (memcmp(in, &transmit, sizeof transmit) == 0) {
        real_transmit = *(LPFN_TRANSMITFILE *)out;
        *(LPFN_TRANSMITFILE *)out = plain_transmit;
    }
    return failed;
}

static int WSAAPI plain_close(SOCKET socket)
{
    struct linger how = { 0, 0 };
    int length = sizeof how;
    if (mark_of(socket) != 0) {
        (void)getsockopt(socket, SOL_SOCKET, SO_LINGER, (char *)&how, &length);
        called("closesocket resets=%d receives=%d", how.l_onoff && how.l_linger == 0,
               receives(socket));
    }
    closing(socket);
    take_out(flagged, socket);
    take_out(dead, socket);
    return closesocket(socket);
}

/* --------------------------------------------------------------------- wait completion packets */

typedef struct {
    HANDLE port, wait;
    void *key, *overlapped;
    volatile LONG queued, late;
} wait_packet;

/* Packets by their handles. */
static struct {
    HANDLE handle;
    wait_packet *packet;
} known_packets[64];

static LONG packet_put(HANDLE handle, wait_packet *packet)
{
    for (int i = 0; i < 64; i++)
        if (InterlockedCompareExchangePointer((void **)&known_packets[i].packet, packet, NULL) ==
            NULL) {
            known_packets[i].handle = handle;
            return 0;
        }
    return (LONG)0xC0000017;
}

static wait_packet *packet_of(HANDLE handle)
{
    for (int i = 63; i >= 0; i--) /* the last with this number */
        if (known_packets[i].packet != NULL && known_packets[i].handle == handle)
            return known_packets[i].packet;
    return NULL;
}

static void CALLBACK due(void *packet, BOOLEAN timed_out)
{
    wait_packet *one = packet;
    (void)timed_out;
    InterlockedExchange(&one->queued, 1);
    PostQueuedCompletionStatus(one->port, 0, (ULONG_PTR)one->key, one->overlapped);
}

static LONG NTAPI create_packet(HANDLE *packet, ACCESS_MASK access, void *attributes)
{
    (void)access, (void)attributes;
    static wait_packet packets[64];
    static volatile LONG count;
    LONG number = InterlockedIncrement(&count) - 1;
    if (number >= 64)
        return (LONG)0xC0000017; /* no memory */
    /* A handle that may be closed, and by which the packet is found. */
    *packet = CreateEventW(NULL, TRUE, FALSE, NULL);
    return packet_put(*packet, &packets[number]);
}

static LONG NTAPI associate_packet(HANDLE packet, HANDLE port, HANDLE object, void *key,
                                   void *overlapped, LONG status, ULONG_PTR information,
                                   BOOLEAN *signalled)
{
    wait_packet *one = packet_of(packet);
    LONG code = InterlockedExchange(&one->late, 0) ? (LONG)0xC0000023 : 0;
    (void)status, (void)information;
    called("NtAssociateWaitCompletionPacket code=%lx", code);
    if (code != 0)
        return code;
    if (one->wait != NULL)
        UnregisterWaitEx(one->wait, INVALID_HANDLE_VALUE);
    one->port = port;
    one->key = key;
    one->overlapped = overlapped;
    one->queued = 0;
    *signalled = FALSE;
    RegisterWaitForSingleObject(&one->wait, object, due, one, INFINITE, WT_EXECUTEONLYONCE);
    return 0;
}

/* What is queued is not taken back here: an empty packet more does no harm. */
static LONG NTAPI cancel_packet(HANDLE packet, BOOLEAN queued_too)
{
    wait_packet *one = packet_of(packet);
    (void)queued_too;
    if (InterlockedAnd(&rules, ~PACKETS_LATE) & PACKETS_LATE) {
        one->late = 1; /* to associate it again is refused once */
        return STATUS_PENDING;
    }
    if (one->wait != NULL)
        UnregisterWaitEx(one->wait, INVALID_HANDLE_VALUE);
    one->wait = NULL;
    return 0;
}

static FARPROC WINAPI find_export(HMODULE module, const char *name)
{
    if ((rules & WAIT_PACKETS) && (ULONG_PTR)name > 0xFFFF) {
        if (strcmp(name, "NtCreateWaitCompletionPacket") == 0)
            return (FARPROC)(void *)create_packet;
        if (strcmp(name, "NtAssociateWaitCompletionPacket") == 0)
            return (FARPROC)(void *)associate_packet;
        if (strcmp(name, "NtCancelWaitCompletionPacket") == 0)
            return (FARPROC)(void *)cancel_packet;
    }
    return GetProcAddress(module, name);
}

/* ---------------------------------------------------------------------------- import tables */

static const struct {
    const char *name;
    void *ours;
} hooks[] = {
    { "send", plain_send },
    { "recv", plain_recv },
    { "sendto", plain_sendto },
    { "recvfrom", plain_recvfrom },
    { "WSASend", plain_wsa_send },
    { "WSARecv", plain_wsa_recv },
    { "WSASendTo", plain_wsa_send_to },
    { "WSARecvFrom", plain_wsa_recv_from },
    { "ioctlsocket", plain_ioctl },
    { "WSAIoctl", plain_wsa_ioctl },
    { "accept", plain_accept },
    { "closesocket", plain_close },
    { "GetProcAddress", find_export },
};

/* What stands for a function of Winsock, for who calls it by its address; or null. */
EXPORT void *fake_function(const char *name)
{
    for (size_t i = 0; i < sizeof hooks / sizeof *hooks; i++)
        if (strcmp(hooks[i].name, name) == 0)
            return hooks[i].ours;
    return NULL;
}

static int exchange(ULONG_PTR *entry)
{
    HMODULE winsock = GetModuleHandleA("ws2_32.dll"), kernel = GetModuleHandleA("kernel32.dll");
    for (size_t i = 0; i < sizeof hooks / sizeof *hooks; i++) {
        DWORD before;
        FARPROC real = GetProcAddress(winsock, hooks[i].name);
        if (real == NULL)
            real = GetProcAddress(kernel, hooks[i].name);
        if (*entry != (ULONG_PTR)real)
            continue;
        VirtualProtect(entry, sizeof *entry, PAGE_READWRITE, &before);
        *entry = (ULONG_PTR)hooks[i].ours;
        VirtualProtect(entry, sizeof *entry, before, &before);
        return 1;
    }
    return 0;
}

/* Leads a loaded module's calls through here; how many functions. */
EXPORT int fake_hook(HMODULE module)
{
    char *base = (char *)module;
    IMAGE_NT_HEADERS *headers = (void *)(base + ((IMAGE_DOS_HEADER *)base)->e_lfanew);
    const IMAGE_DATA_DIRECTORY *where =
        &headers->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_IMPORT];
    IMAGE_IMPORT_DESCRIPTOR *import = (void *)(base + where->VirtualAddress);
    int count = 0;

    for (; where->Size != 0 && import->Name != 0; import++) {
        if (_stricmp(base + import->Name, "ws2_32.dll") != 0 &&
            _stricmp(base + import->Name, "kernel32.dll") != 0)
            continue;
        for (ULONG_PTR *entry = (void *)(base + import->FirstThunk); *entry != 0; entry++)
            count += exchange(entry);
    }
    return count;
}
