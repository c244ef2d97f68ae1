/* errors.h: Winsock codes and errno, and a thread's last refusal (errors.c). rio.h declares what
 * callers of the table need. */
#ifndef ZERIO_ERRORS_H
#define ZERIO_ERRORS_H

#include "rio.h"

/* Remembers the code; returns 0, which is FALSE. */
int32_t errors_refuse(int32_t code);

/* A code after which a stream connection is gone for both directions. */
static inline int errors_end_a_stream(int32_t code)
{
    return code == RIO_ECONNRESET || code == RIO_ECONNABORTED || code == RIO_ETIMEDOUT ||
           code == RIO_ENETRESET || code == RIO_EHOSTUNREACH || code == RIO_ENETUNREACH ||
           code == RIO_ECONNREFUSED;
}

#endif
