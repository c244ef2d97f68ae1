/* entries.h: what the tables of both Linux providers share. */
#ifndef ZERIO_ENTRIES_H
#define ZERIO_ENTRIES_H

#include "linux/port.h"
#include "linux/sockets.h"

/* clang-format off */
#define ENTRIES_OF_PORT                                                                            \
    .size = sizeof(rio_port_table),                                                                \
    .post = port_post,                                                                             \
    .retire = port_retire,                                                                         \
    .statistics = hub_statistics,                                                                  \
    .join = port_join,                                                                             \
    .native = port_native,                                                                         \
    .leave = port_leave

#define ENTRIES_OF_PROVIDER                                                                        \
    .send_memory = requests_send_memory,                                                           \
    .receive_memory = requests_receive_memory,                                                     \
    .send_now = requests_send_now,                                                                 \
    .receive_now = requests_receive_now,                                                           \
    .socket_send = sockets_send,                                                                   \
    .socket_receive = sockets_receive,                                                             \
    .make_socket = hub_any_socket,                                                                 \
    .is_made = hub_not_made,                                                                       \
    .send_datagrams_now = requests_send_datagrams_now,                                             \
    .recall_receives = requests_recall,                                                            \
    .socket_identity = sockets_identity,                                                           \
    .guard = requests_guard,                                                                       \
    .know_stream = hub_know_stream
/* clang-format on */

#endif
