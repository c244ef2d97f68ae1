/* winsock_buffers.c: memory that is registered with the system.
 *
 * It stands in our table of handles, too, so that an id that is none is refused instead of reaching
 * the system. A buffer counts the requests that use it: to deregister what is in use is undefined
 * there, so it waits for the last.
 *
 * Link:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_rioregisterbuffer
 */
#include "windows/sdk.h"

#include "windows/winsock_buffers.h"

#include <stdlib.h>

#include "table/buffers.h"
#include "table/errors.h"
#include "table/handles.h"
#include "windows/codes.h"
#include "windows/winsock_table.h"

void winsock_buffers_hold(void *registration)
{
    (void)atomics_add32(&((winsock_buffer *)registration)->uses, 1);
}

void winsock_buffers_let_go(void *registration)
{
    winsock_buffer *buffer = registration;
    if (atomics_add32(&buffer->uses, UINT32_MAX) != 1) /* one fewer */
        return;
    winsock_table.RIODeregisterBuffer(buffer->id);
    free(buffer);
}

RIO_BUFFERID RIO_CALL winsock_buffers_register(char *memory, uint32_t length)
{
    RIO_BUFFERID handle = buffers_register(memory, length);
    if (handle == RIO_INVALID_BUFFERID)
        return handle;
    int32_t code = winsock_table_load(NULL, 0);
    winsock_buffer *buffer = code == 0 ? malloc(sizeof *buffer) : NULL;
    if (code == 0 && buffer == NULL)
        code = RIO_ENOBUFS;
    if (code == 0) {
        buffer->memory = memory;
        atomics_store32(&buffer->uses, 1);
        buffer->id = winsock_table.RIORegisterBuffer(memory, length);
        if (buffer->id != RIO_INVALID_BUFFERID) {
            handles_find(handle, HANDLES_BUFFER)->u.registration = buffer;
            return handle;
        }
        code = codes_winsock((DWORD)WSAGetLastError());
    }
    free(buffer);
    handles_close(handle);
    errors_refuse(code);
    return RIO_INVALID_BUFFERID;
}

void RIO_CALL winsock_buffers_deregister(RIO_BUFFERID handle)
{
    handles_slot *slot = handles_find(handle, HANDLES_BUFFER);
    void *registration = slot != NULL ? slot->u.registration : NULL;
    buffers_deregister(handle);
    if (registration != NULL)
        winsock_buffers_let_go(registration);
}
