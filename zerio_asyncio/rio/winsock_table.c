/* winsock_table.c: where the system's table of Registered I/O comes from, and registered memory.
 *
 * The table is asked for with WSAIoctl, once for the process; what is not exactly the table that
 * Microsoft documents is refused. A buffer is registered with the system and stands in our table
 * of handles, so that an id that is none is refused instead of reaching the system. It counts the
 * requests that use it: to deregister what is in use is undefined there, so it waits for the last.
 *
 * Links:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/ns-mswsock-rio_extension_function_table
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_rioregisterbuffer
 */
#include "winsock_table.h"

#include <stdio.h>
#include <stdlib.h>

typedef int(WSAAPI *winsock_ioctl)(SOCKET, DWORD, void *, DWORD, void *, DWORD, DWORD *,
                                   OVERLAPPED *, LPWSAOVERLAPPED_COMPLETION_ROUTINE);
typedef SOCKET(WSAAPI *winsock_socket)(int, int, int, WSAPROTOCOL_INFOW *, GROUP, DWORD);

static winsock_ioctl winsock__ioctl; /* null: WSAIoctl, WSASocketW */
static winsock_socket winsock__socket;

RIO_EXTENSION_FUNCTION_TABLE winrio;

static SRWLOCK winsock__lock = SRWLOCK_INIT;
static int winsock__loaded;

/* For tests alone, before the provider is used: where the table comes from, and who makes sockets.
 * Nothing but an explicit call from outside sets it. Null: the system again. */
__declspec(dllexport) void rio_winsock_replace(winsock_ioctl ioctl, winsock_socket socket)
{
    AcquireSRWLockExclusive(&winsock__lock);
    winsock__ioctl = ioctl;
    winsock__socket = socket;
    winsock__loaded = 0;
    ReleaseSRWLockExclusive(&winsock__lock);
}

SOCKET winsock_make(int family, int type, int protocol)
{
    winsock_socket make = winsock__socket != NULL ? winsock__socket : WSASocketW;
    return make(family, type, protocol, NULL, 0,
                WSA_FLAG_OVERLAPPED | WSA_FLAG_REGISTERED_IO | WSA_FLAG_NO_HANDLE_INHERIT);
}

rio_socket winsock_make_socket(int32_t family, int32_t type, int32_t protocol)
{
    SOCKET made = winsock_make(family, type, protocol);
    if (made != INVALID_SOCKET)
        return (rio_socket)made;
    rio_refuse(iocp_code((DWORD)WSAGetLastError()));
    return RIO_INVALID_SOCKET;
}

/* The table of a socket's transport: 0, or a code and why (`reason` may be null). */
int32_t winsock_ask(SOCKET socket, RIO_EXTENSION_FUNCTION_TABLE *table, char *reason,
                    uint32_t size)
{
    GUID which = WSAID_MULTIPLE_RIO;
    winsock_ioctl ask = winsock__ioctl != NULL ? winsock__ioctl : WSAIoctl;
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
            snprintf(reason, size, "Winsock's table of Registered I/O lacks entry %d of %d.",
                     i + 1, WINSOCK_ENTRIES);
            return RIO_EOPNOTSUPP;
        }
    }
    return 0;
}

static int32_t winsock__load_locked(char *reason, uint32_t size)
{
    WSADATA data;
    int32_t code = WSAStartup(MAKEWORD(2, 2), &data); /* stays, as the table does */
    if (code != 0) {
        snprintf(reason, size, "Winsock does not start (error %d).", (int)code);
        return code;
    }
    SOCKET socket = winsock_make(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    if (socket == INVALID_SOCKET) {
        code = WSAGetLastError();
        snprintf(reason, size, "Winsock makes no socket for Registered I/O (error %d).",
                 (int)code);
    } else {
        code = winsock_ask(socket, &winrio, reason, size);
        closesocket(socket);
    }
    winsock__loaded = code == 0;
    if (code != 0)
        WSACleanup();
    return code;
}

/* The table, once for the process. */
int32_t winsock_load(char *reason, uint32_t size)
{
    int32_t code = 0;
    AcquireSRWLockExclusive(&winsock__lock);
    if (!winsock__loaded)
        code = winsock__load_locked(reason, size);
    ReleaseSRWLockExclusive(&winsock__lock);
    return code;
}

/* ------------------------------------------------------------------------------------- buffers */

void winsock_hold(void *registration)
{
    (void)rio_add32(&((winsock_buffer *)registration)->uses, 1);
}

void winsock_let_go(void *registration)
{
    winsock_buffer *buffer = registration;
    if (rio_add32(&buffer->uses, UINT32_MAX) != 1) /* one fewer */
        return;
    winrio.RIODeregisterBuffer(buffer->id);
    free(buffer);
}

RIO_BUFFERID RIO_CALL winsock_register_buffer(char *memory, uint32_t length)
{
    RIO_BUFFERID handle = rio_emulation_register_buffer(memory, length);
    if (handle == RIO_INVALID_BUFFERID)
        return handle;
    int32_t code = winsock_load(NULL, 0);
    winsock_buffer *buffer = code == 0 ? malloc(sizeof *buffer) : NULL;
    if (code == 0 && buffer == NULL)
        code = RIO_ENOBUFS;
    if (code == 0) {
        buffer->memory = memory;
        rio_store32(&buffer->uses, 1);
        buffer->id = winrio.RIORegisterBuffer(memory, length);
        if (buffer->id != RIO_INVALID_BUFFERID) {
            rio_handle_find(handle, RIO_KIND_BUFFER)->u.registration = buffer;
            return handle;
        }
        code = iocp_code((DWORD)WSAGetLastError());
    }
    free(buffer);
    rio_handle_close(handle);
    rio_refuse(code);
    return RIO_INVALID_BUFFERID;
}

void RIO_CALL winsock_deregister_buffer(RIO_BUFFERID handle)
{
    rio_handle *slot = rio_handle_find(handle, RIO_KIND_BUFFER);
    void *registration = slot != NULL ? slot->u.registration : NULL;
    rio_emulation_deregister_buffer(handle);
    if (registration != NULL)
        winsock_let_go(registration);
}
