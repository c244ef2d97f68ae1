/* io_uring.h: what we use of io_uring's interface to the kernel, whatever headers the build machine
 * has: wheels and older distributions are built with headers that know little or nothing of it.
 * Layouts and values are the kernel's for ever; tests/rio/test_kernel_header.py compares them with
 * <linux/io_uring.h> if that exists.
 *
 * Links: https://man7.org/linux/man-pages/man2/io_uring_setup.2.html
 *        https://man7.org/linux/man-pages/man2/io_uring_enter.2.html
 *        https://man7.org/linux/man-pages/man2/io_uring_register.2.html
 */
#ifndef ZERIO_IO_URING_H
#define ZERIO_IO_URING_H

#include <stdint.h>

/* A submission entry; the flags of the operations that we use share one place. */
struct io_uring_sqe {
    uint8_t opcode;
    uint8_t flags;
    uint16_t ioprio; /* more flags of some operations */
    int32_t fd;
    uint64_t off;
    uint64_t addr;
    uint32_t len;
    union {
        uint32_t poll32_events;
        uint32_t msg_flags;
        uint32_t cancel_flags;
    };
    uint64_t user_data;
    uint64_t rest[3];
};

/* A completion entry. */
struct io_uring_cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

/* Where things are in the memory shared with the kernel. */
struct io_sqring_offsets {
    uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, resv1;
    uint64_t resv2;
};

struct io_cqring_offsets {
    uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, resv1;
    uint64_t resv2;
};

/* Passed to io_uring_setup, and filled in by it. */
struct io_uring_params {
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd;
    uint32_t resv[3];
    struct io_sqring_offsets sq_off;
    struct io_cqring_offsets cq_off;
};

struct io_uring_rsrc_update {
    uint32_t offset;
    uint32_t resv;
    uint64_t data;
};

/* For io_uring_enter; `min_wait_usec` was padding before Linux 6.12. */
struct io_uring_getevents_arg {
    uint64_t sigmask;
    uint32_t sigmask_sz;
    uint32_t min_wait_usec;
    uint64_t ts;
};

enum {
    IORING_OP_POLL_ADD = 6,
    IORING_OP_SENDMSG = 9,
    IORING_OP_RECVMSG = 10,
    IORING_OP_ASYNC_CANCEL = 14,
    IORING_OP_SEND = 26,
    IORING_OP_RECV = 27
};

enum {
    IORING_REGISTER_ENABLE_RINGS = 12,
    IORING_REGISTER_RING_FDS = 20,
    IORING_UNREGISTER_RING_FDS = 21
};

#define IORING_POLL_ADD_MULTI (1u << 0)
#define IORING_ASYNC_CANCEL_ALL (1u << 0)
#define IORING_ASYNC_CANCEL_ANY (1u << 2)
#define IORING_RECVSEND_POLL_FIRST (1u << 0)

#define IORING_CQE_F_MORE (1u << 1)
#define IORING_CQE_F_SOCK_NONEMPTY (1u << 2)

#define IORING_OFF_SQ_RING 0ull
#define IORING_OFF_SQES 0x10000000ull

#define IORING_SQ_CQ_OVERFLOW (1u << 1)
#define IORING_SQ_TASKRUN (1u << 2)

#define IORING_ENTER_GETEVENTS (1u << 0)
#define IORING_ENTER_EXT_ARG (1u << 3)
#define IORING_ENTER_REGISTERED_RING (1u << 4)
#define IORING_ENTER_NO_IOWAIT (1u << 7)

#define IORING_SETUP_CQSIZE (1u << 3)
#define IORING_SETUP_CLAMP (1u << 4)
#define IORING_SETUP_R_DISABLED (1u << 6)
#define IORING_SETUP_SUBMIT_ALL (1u << 7)
#define IORING_SETUP_COOP_TASKRUN (1u << 8)
#define IORING_SETUP_TASKRUN_FLAG (1u << 9)
#define IORING_SETUP_SINGLE_ISSUER (1u << 12)
#define IORING_SETUP_DEFER_TASKRUN (1u << 13)
#define IORING_SETUP_NO_SQARRAY (1u << 16)

#define IORING_FEAT_SINGLE_MMAP (1u << 0)
#define IORING_FEAT_NODROP (1u << 1)
#define IORING_FEAT_SUBMIT_STABLE (1u << 2)
#define IORING_FEAT_FAST_POLL (1u << 5)
#define IORING_FEAT_EXT_ARG (1u << 8)
#define IORING_FEAT_MIN_TIMEOUT (1u << 15)
#define IORING_FEAT_NO_IOWAIT (1u << 17)

#endif
