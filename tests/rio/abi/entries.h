/* The 13 entries of RIO's function table, in the order and with the types of Microsoft's pages:
 *   https://learn.microsoft.com/windows/win32/api/mswsock/ns-mswsock-rio_extension_function_table
 * and, of each, .../api/mswsock/nc-mswsock-lpfn_ and its name in small letters.
 *
 * ENTRY(name, result, parameters) */
ENTRY(RIOReceive, BOOL, (RIO_RQ, PRIO_BUF, ULONG, DWORD, PVOID))
ENTRY(RIOReceiveEx, INT,
      (RIO_RQ, PRIO_BUF, ULONG, PRIO_BUF, PRIO_BUF, PRIO_BUF, PRIO_BUF, DWORD, PVOID))
ENTRY(RIOSend, BOOL, (RIO_RQ, PRIO_BUF, ULONG, DWORD, PVOID))
ENTRY(RIOSendEx, BOOL,
      (RIO_RQ, PRIO_BUF, ULONG, PRIO_BUF, PRIO_BUF, PRIO_BUF, PRIO_BUF, DWORD, PVOID))
ENTRY(RIOCloseCompletionQueue, VOID, (RIO_CQ))
ENTRY(RIOCreateCompletionQueue, RIO_CQ, (DWORD, PRIO_NOTIFICATION_COMPLETION))
ENTRY(RIOCreateRequestQueue, RIO_RQ, (SOCKET, ULONG, ULONG, ULONG, ULONG, RIO_CQ, RIO_CQ, PVOID))
ENTRY(RIODequeueCompletion, ULONG, (RIO_CQ, PRIORESULT, ULONG))
ENTRY(RIODeregisterBuffer, VOID, (RIO_BUFFERID))
ENTRY(RIONotify, INT, (RIO_CQ))
ENTRY(RIORegisterBuffer, RIO_BUFFERID, (PCHAR, DWORD))
ENTRY(RIOResizeCompletionQueue, BOOL, (RIO_CQ, DWORD))
ENTRY(RIOResizeRequestQueue, BOOL, (RIO_RQ, DWORD, DWORD))
