/* iocp_poll.h: one question to the driver of Winsock about one socket (iocp_poll.c). */
#ifndef ZERIO_IOCP_POLL_H
#define ZERIO_IOCP_POLL_H

#include "windows/iocp.h"

#define AFD_POLL_RECEIVE 0x0001u
#define AFD_POLL_SEND 0x0004u
#define AFD_POLL_DISCONNECT 0x0008u
#define AFD_POLL_ABORT 0x0010u
#define AFD_POLL_LOCAL_CLOSE 0x0020u
#define AFD_POLL_ACCEPT 0x0080u
#define AFD_POLL_CONNECT_FAIL 0x0100u

typedef struct afd_question {
    LARGE_INTEGER timeout;
    ULONG count;
    ULONG exclusive;
    struct {
        HANDLE handle;
        ULONG events;
        LONG status; /* an NTSTATUS */
    } handles[1];
} afd_question;

typedef struct iocp_poll {
    iocp_operation operation; /* first; `done` is the asker's */
    afd_question question;
} iocp_poll;

/* The socket that the driver knows, below all layers. 0 or a code. */
int32_t iocp_poll_base(SOCKET, SOCKET *base);

/* Asks: `done` is called when the socket `base` has one of these events, is closed, or the poll is
 * cancelled. The socket itself need not belong to the port. 0 or a code. */
int32_t iocp_poll_ask(iocp_port *, iocp_poll *, SOCKET base, ULONG events);

/* The events that ended it; 0 if there were none. */
static inline ULONG iocp_poll_answer(const iocp_poll *poll, int32_t code)
{
    return code == 0 && poll->question.count != 0 ? poll->question.handles[0].events : 0;
}

#endif
