/* sockets.h: cold questions about sockets, and operations on one without a request. */
#ifndef ZERIO_SOCKETS_H
#define ZERIO_SOCKETS_H

#include <sys/uio.h>

#include "table/rq.h"

void sockets_close(rio_socket);
/* 0 and whether it carries bytes or datagrams; WSAENOTSOCK, WSAEOPNOTSUPP. */
int32_t sockets_kind(rio_socket, uint8_t *stream);
/* The same for a new request queue, which has its port; the caller may know it already. */
int32_t sockets_learn(rio_rq *);
int sockets_option(rio_socket, int option, int *value);
/* Size in bytes of the system's address in a RIO_SOCKADDR_INET; 0 for null. */
uint32_t sockets_remote_length(const void *remote);
/* The code of a send that failed: EPIPE has two meanings. */
int32_t sockets_send_code(const rio_rq *, int error);
/* Describes the first waiting sends of a stream, at most RQ_GATHER_MAX; returns how many. */
uint32_t sockets_gather(const rio_lane *, struct iovec *pieces, size_t *total_bytes);
/* The driver's `now`. */
int64_t sockets_now(rio_rq *, enum rio_direction, char *memory, uint32_t length);
/* Entries of the provider table. */
int64_t sockets_send(rio_socket, const void *memory, uint32_t length);
int64_t sockets_receive(rio_socket, void *memory, uint32_t length);
uint64_t sockets_identity(rio_socket);

/* 1 if a guarded queue's socket was closed. */
int sockets_closed_behind(const rio_rq *);
/* The same; if so, what waits and is not in the system has failed. */
int sockets_give_up(rio_rq *);

static inline int sockets_lost(const rio_rq *rq)
{
    return RIO_UNLIKELY(rq->identity != 0) && sockets_closed_behind(rq);
}

static inline int sockets_gone(rio_rq *rq)
{
    return RIO_UNLIKELY(rq->identity != 0) && sockets_give_up(rq);
}

#endif
