/* requests.h: entries of the tables that make requests and take them back (requests.c). */
#ifndef ZERIO_REQUESTS_H
#define ZERIO_REQUESTS_H

#include "rio.h"

int32_t RIO_CALL requests_receive(RIO_RQ, RIO_BUF *, uint32_t, uint32_t, void *);
int32_t RIO_CALL requests_send(RIO_RQ, RIO_BUF *, uint32_t, uint32_t, void *);
int32_t RIO_CALL requests_receive_ex(RIO_RQ, RIO_BUF *, uint32_t, RIO_BUF *, RIO_BUF *, RIO_BUF *,
                                     RIO_BUF *, uint32_t, void *);
int32_t RIO_CALL requests_send_ex(RIO_RQ, RIO_BUF *, uint32_t, RIO_BUF *, RIO_BUF *, RIO_BUF *,
                                  RIO_BUF *, uint32_t, void *);
int32_t requests_send_memory(RIO_RQ, const void *, uint32_t, uint32_t, void *);
int32_t requests_receive_memory(RIO_RQ, void *, uint32_t, uint32_t, void *);
int64_t requests_send_now(RIO_RQ, const void *, uint32_t);
int64_t requests_receive_now(RIO_RQ, void *, uint32_t);
int64_t requests_send_datagrams_now(RIO_RQ, const rio_datagram *, uint32_t);
int32_t requests_recall(RIO_RQ);
int32_t requests_guard(RIO_RQ, uint64_t identity);

#endif
