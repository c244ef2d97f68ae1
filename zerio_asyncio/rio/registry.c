/* registry.c: the providers of this platform, and the two maps between Winsock codes and errno.
 *
 * Status values are Winsock's on every provider (rule 9), because callers are written against one
 * interface. Python wants the values of its errno module. One table serves both directions: the
 * first row of a code is its errno, the first row of an errno is its code. What has no row becomes
 * EIO, or WSAEINVAL.
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

/* In Python's errno module on Windows these names have their Winsock values, not C's. */
#ifdef _WIN32
#define SOCKET_ERRNO(name) RIO_##name
#else
#define SOCKET_ERRNO(name) name
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
    { RIO_EWOULDBLOCK, SOCKET_ERRNO(EWOULDBLOCK) },
    { RIO_EWOULDBLOCK, EAGAIN },
    { RIO_EINPROGRESS, SOCKET_ERRNO(EINPROGRESS) },
    { RIO_IO_PENDING, SOCKET_ERRNO(EINPROGRESS) },
    { RIO_EALREADY, SOCKET_ERRNO(EALREADY) },
    { RIO_ENOTSOCK, SOCKET_ERRNO(ENOTSOCK) },
    { RIO_EDESTADDRREQ, SOCKET_ERRNO(EDESTADDRREQ) },
    { RIO_EMSGSIZE, SOCKET_ERRNO(EMSGSIZE) },
    { RIO_EPROTOTYPE, SOCKET_ERRNO(EPROTOTYPE) },
    { RIO_ENOPROTOOPT, SOCKET_ERRNO(ENOPROTOOPT) },
    { RIO_EPROTONOSUPPORT, SOCKET_ERRNO(EPROTONOSUPPORT) },
    { RIO_EOPNOTSUPP, SOCKET_ERRNO(EOPNOTSUPP) },
    { RIO_EOPNOTSUPP, ENOSYS },
    { RIO_EAFNOSUPPORT, SOCKET_ERRNO(EAFNOSUPPORT) },
    { RIO_EADDRINUSE, SOCKET_ERRNO(EADDRINUSE) },
    { RIO_EADDRNOTAVAIL, SOCKET_ERRNO(EADDRNOTAVAIL) },
    { RIO_ENETDOWN, SOCKET_ERRNO(ENETDOWN) },
    { RIO_ENETUNREACH, SOCKET_ERRNO(ENETUNREACH) },
    { RIO_ENETRESET, SOCKET_ERRNO(ENETRESET) },
    { RIO_ECONNABORTED, SOCKET_ERRNO(ECONNABORTED) },
    { RIO_ECONNRESET, SOCKET_ERRNO(ECONNRESET) },
    { RIO_ENOBUFS, SOCKET_ERRNO(ENOBUFS) },
    { RIO_ENOBUFS, ENOMEM },
    { RIO_EISCONN, SOCKET_ERRNO(EISCONN) },
    { RIO_ENOTCONN, SOCKET_ERRNO(ENOTCONN) },
    { RIO_ESHUTDOWN, SOCKET_ERRNO(ESHUTDOWN) },
    { RIO_ESHUTDOWN, EPIPE },
    { RIO_ETOOMANYREFS, SOCKET_ERRNO(ETOOMANYREFS) },
    { RIO_ETIMEDOUT, SOCKET_ERRNO(ETIMEDOUT) },
    { RIO_ECONNREFUSED, SOCKET_ERRNO(ECONNREFUSED) },
    { RIO_EHOSTDOWN, SOCKET_ERRNO(EHOSTDOWN) },
    { RIO_EHOSTUNREACH, SOCKET_ERRNO(EHOSTUNREACH) },
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

static RIO_THREAD_LOCAL int32_t rio__refusal;

int32_t rio_refuse(int32_t code)
{
    rio__refusal = code;
    return 0;
}

int32_t rio_last_error(void)
{
    return rio__refusal;
}

rio_socket rio_any_socket(int32_t family, int32_t type, int32_t protocol)
{
    (void)family, (void)type, (void)protocol;
    rio_refuse(RIO_EOPNOTSUPP);
    return RIO_INVALID_SOCKET;
}

#ifdef _WIN32
extern const rio_provider rio_provider_winsock;
extern const rio_provider rio_provider_overlapped;

static const rio_provider *const rio__providers[] = {
    &rio_provider_winsock,
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
