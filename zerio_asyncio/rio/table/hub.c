/* hub.c: ports as callers know them: a handle that leads to the hub of a driver's port, in the
 * process that made it (rules 13 and 14). */
#include "table/hub.h"

#include "table/errors.h"

void hub_begin(rio_hub *hub, const rio_driver *driver, const volatile uint32_t *mark, uint32_t era)
{
    hub->driver = driver;
    hub->mark = mark;
    hub->era = era;
    hub->known = RIO_INVALID_SOCKET;
}

rio_hub *hub_of(const rio_port *handle, const rio_driver *driver, int32_t *code)
{
    rio_hub *hub = handles_object(handle, HANDLES_PORT);
    if (RIO_UNLIKELY(hub == NULL || (driver != NULL && hub->driver != driver))) {
        *code = RIO_EINVAL;
        return NULL;
    }
    if (RIO_UNLIKELY(!hub_ours(hub))) {
        *code = RIO_ENETDOWN;
        return NULL;
    }
    return hub;
}

rio_port *hub_publish(rio_hub *hub)
{
    if (hub == NULL)
        return NULL;
    hub->handle = handles_open(HANDLES_PORT, hub, 0);
    if (hub->handle != NULL)
        return hub->handle;
    hub->driver->shut(hub);
    errors_refuse(RIO_ENOBUFS);
    return NULL;
}

int32_t hub_statistics(rio_port *handle, rio_port_statistics *statistics)
{
    int32_t code = 0;
    const rio_hub *hub = hub_of(handle, NULL, &code);
    if (hub != NULL && statistics == NULL)
        return RIO_EFAULT;
    if (hub != NULL)
        *statistics = (rio_port_statistics){ /* word by word, while its thread counts */
            .submissions = counts_read(&hub->counts.submissions),
            .completions = counts_read(&hub->counts.completions),
            .system_calls = counts_read(&hub->counts.system_calls),
            .waits = counts_read(&hub->counts.waits),
            .bytes_received = counts_read(&hub->counts.bytes_received),
            .bytes_sent = counts_read(&hub->counts.bytes_sent),
            .gathered = counts_read(&hub->counts.gathered),
            .in_kernel = counts_read(&hub->counts.in_kernel),
        };
    return code;
}

int32_t hub_know_stream(rio_port *handle, rio_socket socket)
{
    int32_t code = 0;
    rio_hub *hub = hub_of(handle, NULL, &code);
    if (hub != NULL)
        hub->known = socket;
    return code;
}

int32_t hub_not_made(rio_socket socket)
{
    (void)socket;
    return 0;
}

rio_socket hub_any_socket(int32_t family, int32_t type, int32_t protocol)
{
    (void)family, (void)type, (void)protocol;
    errors_refuse(RIO_EOPNOTSUPP);
    return RIO_INVALID_SOCKET;
}
