/* sdk.h: Windows' own headers, for the files of the Windows providers.
 *
 * Microsoft's SDK, and MinGW in its newer versions, declare the types of Registered I/O, too; ours
 * stand in rio.h, with the same layouts (tests/rio/test_abi.py). One name cannot have two
 * declarations, so theirs are read under other names, and their constants forgotten. The three
 * handle types are declared alike in both places, which C11 allows. */
#ifndef ZERIO_SDK_H
#define ZERIO_SDK_H

#ifdef ZERIO_RIO_H
#error "sdk.h comes before rio.h"
#endif

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif

#define RIO_BUF sdk_RIO_BUF
#define RIORESULT sdk_RIORESULT
#define RIO_NOTIFICATION_COMPLETION sdk_RIO_NOTIFICATION_COMPLETION
#define RIO_EXTENSION_FUNCTION_TABLE sdk_RIO_EXTENSION_FUNCTION_TABLE

#include <winsock2.h>
#include <ws2tcpip.h>
#include <mswsock.h>
#include <windows.h>

#undef RIO_BUF
#undef RIORESULT
#undef RIO_NOTIFICATION_COMPLETION
#undef RIO_EXTENSION_FUNCTION_TABLE

#undef RIO_INVALID_BUFFERID
#undef RIO_INVALID_CQ
#undef RIO_INVALID_RQ
#undef RIO_MAX_CQ_SIZE
#undef RIO_CORRUPT_CQ
#undef RIO_MSG_DONT_NOTIFY
#undef RIO_MSG_DEFER
#undef RIO_MSG_WAITALL
#undef RIO_MSG_COMMIT_ONLY

#endif
