/* Stands in for mswsock.h where it says nothing of Registered I/O, as MinGW's of 2022: the same
 * structures and constants as Microsoft's pages have them, under the same names.
 *
 *   https://learn.microsoft.com/windows/win32/api/mswsockdef/ns-mswsockdef-rio_buf
 *   https://learn.microsoft.com/windows/win32/api/mswsockdef/ns-mswsockdef-rioresult
 *   https://learn.microsoft.com/windows/win32/api/mswsock/ns-mswsock-rio_notification_completion
 *   https://learn.microsoft.com/windows/win32/winsock/riobuf (null and invalid handles)
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_riosend (flags)
 *   https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_riodequeuecompletion
 */
#include_next <mswsock.h>

#ifndef RIO_CORRUPT_CQ

typedef struct RIO_BUFFERID_t *RIO_BUFFERID;
typedef struct RIO_CQ_t *RIO_CQ;
typedef struct RIO_RQ_t *RIO_RQ;

#define RIO_INVALID_BUFFERID ((RIO_BUFFERID)(ULONG_PTR)0xFFFFFFFF)
#define RIO_INVALID_CQ ((RIO_CQ)0)
#define RIO_INVALID_RQ ((RIO_RQ)0)
#define RIO_MAX_CQ_SIZE 0x8000000
#define RIO_CORRUPT_CQ 0xFFFFFFFF

#define RIO_MSG_DONT_NOTIFY 0x00000001
#define RIO_MSG_DEFER 0x00000002
#define RIO_MSG_WAITALL 0x00000004
#define RIO_MSG_COMMIT_ONLY 0x00000008

typedef struct {
    RIO_BUFFERID BufferId;
    ULONG Offset;
    ULONG Length;
} RIO_BUF;

typedef struct {
    LONG Status;
    ULONG BytesTransferred;
    ULONGLONG SocketContext;
    ULONGLONG RequestContext;
} RIORESULT;

enum { RIO_EVENT_COMPLETION = 1, RIO_IOCP_COMPLETION = 2 };

typedef struct {
    int Type;
    union {
        struct {
            HANDLE EventHandle;
            BOOL NotifyReset;
        } Event;
        struct {
            HANDLE IocpHandle;
            PVOID CompletionKey;
            PVOID Overlapped;
        } Iocp;
    };
} RIO_NOTIFICATION_COMPLETION;

typedef struct {
    DWORD cbSize;
    void (*entries[13])(void);
} RIO_EXTENSION_FUNCTION_TABLE;

#endif
