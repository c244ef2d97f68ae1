/* winsock_table.c: where the system's table of Registered I/O comes from.
 *
 * The table is asked for with WSAIoctl, once for the process; what is not exactly the table that
 * Microsoft documents is refused.
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

/* For tests alone, before the provider is used: where the table comes from, and who makes sockets.
 * Nothing but an explicit call from outside sets it. Null: the system again. */
__declspec(dllexport) void winsock_table_replace(winsock_ioctl ioctl, winsock_socket socket)
{
    AcquireSRWLockExclusive(&winsock_table__lock);
    winsock_table__ioctl = ioctl;
    winsock_table__socket = socket;
    winsock_table__loaded = 0;
    ReleaseSRWLockExclusive(&winsock_table__lock);
}

SOCKET winsock_table_make(int family, int type, int protocol)
{
    winsock_socket make = winsock_table__socket != NULL ? winsock_table__socket : WSASocketW;
    return make(family, type, protocol, NULL, 0,
                WSA_FLAG_OVERLAPPED | WSA_FLAG_REGISTERED_IO | WSA_FLAG_NO_HANDLE_INHERIT);
}

rio_socket winsock_table_make_socket(int32_t family, int32_t type, int32_t protocol)
{
    SOCKET made = winsock_table_make(family, type, protocol);
    if (made != INVALID_SOCKET)
        return (rio_socket)made;
    errors_refuse(codes_winsock((DWORD)WSAGetLastError()));
    return RIO_INVALID_SOCKET;
}

/* The table of a socket's transport: 0, or a code and why (`reason` may be null). */
int32_t winsock_table_ask(SOCKET socket, RIO_EXTENSION_FUNCTION_TABLE *table, char *reason,
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

static int32_t winsock_table__load(char *reason, uint32_t size)
{
    WSADATA data;
    int32_t code = WSAStartup(MAKEWORD(2, 2), &data); /* stays, as the table does */
    if (code != 0) {
        snprintf(reason, size, "Winsock does not start (error %d).", (int)code);
        return code;
    }
    SOCKET socket = winsock_table_make(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    if (socket == INVALID_SOCKET) {
        code = WSAGetLastError();
        snprintf(reason, size, "Winsock makes no socket for Registered I/O (error %d).", (int)code);
    } else {
        code = winsock_table_ask(socket, &winsock_table, reason, size);
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
