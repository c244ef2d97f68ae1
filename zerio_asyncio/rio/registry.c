/* registry.c: the providers of this platform, and the two maps between Winsock codes and errno.
 *
 * Status values are Winsock's on every provider (rule 9), because callers are written against one
 * interface. Python wants errno. One table serves both directions: the first row of a code is its
 * errno, the first row of an errno is its code. What has no row becomes EIO, or WSAEINVAL.
 *
 * Links: https://learn.microsoft.com/windows/win32/winsock/windows-sockets-error-codes-2
 */
#include "emulation.h"

#include <errno.h>

typedef struct rio_code {
    int32_t code;
    int32_t error;
} rio_code;

/* Winsock has no code for it; a system code will do, as 995 is one. An AF_UNIX connect needs it. */
#ifndef ERROR_FILE_NOT_FOUND
#define ERROR_FILE_NOT_FOUND 2
#endif

static const rio_code rio__codes[] = {
    { RIO_OPERATION_ABORTED, ECANCELED },
    { RIO_EINTR, EINTR },
    { RIO_EBADF, EBADF },
    { RIO_EACCES, EACCES },
    { RIO_EACCES, EPERM },
    { RIO_EFAULT, EFAULT },
    { RIO_EINVAL, EINVAL },
    { RIO_EMFILE, EMFILE },
    { RIO_EMFILE, ENFILE },
    { RIO_EWOULDBLOCK, EAGAIN },
    { RIO_EINPROGRESS, EINPROGRESS },
    { RIO_IO_PENDING, EINPROGRESS },
    { RIO_EALREADY, EALREADY },
    { RIO_ENOTSOCK, ENOTSOCK },
    { RIO_EDESTADDRREQ, EDESTADDRREQ },
    { RIO_EMSGSIZE, EMSGSIZE },
    { RIO_EPROTOTYPE, EPROTOTYPE },
    { RIO_ENOPROTOOPT, ENOPROTOOPT },
    { RIO_EPROTONOSUPPORT, EPROTONOSUPPORT },
    { RIO_EOPNOTSUPP, EOPNOTSUPP },
    { RIO_EOPNOTSUPP, ENOSYS },
    { RIO_EAFNOSUPPORT, EAFNOSUPPORT },
    { RIO_EADDRINUSE, EADDRINUSE },
    { RIO_EADDRNOTAVAIL, EADDRNOTAVAIL },
    { RIO_ENETDOWN, ENETDOWN },
    { RIO_ENETUNREACH, ENETUNREACH },
    { RIO_ENETRESET, ENETRESET },
    { RIO_ECONNABORTED, ECONNABORTED },
    { RIO_ECONNRESET, ECONNRESET },
    { RIO_ENOBUFS, ENOBUFS },
    { RIO_ENOBUFS, ENOMEM },
    { RIO_EISCONN, EISCONN },
    { RIO_ENOTCONN, ENOTCONN },
#ifdef ESHUTDOWN
    { RIO_ESHUTDOWN, ESHUTDOWN },
#endif
    { RIO_ESHUTDOWN, EPIPE },
#ifdef ETOOMANYREFS
    { RIO_ETOOMANYREFS, ETOOMANYREFS },
#endif
    { RIO_ETIMEDOUT, ETIMEDOUT },
    { RIO_ECONNREFUSED, ECONNREFUSED },
#ifdef EHOSTDOWN
    { RIO_EHOSTDOWN, EHOSTDOWN },
#endif
    { RIO_EHOSTUNREACH, EHOSTUNREACH },
    { ERROR_FILE_NOT_FOUND, ENOENT },
};

#define CODES (sizeof rio__codes / sizeof rio__codes[0])

int32_t rio_errno(int32_t code)
{
    if (code == 0)
        return 0;
    for (size_t i = 0; i < CODES; i++)
        if (rio__codes[i].code == code)
            return rio__codes[i].error;
    return EIO;
}

int32_t rio_code_of_errno(int32_t error)
{
    if (error == 0)
        return 0;
    for (size_t i = 0; i < CODES; i++)
        if (rio__codes[i].error == error)
            return rio__codes[i].code;
    return RIO_EINVAL;
}

static _Thread_local int32_t rio__refusal;

int32_t rio_refuse(int32_t code)
{
    rio__refusal = code;
    return 0;
}

int32_t rio_last_error(void)
{
    return rio__refusal;
}

#ifdef _WIN32
extern const rio_provider rio_provider_overlapped;

static const rio_provider *const rio__providers[] = {
    &rio_provider_overlapped,
};
#else
extern const rio_provider rio_provider_uring;
extern const rio_provider rio_provider_epoll;

static const rio_provider *const rio__providers[] = {
    &rio_provider_uring,
    &rio_provider_epoll,
};
#endif

const rio_provider *const *rio_providers(uint32_t *count)
{
    *count = sizeof rio__providers / sizeof rio__providers[0];
    return rio__providers;
}
