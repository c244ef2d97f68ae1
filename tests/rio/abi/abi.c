/* abi.c: what our C takes for Windows' binary interface, beside what Windows' headers and
 * Microsoft's pages say of it.
 *
 * Every line of checks.h is compared twice: when this is compiled (a difference does not compile),
 * and by whoever reads what the program prints (name, ours, theirs). The types of the table's
 * entries are compared with the documented prototypes by compilers that can.
 *
 * The file under test is included whole, because the driver's structures are its own affair. */
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#define RIO_BUF sdk_RIO_BUF
#define RIORESULT sdk_RIORESULT
#define RIO_NOTIFICATION_COMPLETION sdk_RIO_NOTIFICATION_COMPLETION
#define RIO_EXTENSION_FUNCTION_TABLE sdk_RIO_EXTENSION_FUNCTION_TABLE
#include <winsock2.h>
#include <ws2ipdef.h>
#include <mswsock.h>
#include <windows.h>

/* sdk.h forgets these. */
enum {
    SDK_EVENT_COMPLETION = RIO_EVENT_COMPLETION,
    SDK_IOCP_COMPLETION = RIO_IOCP_COMPLETION,
    SDK_MAX_CQ_SIZE = RIO_MAX_CQ_SIZE,
    SDK_MSG_DONT_NOTIFY = RIO_MSG_DONT_NOTIFY,
    SDK_MSG_DEFER = RIO_MSG_DEFER,
    SDK_MSG_WAITALL = RIO_MSG_WAITALL,
    SDK_MSG_COMMIT_ONLY = RIO_MSG_COMMIT_ONLY
};
enum { SDK_CORRUPT_CQ_IS_ALL_ONES = (ULONG)RIO_CORRUPT_CQ == (ULONG)-1 };
static const ULONG_PTR sdk_invalid_bufferid = (ULONG_PTR)RIO_INVALID_BUFFERID;
static const ULONG_PTR sdk_invalid_cq = (ULONG_PTR)RIO_INVALID_CQ;
static const ULONG_PTR sdk_invalid_rq = (ULONG_PTR)RIO_INVALID_RQ;

#include "windows/iocp_poll.c"
#include "windows/winsock_table.h"

#include <stdio.h>

/* ------------------------------------------------------------------- the documented prototypes */

/* rio.h writes integers as C does. That they are Windows' own is a check of its own, below; the
 * rest is compared type by type, calling convention included. */
#define INTEGER(ours, theirs)                                                                     \
    _Static_assert(sizeof(ours) == sizeof(theirs) &&                                              \
                       ((ours)-1 > (ours)1) == ((theirs)-1 > (theirs)1),                          \
                   #ours " is not " #theirs)
INTEGER(int32_t, BOOL);
INTEGER(int32_t, INT);
INTEGER(int32_t, LONG);
INTEGER(uint32_t, ULONG);
INTEGER(uint32_t, DWORD);
INTEGER(uint64_t, ULONGLONG);
INTEGER(rio_socket, SOCKET);

#ifdef __GNUC__
#define BOOL int32_t
#define INT int32_t
#define ULONG uint32_t
#define DWORD uint32_t
#define SOCKET rio_socket
#define PRIO_BUF RIO_BUF *
#define PRIORESULT RIORESULT *
#define PRIO_NOTIFICATION_COMPLETION RIO_NOTIFICATION_COMPLETION *
#define ENTRY(name, result, parameters)                                                           \
    typedef result(__stdcall *documented_##name) parameters;                                      \
    _Static_assert(__builtin_types_compatible_p(                                                  \
                       __typeof__(((RIO_EXTENSION_FUNCTION_TABLE *)0)->name), documented_##name), \
                   #name " has not the documented type");
#include "entries.h"
#undef ENTRY
#undef BOOL
#undef INT
#undef ULONG
#undef DWORD
#undef SOCKET
#endif

enum {
#define ENTRY(name, result, parameters) PLACE_##name,
#include "entries.h"
#undef ENTRY
    ENTRIES
};

/* ------------------------------------------------------------------------------------ numbers */

#define P sizeof(void *)
#define MEMBER(type, member) (sizeof ((type *)0)->member)

#define CHECK(what, ours, theirs) _Static_assert((ours) == (theirs), what);
#include "checks.h"
#undef CHECK

static int report(const char *what, unsigned long long ours, unsigned long long theirs)
{
    printf("%s\t%llu\t%llu\n", what, ours, theirs);
    return ours != theirs;
}

/* -------------------------------------------------------------------------------------- bytes */

static int report_guid(const char *what, GUID guid, const char *theirs)
{
    char ours[2 * sizeof guid + 1];
    for (size_t i = 0; i < sizeof guid; i++)
        snprintf(ours + 2 * i, 3, "%02x", ((const unsigned char *)&guid)[i]);
    printf("%s\t%s\t%s\n", what, ours, theirs);
    return strcmp(ours, theirs) != 0;
}

/* Sixteen bytes as they lie in memory: the first three groups of a GUID are little-endian. */
static int report_guids(void)
{
    static const GUID accept_ex = WSAID_ACCEPTEX, connect_ex = WSAID_CONNECTEX;
    static const GUID multiple_rio = WSAID_MULTIPLE_RIO;
    return report_guid("WSAID_ACCEPTEX", accept_ex, "f17d36b5accbcf1195ca00805f48a192") |
           report_guid("WSAID_CONNECTEX", connect_ex, "b907a225f3dd60468ee976e58c74063e") |
           report_guid("WSAID_MULTIPLE_RIO", multiple_rio, "81e00985dd960540b1659e2ee8c79e3f");
}

int main(void)
{
    int wrong = 0;
#define CHECK(what, ours, theirs) wrong |= report(what, (unsigned long long)(ours), (theirs));
#include "checks.h"
#undef CHECK
    wrong |= report("RIO_INVALID_BUFFERID", (uintptr_t)RIO_INVALID_BUFFERID, sdk_invalid_bufferid);
    wrong |= report("RIO_INVALID_CQ", (uintptr_t)RIO_INVALID_CQ, sdk_invalid_cq);
    wrong |= report("RIO_INVALID_RQ", (uintptr_t)RIO_INVALID_RQ, sdk_invalid_rq);
    wrong |= report_guids();
    return wrong;
}
