/* codes.c: Winsock codes of Win32 errors: some operations on sockets end with these. */
#include "windows/codes.h"

int32_t codes_winsock(DWORD error)
{
    switch (error) {
    case ERROR_NETNAME_DELETED: /* the peer reset the connection */
    case ERROR_UNEXP_NET_ERR:   /* so Wine says it of a client that was not yet accepted */
        return RIO_ECONNRESET;
    case ERROR_CONNECTION_ABORTED:
        return RIO_ECONNABORTED;
    case ERROR_CONNECTION_REFUSED:
        return RIO_ECONNREFUSED;
    case ERROR_PORT_UNREACHABLE:
        return RIO_ECONNRESET;
    case ERROR_HOST_UNREACHABLE:
        return RIO_EHOSTUNREACH;
    case ERROR_NETWORK_UNREACHABLE:
        return RIO_ENETUNREACH;
    case ERROR_SEM_TIMEOUT:
        return RIO_ETIMEDOUT;
    case ERROR_INVALID_HANDLE:
        return RIO_ENOTSOCK;
    case ERROR_INVALID_PARAMETER:
        return RIO_EINVAL;
    case ERROR_NOT_ENOUGH_MEMORY:
    case ERROR_NO_SYSTEM_RESOURCES:
    case ERROR_COMMITMENT_LIMIT:
        return RIO_ENOBUFS;
    case ERROR_TOO_MANY_OPEN_FILES:
        return RIO_EMFILE;
    default:
        return (int32_t)error;
    }
}
