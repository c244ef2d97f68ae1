/* entries.h: what is alike in the tables of both Windows providers. */
#ifndef ZERIO_ENTRIES_H
#define ZERIO_ENTRIES_H

#include "windows/iocp_accept.h"
#include "windows/iocp_connect.h"
#include "windows/iocp_watch.h"
#include "windows/refusals.h"
#include "windows/sockets.h"

/* clang-format off */
#define ENTRIES_OF_PORT                                                                            \
    .size = sizeof(rio_port_table),                                                                \
    .pending = iocp_pending,                                                                       \
    .post = iocp_post,                                                                             \
    .watch = iocp_watch,                                                                           \
    .accept = iocp_accept,                                                                         \
    .accept_stop = iocp_accept_stop,                                                               \
    .connect = iocp_connect,                                                                       \
    .connect_stop = iocp_connect_stop,                                                             \
    .retire = iocp_retire,                                                                         \
    .park = iocp_park,                                                                             \
    .statistics = hub_statistics,                                                                  \
    .join = iocp_join_foreign,                                                                     \
    .native = iocp_native,                                                                         \
    .accept_alone = iocp_accept_alone,                                                             \
    .leave = iocp_leave

#define ENTRIES_OF_PROVIDER                                                                        \
    .receive_now = refusals_receive_now,                                                           \
    .send_datagrams_now = refusals_send_datagrams_now,                                             \
    .socket_send = sockets_send,                                                                   \
    .socket_receive = sockets_receive,                                                             \
    .socket_identity = sockets_identity,                                                           \
    .guard = requests_guard,                                                                       \
    .know_stream = hub_know_stream
/* clang-format on */

#endif
