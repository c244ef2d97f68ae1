/* buffers.c: registered memory: a slot in the handle table with its address and length.
 *
 * It is resolved to an address when a request is made and not needed after that. So a buffer that
 * is deregistered while requests are in flight refuses new ones (WSAEFAULT) and harms none already
 * in progress; there is nothing to count. The memory itself belongs to whoever registered it. It is
 * not pinned: we measured handing registered memory to io_uring, and it gained nothing. */
#include "table/buffers.h"

#include "table/errors.h"
#include "table/handles.h"

RIO_BUFFERID RIO_CALL buffers_register(char *memory, uint32_t length)
{
    int outside = memory == NULL || (uintptr_t)memory + length < (uintptr_t)memory;
    if (length == 0 || outside) {
        errors_refuse(outside ? RIO_EFAULT : RIO_EINVAL);
        return RIO_INVALID_BUFFERID;
    }
    void *handle = handles_open(HANDLES_BUFFER, memory, length);
    if (handle == NULL) {
        errors_refuse(RIO_ENOBUFS);
        return RIO_INVALID_BUFFERID;
    }
    return handle;
}

void RIO_CALL buffers_deregister(RIO_BUFFERID buffer)
{
    if (handles_find(buffer, HANDLES_BUFFER) != NULL)
        handles_close(buffer);
}
