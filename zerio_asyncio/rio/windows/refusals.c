/* refusals.c: entries of the provider tables that Windows cannot serve: present, and they refuse
 * (rule 12), a queue that is none as every entry does (rule 13). */
#include "windows/refusals.h"

#include "table/errors.h"
#include "table/handles.h"

static int32_t refusals__code(RIO_RQ handle)
{
    return handles_find(handle, HANDLES_RQ) != NULL ? RIO_EOPNOTSUPP : RIO_EINVAL;
}

int32_t refusals_send_memory(RIO_RQ handle, const void *memory, uint32_t length, uint32_t flags,
                             void *context)
{
    (void)memory, (void)length, (void)flags, (void)context;
    return errors_refuse(refusals__code(handle));
}

int32_t refusals_receive_memory(RIO_RQ handle, void *memory, uint32_t length, uint32_t flags,
                                void *context)
{
    (void)memory, (void)length, (void)flags, (void)context;
    return errors_refuse(refusals__code(handle));
}

int64_t refusals_send_now(RIO_RQ handle, const void *memory, uint32_t length)
{
    (void)memory, (void)length;
    return -(int64_t)refusals__code(handle);
}

int64_t refusals_receive_now(RIO_RQ handle, void *memory, uint32_t length)
{
    (void)memory, (void)length;
    return -(int64_t)refusals__code(handle);
}

int64_t refusals_send_datagrams_now(RIO_RQ handle, const rio_datagram *datagrams, uint32_t count)
{
    (void)datagrams, (void)count;
    return -(int64_t)refusals__code(handle);
}

int32_t refusals_recall(RIO_RQ handle)
{
    return refusals__code(handle);
}
