/* datagrams.c: many datagrams in one system call, for both providers of Linux.
 *
 * Each request of a datagram socket completes by itself, so nothing is gathered; but sendmmsg and
 * recvmmsg take several. Measured on loopback, CPU µs per datagram of 64 bytes: sendto 3.4,
 * sendmmsg of 16 2.8; recvmsg 0.9, recvmmsg of 16 0.6. Nothing here ever waits (MSG_DONTWAIT): the
 * provider waits for the socket to become ready.
 *
 * An error. sendmmsg reports one that concerns the first datagram; what went out before another is
 * counted, and the error is reported when that other one is first. recvmmsg keeps an error that
 * comes after some datagrams for the next call. Such an error makes the socket readable again, so a
 * short count means that it is empty: a poll armed afterwards will see the error.
 *
 * Links: https://man7.org/linux/man-pages/man2/sendmmsg.2.html
 *        https://man7.org/linux/man-pages/man2/recvmmsg.2.html
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/datagrams.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "linux/sockets.h"

static void datagrams__count(const rio_rq *rq, uint32_t moved)
{
    rio_port_statistics *counts = &rq->hub->counts;
    counts_add(&counts->system_calls, 1);
    counts_add(&counts->submissions, 1);
    counts_add(&counts->gathered, moved > 1 ? moved - 1 : 0);
}

int datagrams_receive(rio_rq *rq)
{
    rio_lane *lane = &rq->lanes[RIO_RECEIVES];
    uint32_t waiting = rq_waiting(lane);
    uint32_t count = waiting < RQ_GATHER_MAX ? waiting : RQ_GATHER_MAX;
    struct mmsghdr messages[RQ_GATHER_MAX];
    struct iovec pieces[RQ_GATHER_MAX];
    struct sockaddr_in6 addresses[RQ_GATHER_MAX];

    assert(lane->flight == 0 && count != 0);
    for (uint32_t i = 0; i < count; i++) {
        const rio_request *request = rq_request(lane, i);
        pieces[i] = (struct iovec){ request->memory, request->length };
        messages[i].msg_hdr = (struct msghdr){ .msg_name = &addresses[i],
                                               .msg_namelen = sizeof addresses[i],
                                               .msg_iov = &pieces[i],
                                               .msg_iovlen = 1 };
    }
    int received = recvmmsg((int)rq->socket, messages, count, MSG_DONTWAIT, NULL);
    datagrams__count(rq, received > 0 ? (uint32_t)received : 0);
    for (int i = 0; i < received; i++) {
        const struct msghdr *header = &messages[i].msg_hdr;
        rq_datagram_received(rq, messages[i].msg_len, header->msg_name, header->msg_namelen,
                             (uint32_t)header->msg_flags, (header->msg_flags & MSG_TRUNC) != 0);
    }
    if (received >= 0)
        return (uint32_t)received == count;
    if (errno == EAGAIN)
        return 0;
    if (errno != EINTR)
        rq_failed(rq, RIO_RECEIVES, rio_code_of_errno(errno));
    return 1;
}

/* Number sent, or minus an errno. */
static int datagrams__send(const rio_rq *rq, struct mmsghdr *messages, uint32_t count)
{
    int sent;
    do
        sent = sendmmsg((int)rq->socket, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    datagrams__count(rq, sent > 0 ? (uint32_t)sent : 0);
    return sent < 0 ? -errno : sent;
}

static void datagrams__describe(struct mmsghdr *message, struct iovec *piece,
                                const rio_datagram *datagram)
{
    *piece = (struct iovec){ (void *)(uintptr_t)datagram->memory, datagram->length };
    message->msg_hdr = (struct msghdr){ .msg_name = (void *)(uintptr_t)datagram->remote,
                                        .msg_namelen = sockets_remote_length(datagram->remote),
                                        .msg_iov = piece,
                                        .msg_iovlen = 1 };
}

int datagrams_send(rio_rq *rq)
{
    rio_lane *lane = &rq->lanes[RIO_SENDS];
    uint32_t waiting = rq_waiting(lane);
    uint32_t count = waiting < RQ_GATHER_MAX ? waiting : RQ_GATHER_MAX;
    struct mmsghdr messages[RQ_GATHER_MAX];
    struct iovec pieces[RQ_GATHER_MAX];

    assert(lane->flight == 0 && count != 0);
    for (uint32_t i = 0; i < count; i++) {
        const rio_request *request = rq_request(lane, i);
        const char *remote = rq_envelope(lane, i)->remote;
        datagrams__describe(&messages[i], &pieces[i],
                            &(rio_datagram){ request->memory,
                                             (const RIO_SOCKADDR_INET *)(const void *)remote,
                                             request->length, 0 });
    }
    int sent = datagrams__send(rq, messages, count);
    for (int i = 0; i < sent; i++)
        rq_datagram_sent(rq, messages[i].msg_len);
    if (sent == -EAGAIN)
        return 0;
    if (sent < 0)
        rq_failed(rq, RIO_SENDS, sockets_send_code(rq, -sent));
    return 1;
}

static int64_t datagrams__send_one(const rio_rq *rq, const rio_datagram *datagram)
{
    ssize_t sent;
    do
        sent =
            sendto((int)rq->socket, datagram->memory, datagram->length, MSG_DONTWAIT | MSG_NOSIGNAL,
                   (const struct sockaddr *)(const void *)datagram->remote,
                   sockets_remote_length(datagram->remote));
    while (sent < 0 && errno == EINTR);
    datagrams__count(rq, 1);
    if (sent < 0)
        return -(int64_t)sockets_send_code(rq, errno);
    counts_add(&rq->hub->counts.bytes_sent, (uint64_t)sent);
    return 1;
}

int64_t datagrams_now(rio_rq *rq, const rio_datagram *datagrams, uint32_t count)
{
    struct mmsghdr messages[RQ_GATHER_MAX];
    struct iovec pieces[RQ_GATHER_MAX];
    uint32_t done = 0;

    if (count == 1)
        return datagrams__send_one(rq, datagrams);
    while (done < count) {
        uint32_t part = count - done < RQ_GATHER_MAX ? count - done : RQ_GATHER_MAX;
        for (uint32_t i = 0; i < part; i++)
            datagrams__describe(&messages[i], &pieces[i], &datagrams[done + i]);
        int sent = datagrams__send(rq, messages, part);
        if (sent < 0)
            return done != 0 ? (int64_t)done : -(int64_t)sockets_send_code(rq, -sent);
        for (int i = 0; i < sent; i++)
            counts_add(&rq->hub->counts.bytes_sent, messages[i].msg_len);
        done += (uint32_t)sent;
        if ((uint32_t)sent < part)
            break;
    }
    return done;
}
