/* CHECK(name, ours, theirs): numbers of the binary interface. P is the size of a pointer; a plain
 * number on the right is Microsoft's documentation, or comes from where the heading says. */

/* -------------------------------------------------------------------------- RIO: structures */

CHECK("sizeof RIO_BUF", sizeof(RIO_BUF), P + 8)
CHECK("sizeof RIO_BUF, SDK", sizeof(RIO_BUF), sizeof(sdk_RIO_BUF))
CHECK("RIO_BUF.Offset", offsetof(RIO_BUF, Offset), offsetof(sdk_RIO_BUF, Offset))
CHECK("RIO_BUF.Length", offsetof(RIO_BUF, Length), offsetof(sdk_RIO_BUF, Length))
CHECK("sizeof RIO_BUF.BufferId", MEMBER(RIO_BUF, BufferId), P)
CHECK("sizeof RIO_BUF.Offset", MEMBER(RIO_BUF, Offset), 4)
CHECK("sizeof RIO_BUF.Length", MEMBER(RIO_BUF, Length), 4)

CHECK("sizeof RIORESULT", sizeof(RIORESULT), 24)
CHECK("sizeof RIORESULT, SDK", sizeof(RIORESULT), sizeof(sdk_RIORESULT))
CHECK("RIORESULT.Status", offsetof(RIORESULT, Status), offsetof(sdk_RIORESULT, Status))
CHECK("RIORESULT.BytesTransferred", offsetof(RIORESULT, BytesTransferred),
      offsetof(sdk_RIORESULT, BytesTransferred))
CHECK("RIORESULT.SocketContext", offsetof(RIORESULT, SocketContext),
      offsetof(sdk_RIORESULT, SocketContext))
CHECK("RIORESULT.RequestContext", offsetof(RIORESULT, RequestContext),
      offsetof(sdk_RIORESULT, RequestContext))
CHECK("sizeof RIORESULT.BytesTransferred", MEMBER(RIORESULT, BytesTransferred), 4)
CHECK("sizeof RIORESULT.SocketContext", MEMBER(RIORESULT, SocketContext), 8)

CHECK("sizeof RIO_NOTIFICATION_COMPLETION", sizeof(RIO_NOTIFICATION_COMPLETION), 4 * P)
CHECK("sizeof RIO_NOTIFICATION_COMPLETION, SDK", sizeof(RIO_NOTIFICATION_COMPLETION),
      sizeof(sdk_RIO_NOTIFICATION_COMPLETION))
CHECK("RIO_NOTIFICATION_COMPLETION.Type", offsetof(RIO_NOTIFICATION_COMPLETION, Type), 0)
CHECK("sizeof RIO_NOTIFICATION_COMPLETION.Type", MEMBER(RIO_NOTIFICATION_COMPLETION, Type), 4)
CHECK("RIO_NOTIFICATION_COMPLETION.Event.EventHandle",
      offsetof(RIO_NOTIFICATION_COMPLETION, u.Event.EventHandle),
      offsetof(sdk_RIO_NOTIFICATION_COMPLETION, Event.EventHandle))
CHECK("RIO_NOTIFICATION_COMPLETION.Event.NotifyReset",
      offsetof(RIO_NOTIFICATION_COMPLETION, u.Event.NotifyReset),
      offsetof(sdk_RIO_NOTIFICATION_COMPLETION, Event.NotifyReset))
CHECK("RIO_NOTIFICATION_COMPLETION.Iocp.IocpHandle",
      offsetof(RIO_NOTIFICATION_COMPLETION, u.Iocp.IocpHandle),
      offsetof(sdk_RIO_NOTIFICATION_COMPLETION, Iocp.IocpHandle))
CHECK("RIO_NOTIFICATION_COMPLETION.Iocp.CompletionKey",
      offsetof(RIO_NOTIFICATION_COMPLETION, u.Iocp.CompletionKey),
      offsetof(sdk_RIO_NOTIFICATION_COMPLETION, Iocp.CompletionKey))
CHECK("RIO_NOTIFICATION_COMPLETION.Iocp.Overlapped",
      offsetof(RIO_NOTIFICATION_COMPLETION, u.Iocp.Overlapped),
      offsetof(sdk_RIO_NOTIFICATION_COMPLETION, Iocp.Overlapped))

CHECK("sizeof RIO_EXTENSION_FUNCTION_TABLE", sizeof(RIO_EXTENSION_FUNCTION_TABLE), 14 * P)
CHECK("sizeof RIO_EXTENSION_FUNCTION_TABLE, SDK", sizeof(RIO_EXTENSION_FUNCTION_TABLE),
      sizeof(sdk_RIO_EXTENSION_FUNCTION_TABLE))
CHECK("entries of the table", ENTRIES, 13)
CHECK("entries of winsock.c's table", WINSOCK_ENTRIES, ENTRIES)
CHECK("sizeof winsock.c's table", sizeof winsock_table, P + WINSOCK_ENTRIES * P)
#define ENTRY(name, result, parameters)                                                           \
    CHECK("RIO_EXTENSION_FUNCTION_TABLE." #name, offsetof(RIO_EXTENSION_FUNCTION_TABLE, name),    \
          P * (1 + PLACE_##name))
#include "entries.h"
#undef ENTRY

/* ---------------------------------------------------------------------------- RIO: constants */

CHECK("RIO_MSG_DONT_NOTIFY", RIO_MSG_DONT_NOTIFY, SDK_MSG_DONT_NOTIFY)
CHECK("RIO_MSG_DEFER", RIO_MSG_DEFER, SDK_MSG_DEFER)
CHECK("RIO_MSG_WAITALL", RIO_MSG_WAITALL, SDK_MSG_WAITALL)
CHECK("RIO_MSG_COMMIT_ONLY", RIO_MSG_COMMIT_ONLY, SDK_MSG_COMMIT_ONLY)
CHECK("RIO_EVENT_COMPLETION", RIO_EVENT_COMPLETION, SDK_EVENT_COMPLETION)
CHECK("RIO_IOCP_COMPLETION", RIO_IOCP_COMPLETION, SDK_IOCP_COMPLETION)
CHECK("RIO_MAX_CQ_SIZE", RIO_MAX_CQ_SIZE, SDK_MAX_CQ_SIZE)
CHECK("RIO_CORRUPT_CQ", RIO_CORRUPT_CQ, 0xFFFFFFFFu)
CHECK("RIO_CORRUPT_CQ, SDK", SDK_CORRUPT_CQ_IS_ALL_ONES, 1)

/* --------------------------------------------------------------------------------- addresses */

CHECK("sizeof SOCKADDR_INET", sizeof(RIO_SOCKADDR_INET), sizeof(SOCKADDR_INET))
CHECK("SOCKADDR_INET.si_family", offsetof(RIO_SOCKADDR_INET, family),
      offsetof(SOCKADDR_INET, si_family))
CHECK("sizeof SOCKADDR_INET.si_family", MEMBER(RIO_SOCKADDR_INET, family),
      MEMBER(SOCKADDR_INET, si_family))
CHECK("sockaddr_in6.sin6_scope_id", offsetof(struct sockaddr_in6, sin6_scope_id), 24)
CHECK("AF_UNIX", AF_UNIX, 1)
CHECK("AF_INET", AF_INET, 2)
CHECK("AF_INET6", AF_INET6, 23)
CHECK("RIO_INVALID_SOCKET", RIO_INVALID_SOCKET, INVALID_SOCKET)

/* ----------------------------------------------------------------- completion ports, Winsock */

CHECK("sizeof OVERLAPPED_ENTRY", sizeof(OVERLAPPED_ENTRY), 4 * P)
CHECK("OVERLAPPED_ENTRY.lpCompletionKey", offsetof(OVERLAPPED_ENTRY, lpCompletionKey), 0)
CHECK("OVERLAPPED_ENTRY.lpOverlapped", offsetof(OVERLAPPED_ENTRY, lpOverlapped), P)
CHECK("OVERLAPPED_ENTRY.dwNumberOfBytesTransferred",
      offsetof(OVERLAPPED_ENTRY, dwNumberOfBytesTransferred), 3 * P)
CHECK("sizeof OVERLAPPED", sizeof(OVERLAPPED), 3 * P + 8)
CHECK("OVERLAPPED.Offset", offsetof(OVERLAPPED, Offset), 2 * P)
CHECK("OVERLAPPED.hEvent", offsetof(OVERLAPPED, hEvent), 2 * P + 8)
CHECK("iocp_operation.overlapped", offsetof(iocp_operation, overlapped), 0)
CHECK("sizeof WSABUF", sizeof(WSABUF), 2 * P)
CHECK("WSABUF.buf", offsetof(WSABUF, buf), P)

CHECK("WSA_FLAG_OVERLAPPED", WSA_FLAG_OVERLAPPED, 0x01)
CHECK("WSA_FLAG_NO_HANDLE_INHERIT", WSA_FLAG_NO_HANDLE_INHERIT, 0x80)
CHECK("WSA_FLAG_REGISTERED_IO", WSA_FLAG_REGISTERED_IO, 0x100)
CHECK("SO_UPDATE_ACCEPT_CONTEXT", SO_UPDATE_ACCEPT_CONTEXT, 0x700B)
CHECK("SO_UPDATE_CONNECT_CONTEXT", SO_UPDATE_CONNECT_CONTEXT, 0x7010)
CHECK("SIO_GET_EXTENSION_FUNCTION_POINTER", SIO_GET_EXTENSION_FUNCTION_POINTER, 0xC8000006u)
CHECK("SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER", SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER,
      0xC8000024u)
CHECK("SIO_BASE_HANDLE", SIO_BASE_HANDLE, 0x48000022u)
CHECK("SIO_UDP_CONNRESET", SIO_UDP_CONNRESET, 0x9800000Cu)

/* ------------------------------- AFD: no page of Microsoft's; wepoll's afd.h, libuv's winsock.h */

CHECK("IOCTL_AFD_POLL", AFD_POLL, 0x12u << 12 | 9u << 2)
CHECK("AFD_POLL_RECEIVE", AFD_POLL_RECEIVE, 0x0001)
CHECK("AFD_POLL_SEND", AFD_POLL_SEND, 0x0004)
CHECK("AFD_POLL_DISCONNECT", AFD_POLL_DISCONNECT, 0x0008)
CHECK("AFD_POLL_ABORT", AFD_POLL_ABORT, 0x0010)
CHECK("AFD_POLL_LOCAL_CLOSE", AFD_POLL_LOCAL_CLOSE, 0x0020)
CHECK("AFD_POLL_ACCEPT", AFD_POLL_ACCEPT, 0x0080)
CHECK("AFD_POLL_CONNECT_FAIL", AFD_POLL_CONNECT_FAIL, 0x0100)
CHECK("sizeof AFD_POLL_INFO", sizeof(afd_question), 32)
CHECK("AFD_POLL_INFO.Timeout", offsetof(afd_question, timeout), 0)
CHECK("AFD_POLL_INFO.NumberOfHandles", offsetof(afd_question, count), 8)
CHECK("AFD_POLL_INFO.Exclusive", offsetof(afd_question, exclusive), 12)
CHECK("AFD_POLL_INFO.Handles[0].Handle", offsetof(afd_question, handles[0].handle), 16)
CHECK("AFD_POLL_INFO.Handles[0].Events", offsetof(afd_question, handles[0].events), 16 + P)
CHECK("AFD_POLL_INFO.Handles[0].Status", offsetof(afd_question, handles[0].status), 20 + P)
CHECK("sizeof IO_STATUS_BLOCK", sizeof(IO_STATUS_BLOCK), 2 * P)
CHECK("OVERLAPPED.InternalHigh", offsetof(OVERLAPPED, InternalHigh),
      offsetof(IO_STATUS_BLOCK, Information))

/* ----------------------------------------------------------------------------- Winsock codes */

CHECK("WSA_OPERATION_ABORTED", RIO_OPERATION_ABORTED, WSA_OPERATION_ABORTED)
CHECK("WSA_IO_PENDING", RIO_IO_PENDING, WSA_IO_PENDING)
#define CODE(name) CHECK("WSA" #name, RIO_##name, WSA##name)
CODE(EINTR)
CODE(EBADF)
CODE(EACCES)
CODE(EFAULT)
CODE(EINVAL)
CODE(EMFILE)
CODE(EWOULDBLOCK)
CODE(EINPROGRESS)
CODE(EALREADY)
CODE(ENOTSOCK)
CODE(EDESTADDRREQ)
CODE(EMSGSIZE)
CODE(EPROTOTYPE)
CODE(ENOPROTOOPT)
CODE(EPROTONOSUPPORT)
CODE(EOPNOTSUPP)
CODE(EAFNOSUPPORT)
CODE(EADDRINUSE)
CODE(EADDRNOTAVAIL)
CODE(ENETDOWN)
CODE(ENETUNREACH)
CODE(ENETRESET)
CODE(ECONNABORTED)
CODE(ECONNRESET)
CODE(ENOBUFS)
CODE(EISCONN)
CODE(ENOTCONN)
CODE(ESHUTDOWN)
CODE(ETOOMANYREFS)
CODE(ETIMEDOUT)
CODE(ECONNREFUSED)
CODE(EHOSTDOWN)
CODE(EHOSTUNREACH)
#undef CODE
