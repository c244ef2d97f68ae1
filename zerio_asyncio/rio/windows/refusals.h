/* refusals.h: entries of the provider tables that Windows cannot serve: present, and they refuse
 * (rule 12). */
#ifndef ZERIO_REFUSALS_H
#define ZERIO_REFUSALS_H

#include "rio.h"

int32_t refusals_send_memory(RIO_RQ, const void *, uint32_t length, uint32_t flags, void *context);
int32_t refusals_receive_memory(RIO_RQ, void *, uint32_t length, uint32_t flags, void *context);
int64_t refusals_send_now(RIO_RQ, const void *, uint32_t length);
int64_t refusals_receive_now(RIO_RQ, void *, uint32_t length);
int64_t refusals_send_datagrams_now(RIO_RQ, const rio_datagram *, uint32_t count);
int32_t refusals_recall(RIO_RQ);

#endif
