/* errors.c: the two maps between Winsock codes and errno, and a thread's last
 * refusal.
 *
 * Status values are Winsock's on every provider (rule 9), because callers are written against one
 * interface. Python wants the values of its errno module. One table serves both directions: the
 * first row of a code is its errno, the first row of an errno is its code. Anything without a row
 * becomes EIO, or WSAEINVAL.
 *
 * Links: https://learn.microsoft.com/windows/win32/winsock/windows-sockets-error-codes-2
 */
#include "table/errors.h"

#include <stddef.h>

#include "table/compiler.h"

typedef struct errors_row {
    int32_t code;
    int32_t error;
} errors_row;

/* Winsock has no code for it; a system code will do, like 995. An AF_UNIX connect needs it. */
#ifndef ERROR_FILE_NOT_FOUND
#define ERROR_FILE_NOT_FOUND 2
#endif

/* In Python's errno module on Windows, these names have their Winsock values, not C's. */
#ifdef _WIN32
#define SOCKET_ERRNO(name) RIO_##name
#else
#define SOCKET_ERRNO(name) name
#endif

static const errors_row errors__codes[] = {
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

#define CODES (sizeof errors__codes / sizeof errors__codes[0])

int32_t rio_errno(int32_t code)
{
    if (code == 0)
        return 0;
    for (size_t i = 0; i < CODES; i++)
        if (errors__codes[i].code == code)
            return errors__codes[i].error;
    return EIO;
}

int32_t rio_code_of_errno(int32_t error)
{
    if (error == 0)
        return 0;
    for (size_t i = 0; i < CODES; i++)
        if (errors__codes[i].error == error)
            return errors__codes[i].code;
    return RIO_EINVAL;
}

static RIO_THREAD_LOCAL int32_t errors__refusal;

int32_t errors_refuse(int32_t code)
{
    errors__refusal = code;
    return 0;
}

int32_t rio_last_error(void)
{
    return errors__refusal;
}
