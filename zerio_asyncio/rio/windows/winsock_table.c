/* winsock_table.c: where the system's table of Registered I/O comes from.
 *
 * The table is asked for with WSAIoctl, once for the process; what is not exactly the table that
 * Microsoft documents is refused.
 *
 * Sockets. One that is made for Registered I/O can do nothing else: no send, no WSARecv, no
 * FIONBIO. So it is asked right away whether its transport has the same table; if not, nobody gets
 * it. Whether a socket is such a one is asked later, too, and the system does not tell. Therefore
 * it is marked by a time-out of blocking sends, which it cannot make: a mark that ends with the
 * socket, whoever closes it, and that no other socket with its number has.
 *
 * One such socket stays open as long as the table is used: the system has its memory for
 * Registered I/O from the first of them on, and gives it up with the last. Without one,
 * RIORegisterBuffer and RIOCreateCompletionQueue answer WSAEFAULT.
 *
 * Link:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/ns-mswsock-rio_extension_function_table
 */
#include "windows/winsock_table.h"

#include <stdio.h>
#include <string.h>

#include "table/errors.h"
#include "windows/codes.h"

typedef int(WSAAPI *winsock_ioctl)(SOCKET, DWORD, void *, DWORD, void *, DWORD, DWORD *,
                                   OVERLAPPED *, LPWSAOVERLAPPED_COMPLETION_ROUTINE);
typedef SOCKET(WSAAPI *winsock_socket)(int, int, int, WSAPROTOCOL_INFOW *, GROUP, DWORD);

static winsock_ioctl winsock_table__ioctl; /* null: WSAIoctl, WSASocketW */
static winsock_socket winsock_table__socket;

RIO_EXTENSION_FUNCTION_TABLE winsock_table;

static SRWLOCK winsock_table__lock = SRWLOCK_INIT;
static int winsock_table__loaded;
static SOCKET winsock_table__kept = INVALID_SOCKET;

#define MARK_MS 0x5252494Fu /* 16 days and some ms: nobody else sets it */

/* For tests alone, before the provider is used: where the table comes from, and who makes sockets.
 * Nothing but an explicit call from outside sets it. Null: the system again. */
__declspec(dllexport) void winsock_table_replace(winsock_ioctl ioctl, winsock_socket socket)
{
    AcquireSRWLockExclusive(&winsock_table__lock);
    winsock_table__ioctl = ioctl;
    winsock_table__socket = socket;
    winsock_table__loaded = 0;
    if (winsock_table__kept != INVALID_SOCKET)
        closesocket(winsock_table__kept);
    winsock_table__kept = INVALID_SOCKET;
    ReleaseSRWLockExclusive(&winsock_table__lock);
}

/* The table of a socket's transport: 0, or a code and why (`reason` may be null). */
static int32_t winsock_table__ask(SOCKET socket, RIO_EXTENSION_FUNCTION_TABLE *table, char *reason,
                                  uint32_t size)
{
    GUID which = WSAID_MULTIPLE_RIO;
    winsock_ioctl ask = winsock_table__ioctl != NULL ? winsock_table__ioctl : WSAIoctl;
    DWORD bytes = 0;
    void *entries[WINSOCK_ENTRIES];

    memset(table, 0, sizeof *table);
    table->cbSize = sizeof *table;
    if (ask(socket, SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER, &which, sizeof which, table,
            sizeof *table, &bytes, NULL, NULL) != 0) {
        int32_t code = WSAGetLastError();
        snprintf(reason, size,
                 "Winsock offers no Registered I/O here (WSAIoctl error %d): Windows has it from "
                 "version 8 and Server 2012 on, Wine and some layered transports lack it.",
                 (int)code);
        return code;
    }
    if (table->cbSize != sizeof *table) {
        snprintf(reason, size, "Winsock's table of Registered I/O has %u bytes instead of %u.",
                 (unsigned)table->cbSize, (unsigned)sizeof *table);
        return RIO_EOPNOTSUPP;
    }
    memcpy(entries, &table->RIOReceive, sizeof entries);
    for (int i = 0; i < WINSOCK_ENTRIES; i++) {
        if (entries[i] == NULL) {
            snprintf(reason, size, "Winsock's table of Registered I/O lacks entry %d of %d.", i + 1,
                     WINSOCK_ENTRIES);
            return RIO_EOPNOTSUPP;
        }
    }
    return 0;
}

static SOCKET winsock_table__new(int family, int type, int protocol)
{
    const DWORD mark = MARK_MS;
    winsock_socket make = winsock_table__socket != NULL ? winsock_table__socket : WSASocketW;
    SOCKET made = make(family, type, protocol, NULL, 0,
                       WSA_FLAG_OVERLAPPED | WSA_FLAG_REGISTERED_IO | WSA_FLAG_NO_HANDLE_INHERIT);
    if (made == INVALID_SOCKET)
        return made;
    if (setsockopt(made, SOL_SOCKET, SO_SNDTIMEO, (const char *)&mark, sizeof mark) == 0)
        return made;
    int error = WSAGetLastError();
    closesocket(made);
    WSASetLastError(error);
    return INVALID_SOCKET;
}

int winsock_table_made(SOCKET socket)
{
    DWORD mark = 0;
    int length = sizeof mark;
    return getsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, (char *)&mark, &length) == 0 &&
           mark == MARK_MS;
}

int32_t winsock_table_is_made(rio_socket socket)
{
    return winsock_table_made((SOCKET)socket);
}

SOCKET winsock_table_make(int family, int type, int protocol)
{
    RIO_EXTENSION_FUNCTION_TABLE its;
    SOCKET made = winsock_table__new(family, type, protocol);
    if (made == INVALID_SOCKET)
        return made;
    int32_t code = winsock_table__ask(made, &its, NULL, 0);
    if (code == 0 && memcmp(&its.RIOReceive, &winsock_table.RIOReceive,
                            WINSOCK_ENTRIES * sizeof(void *)) == 0)
        return made;
    closesocket(made);
    WSASetLastError(code != 0 ? code : WSAEOPNOTSUPP); /* queues and buffers are made with ours */
    return INVALID_SOCKET;
}

rio_socket winsock_table_make_socket(int32_t family, int32_t type, int32_t protocol)
{
    int32_t code = winsock_table_load(NULL, 0);
    SOCKET made = code == 0 ? winsock_table_make(family, type, protocol) : INVALID_SOCKET;
    if (made != INVALID_SOCKET)
        return (rio_socket)made;
    errors_refuse(code != 0 ? code : codes_winsock((DWORD)WSAGetLastError()));
    return RIO_INVALID_SOCKET;
}

static int32_t winsock_table__load(char *reason, uint32_t size)
{
    WSADATA data;
    int32_t code = WSAStartup(MAKEWORD(2, 2), &data); /* stays, as the table does */
    if (code != 0) {
        snprintf(reason, size, "Winsock does not start (error %d).", (int)code);
        return code;
    }
    SOCKET socket = winsock_table__new(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    if (socket == INVALID_SOCKET) {
        code = WSAGetLastError();
        snprintf(reason, size, "Winsock makes no socket for Registered I/O (error %d).", (int)code);
    } else {
        code = winsock_table__ask(socket, &winsock_table, reason, size);
        if (code == 0)
            winsock_table__kept = socket;
        else
            closesocket(socket);
    }
    winsock_table__loaded = code == 0;
    if (code != 0)
        WSACleanup();
    return code;
}

/* The table, once for the process. */
int32_t winsock_table_load(char *reason, uint32_t size)
{
    int32_t code = 0;
    AcquireSRWLockExclusive(&winsock_table__lock);
    if (!winsock_table__loaded)
        code = winsock_table__load(reason, size);
    ReleaseSRWLockExclusive(&winsock_table__lock);
    return code;
}
