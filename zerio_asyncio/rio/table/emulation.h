/* emulation.h: RIO's table in user space, assembled.
 *
 * What it is. Windows keeps RIO's queues in memory shared with the kernel. Where the system has
 * nothing like that, the files of this folder keep them, and a driver (epoll.c, uring.c,
 * overlapped.c) moves the bytes:
 *
 *     RIOReceive, RIOSend ─→ lane of the request queue ─→ driver ─→ completion queue ─→ Dequeue
 *                            (ring, preallocated)                   (ring, reserved)
 *
 * requests.c makes requests, rq.c keeps them and gives the driver its part, cq.c keeps results and
 * notifies, results.c delivers them; hub.c is the port where they meet. Each knows those below:
 *
 *     requests, results → rq → cq → hub → handles, errors
 *
 * A retired queue (closed socket) lives until its last result is dequeued. A completion queue that
 * is closed before its request queues remains as a husk for the same reason. */
#ifndef ZERIO_EMULATION_H
#define ZERIO_EMULATION_H

#include "table/buffers.h"
#include "table/requests.h"
#include "table/results.h"
#include "table/rq.h"

/* The two entries that must know which table they are in, for a provider's own driver. */
#define EMULATION_CREATORS(prefix, driver)                                                         \
    static RIO_CQ RIO_CALL prefix##_create_completion_queue(                                       \
        uint32_t size, RIO_NOTIFICATION_COMPLETION *notification)                                  \
    {                                                                                              \
        return cq_create(driver, size, notification);                                              \
    }                                                                                              \
    static RIO_RQ RIO_CALL prefix##_create_request_queue(                                          \
        rio_socket socket, uint32_t receives, uint32_t receive_buffers, uint32_t sends,            \
        uint32_t send_buffers, RIO_CQ receive_cq, RIO_CQ send_cq, void *context)                   \
    {                                                                                              \
        return rq_create(driver, socket, receives, receive_buffers, sends, send_buffers,           \
                         receive_cq, send_cq, context);                                            \
    }

/* The 13 entries in Microsoft's order. */
#define EMULATION_TABLE(create_completion_queue, create_request_queue)                             \
    { sizeof(RIO_EXTENSION_FUNCTION_TABLE),                                                        \
      requests_receive,                                                                            \
      requests_receive_ex,                                                                         \
      requests_send,                                                                               \
      requests_send_ex,                                                                            \
      results_close_queue,                                                                         \
      create_completion_queue,                                                                     \
      create_request_queue,                                                                        \
      results_dequeue,                                                                             \
      buffers_deregister,                                                                          \
      cq_notify,                                                                                   \
      buffers_register,                                                                            \
      cq_resize,                                                                                   \
      rq_resize }

#endif
