/* linux.c: what both Linux providers need beside RIO's queues.
 *
 * The fork mark. A port's memory is copied by fork, its epoll instance or ring is not: parent and
 * child would share it (rule 14). So each port remembers the era in which it was made, and one
 * page says which era this process lives in. MADV_WIPEONFORK (Linux 4.14) makes the kernel zero
 * that page in a child, also one that was made without the C library; pthread_atfork does the same
 * where the kernel cannot. The first port that the child makes itself begins a new era. This page
 * is process-wide because a process is what it speaks about.
 *
 * The bell. post() must wake a thread that sleeps in the kernel, from any thread and from signal
 * handlers, and should cost nothing when that thread is awake. It sets `rung`, and writes to an
 * eventfd only if `sleeping` is set. The sleeper sets `sleeping` and then looks at `rung`. Both
 * store first and load second, sequentially consistent, so one of them sees the other. Posts that
 * nobody has seen merge; the event carries the last key.
 *
 * Interests. A descriptor can be in an epoll instance once, and epoll forgets it by itself when the
 * last reference to the open file goes. So our table may be behind: changing a registration may
 * find none (ENOENT: the number was closed and is another file now, register anew), and registering
 * may find one (EEXIST: it is there for another purpose). And an entry may outlive its number here,
 * because a forked child or a duplicate keeps the file open: its events come for ever, and no call
 * can take it out. When such an event comes, a fresh instance takes the old one's place.
 *
 * Links: https://man7.org/linux/man-pages/man2/madvise.2.html
 *        https://man7.org/linux/man-pages/man7/epoll.7.html  (questions 1 and 6)
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

#ifndef EPOLLEXCLUSIVE
#define EPOLLEXCLUSIVE (1u << 28) /* kernels before 4.5 pass it over */
#endif

#define INTERESTS_MIN 64 /* descriptors; the table doubles when a higher number comes */

/* ---------------------------------------------------------------------------- the fork mark */

static uint32_t *rio__mark;
static _Atomic(uint32_t) rio__era;
static pthread_once_t rio__mark_once = PTHREAD_ONCE_INIT;

static void rio__mark_forked(void)
{
    *rio__mark = 0;
    rio_handles_forked();
}

static void rio__mark_make(void)
{
    long page = sysconf(_SC_PAGESIZE);
    void *mark = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                      0);
    if (mark == MAP_FAILED)
        return;
    (void)madvise(mark, (size_t)page, MADV_WIPEONFORK); /* refused: the handler below does it */
    rio__mark = mark;
    (void)pthread_atfork(NULL, NULL, rio__mark_forked);
}

const volatile uint32_t *rio_fork_mark(uint32_t *era)
{
    pthread_once(&rio__mark_once, rio__mark_make);
    if (rio__mark == NULL)
        return NULL;
    uint32_t now = __atomic_load_n(rio__mark, __ATOMIC_ACQUIRE);
    if (now == 0) {
        uint32_t fresh = atomic_fetch_add(&rio__era, 1) + 1;
        if (__atomic_compare_exchange_n(rio__mark, &now, fresh, 0, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            now = fresh;
    }
    *era = now;
    return rio__mark;
}

uint64_t rio_thread(void)
{
    static _Atomic(uint64_t) last;
    static _Thread_local uint64_t own;
    if (RIO_UNLIKELY(own == 0))
        own = atomic_fetch_add(&last, 1) + 1;
    return own;
}

/* ------------------------------------------------------------------------------ the wake-up */

int rio_bell_make(rio_bell *bell)
{
    bell->descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return bell->descriptor >= 0;
}

void rio_bell_close(rio_bell *bell)
{
    if (bell->descriptor >= 0)
        close(bell->descriptor);
    bell->descriptor = -1;
}

uint32_t rio_bell_ring(rio_bell *bell, uint64_t key)
{
    static const uint64_t one = 1;

    atomic_store(&bell->key, key);
    if (atomic_exchange(&bell->rung, 1) != 0 || atomic_load(&bell->sleeping) == 0)
        return 0;
    int saved = errno; /* a signal handler may stand between a call and its errno */
    ssize_t written = write(bell->descriptor, &one, sizeof one);
    (void)written; /* a full counter is a rung bell */
    errno = saved;
    return 1;
}

/* ------------------------------------------------------------------- descriptors in an epoll */

/* Makes room for a descriptor: 0 or a code. A number that is none asks for no room: the system is
 * asked first, which knows how many there can be. */
static int32_t rio__interests_reach(rio_interests *set, int descriptor)
{
    uint32_t length = set->length ? set->length : INTERESTS_MIN;
    while (length <= (uint32_t)descriptor)
        length *= 2;
    if (length == set->length)
        return 0;
    if (fcntl(descriptor, F_GETFD) < 0)
        return rio_code_of_errno(errno);
    rio_interest *table = realloc(set->table, length * sizeof *table);
    if (table == NULL)
        return RIO_ENOBUFS;
    memset(table + set->length, 0, (length - set->length) * sizeof *table);
    set->table = table;
    set->length = length;
    return 0;
}

static int32_t rio__interest_code(int error)
{
    switch (error) {
    case EPERM:
        return RIO_EOPNOTSUPP; /* a plain file or directory is always ready, epoll has none */
    case EEXIST:
        return RIO_EALREADY;
    case ENOSPC: /* fs.epoll.max_user_watches */
        return RIO_ENOBUFS;
    case ELOOP:
        return RIO_EINVAL;
    default:
        return rio_code_of_errno(error);
    }
}

static int rio__interest_tell(const rio_interests *set, int operation, int descriptor,
                              enum rio_purpose purpose, uint32_t mask, uint32_t generation)
{
    struct epoll_event event = { .events = (mask & RIO_WATCH_READ ? EPOLLIN | EPOLLRDHUP : 0u) |
                                           (mask & RIO_WATCH_WRITE ? EPOLLOUT : 0u) |
                                           (mask & RIO_WATCH_ONCE ? EPOLLONESHOT : 0u) };
    if (purpose == RIO_FOR_ACCEPT)
        event.events = EPOLLIN | EPOLLEXCLUSIVE;
    event.data.u64 = (uint64_t)(uint32_t)descriptor << RIO_TAG_DESCRIPTOR_SHIFT |
                     (uint64_t)generation << RIO_TAG_GENERATION_SHIFT | (uint64_t)purpose;
    return epoll_ctl(set->epoll, operation, descriptor, &event);
}

int32_t rio_interests_put(rio_interests *set, int descriptor, enum rio_purpose purpose,
                          uint32_t mask, uint64_t key)
{
    if (descriptor < 0)
        return RIO_EBADF;
    int32_t code = rio__interests_reach(set, descriptor);
    if (code != 0)
        return code;
    rio_interest *interest = &set->table[descriptor];
    if (purpose == RIO_FOR_ACCEPT) {
        rio_interests_drop(set, descriptor, purpose); /* an exclusive entry cannot be changed */
    } else if (interest->purpose == purpose) {
        if (rio__interest_tell(set, EPOLL_CTL_MOD, descriptor, purpose, mask,
                               interest->generation) == 0) {
            interest->mask = (uint8_t)mask;
            interest->key = key;
            return 0;
        }
        if (errno != ENOENT)
            return rio__interest_code(errno);
    }
    uint32_t generation = (set->generation + 1) & (UINT32_MAX >> RIO_TAG_GENERATION_SHIFT);
    if (rio__interest_tell(set, EPOLL_CTL_ADD, descriptor, purpose, mask, generation) != 0)
        return rio__interest_code(errno);
    set->generation = generation;
    set->active += interest->purpose == RIO_FOR_NOTHING;
    *interest = (rio_interest){ key, generation, (uint8_t)purpose, (uint8_t)mask, 0 };
    return 0;
}

int rio_interests_drop(rio_interests *set, int descriptor, enum rio_purpose purpose)
{
    rio_interest *interest = rio_interests_at(set, descriptor, purpose);
    struct epoll_event unused = { 0 };
    if (interest == NULL)
        return 0;
    interest->purpose = RIO_FOR_NOTHING;
    set->active--;
    return epoll_ctl(set->epoll, EPOLL_CTL_DEL, descriptor, &unused) == 0;
}

void rio_interests_forget(rio_interests *set, int descriptor)
{
    if ((uint32_t)descriptor < set->length && set->table[descriptor].purpose != RIO_FOR_NOTHING) {
        set->table[descriptor].purpose = RIO_FOR_NOTHING;
        set->active--;
    }
}

rio_interest *rio_interests_at(const rio_interests *set, int descriptor, enum rio_purpose purpose)
{
    if ((uint32_t)descriptor >= set->length || set->table[descriptor].purpose != purpose)
        return NULL;
    return &set->table[descriptor];
}

rio_interest *rio_interests_of(const rio_interests *set, uint64_t tag)
{
    rio_interest *interest = rio_interests_at(set, (int)(tag >> RIO_TAG_DESCRIPTOR_SHIFT),
                                              (enum rio_purpose)(tag & RIO_TAG_PURPOSE));
    if (interest == NULL || interest->generation != (uint32_t)tag >> RIO_TAG_GENERATION_SHIFT)
        return NULL;
    return interest;
}

rio_interest *rio_interests_told(rio_interests *set, uint64_t tag)
{
    rio_interest *interest = rio_interests_of(set, tag);
    set->stale += interest == NULL;
    return interest;
}

/* An entry leaves the old instance by its number only if the file is still the one it was made of,
 * so that nobody's new file is taken along. */
static int rio__leave(int old, int descriptor)
{
    struct epoll_event unused = { 0 };
    return epoll_ctl(old, EPOLL_CTL_DEL, descriptor, &unused) == 0;
}

int rio_interests_renew(rio_interests *set, int *old)
{
    int fresh = epoll_create1(EPOLL_CLOEXEC);
    set->stale = 0;
    if (fresh < 0)
        return 0; /* the next stale event tries again */
    *old = set->epoll;
    set->epoll = fresh;
    for (uint32_t i = 0; i < set->length; i++) {
        const rio_interest *interest = &set->table[i];
        if (interest->purpose != RIO_FOR_NOTHING &&
            (!rio__leave(*old, (int)i) || interest->mask == 0 ||
             rio__interest_tell(set, EPOLL_CTL_ADD, (int)i, (enum rio_purpose)interest->purpose,
                                interest->mask, interest->generation) != 0))
            rio_interests_forget(set, (int)i);
    }
    return 1;
}

void rio_linux_move(const rio_core *core, int old, int fresh, uint32_t (*events)(rio_rq *))
{
    for (uint32_t i = 0; core->table != NULL && i <= core->table_mask; i++) {
        for (rio_rq *rq = core->table[i]; rq != NULL; rq = rq->next) {
            struct epoll_event event = { .events = events(rq),
                                         .data.u64 = (uint64_t)(uintptr_t)rq->handle };
            if (event.events != 0 && rio__leave(old, (int)rq->socket))
                (void)epoll_ctl(fresh, EPOLL_CTL_ADD, (int)rq->socket, &event);
        }
    }
}

void rio_interests_free(rio_interests *set)
{
    free(set->table);
    set->table = NULL;
    set->length = 0;
    set->active = 0;
}

uint32_t rio_watch_event(rio_interests *set, uint64_t tag, uint32_t epoll_events,
                         rio_port_event *events, uint32_t room)
{
    rio_interest *interest = rio_interests_told(set, tag);
    uint32_t mask = 0;

    if (interest == NULL)
        return 0;
    if (room == 0) {
        if (interest->mask & RIO_WATCH_ONCE) /* all others are reported again by themselves */
            (void)rio__interest_tell(set, EPOLL_CTL_MOD, (int)(tag >> RIO_TAG_DESCRIPTOR_SHIFT),
                                     RIO_FOR_WATCH, interest->mask, interest->generation);
        return 0;
    }
    if (epoll_events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        mask |= RIO_WATCH_READ;
    if (epoll_events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        mask |= RIO_WATCH_WRITE;
    mask &= interest->mask;
    *events = (rio_port_event){ .kind = RIO_PORT_READY, .key = interest->key, .value = mask };
    if (interest->mask & RIO_WATCH_ONCE)
        interest->mask = 0;
    return mask != 0;
}

/* --------------------------------------------------------------------------------- the port */

rio_linux_port *rio_linux_port_begin(const rio_driver *driver, const rio_port_options *options,
                                     size_t bytes)
{
    uint32_t era = 0;
    const volatile uint32_t *mark = rio_fork_mark(&era);
    rio_linux_port *port = NULL;

    if (options != NULL && options->flags != 0)
        rio_refuse(RIO_EINVAL);
    else if (mark == NULL || (port = calloc(1, bytes)) == NULL)
        rio_refuse(RIO_ENOBUFS);
    if (port == NULL)
        return NULL;
    rio_core_begin(&port->core, driver, mark, era);
    port->core.spin.limit_ns = options != NULL ? options->spin_ns : 0;
    if (rio_bell_make(&port->bell))
        return port;
    rio_refuse(rio_code_of_errno(errno));
    free(port);
    return NULL;
}

void rio_linux_port_end(rio_linux_port *port)
{
    rio_core_end(&port->core);
    rio_inbox_free(&port->inbox);
    rio_bell_close(&port->bell);
}

uint32_t rio_linux_take(rio_linux_port *port, rio_port_event *events, uint32_t size)
{
    uint32_t count = rio_core_packets(&port->core, events, size);
    if (RIO_UNLIKELY(port->inbox.head != port->inbox.tail))
        count += rio_inbox_take(&port->inbox, events + count, size - count);
    if (count < size)
        count += (uint32_t)rio_bell_take(&port->bell, events + count);
    return count;
}

int32_t rio_linux_pending(rio_port *handle)
{
    int32_t code = 0;
    const rio_linux_port *port = rio_linux_port_of(handle, NULL, &code);
    return port != NULL && rio_linux_ready(port); /* a refusal is for wait to tell */
}

/* May come from another thread while the port is being closed: the pin keeps it alive. */
int32_t rio_linux_post(rio_port *handle, uint64_t key)
{
    rio_handle *slot = rio_handle_pin(handle, RIO_KIND_PORT);
    if (slot == NULL)
        return RIO_EINVAL;
    rio_linux_port *port = slot->object;
    int32_t code = rio_core_ours(&port->core) ? 0 : RIO_ENETDOWN;
    if (code == 0)
        (void)rio_bell_ring(&port->bell, key);
    rio_handle_unpin(slot);
    return code;
}

int32_t rio_linux_retire(rio_port *handle, rio_socket socket)
{
    int32_t code = 0;
    rio_linux_port *port = rio_linux_port_of(handle, NULL, &code);
    if (port != NULL)
        rio_core_retire(&port->core, socket);
    return code;
}

/* Readiness is asked of what is here, completion only of what went through request queues. */
int32_t rio_linux_join(rio_port *handle, rio_socket file)
{
    int32_t code = RIO_EOPNOTSUPP;
    (void)rio_linux_port_of(handle, NULL, &code);
    (void)file;
    return code;
}

uintptr_t rio_linux_native(rio_port *handle)
{
    (void)handle;
    return 0;
}

/* ------------------------------------------------------------------------------ the sockets */

void rio_socket_close(rio_socket socket)
{
    close((int)socket);
}

int rio_socket_option(rio_socket socket, int option, int *value)
{
    socklen_t length = sizeof *value;
    if (socket > INT_MAX) {
        errno = EBADF;
        return -1;
    }
    return getsockopt((int)socket, SOL_SOCKET, option, value, &length);
}

int32_t rio_socket_kind(rio_socket socket, uint8_t *stream)
{
    int type, family;
    if (rio_socket_option(socket, SO_TYPE, &type) != 0 ||
        rio_socket_option(socket, SO_DOMAIN, &family) != 0)
        return RIO_ENOTSOCK;
    if ((type != SOCK_STREAM && type != SOCK_DGRAM) ||
        (family != AF_INET && family != AF_INET6 && family != AF_UNIX))
        return RIO_EOPNOTSUPP;
    *stream = type == SOCK_STREAM;
    return 0;
}

uint32_t rio_remote_length(const void *remote)
{
    RIO_SOCKADDR_INET address;
    if (remote == NULL)
        return 0;
    memcpy(&address, remote, sizeof address);
    return address.family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* EPIPE says that sending is shut down. Either we did that (WSAESHUTDOWN), or the connection is
 * gone and its error was told to an earlier call. Both directions shut is the second case. */
int32_t rio_send_code(const rio_rq *rq, int error)
{
    if (error != EPIPE)
        return rio_code_of_errno(error);
    if (rq->broken != 0)
        return rq->broken;
    struct pollfd state = { .fd = (int)rq->socket };
    if (poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR)))
        return RIO_ECONNRESET;
    return RIO_ESHUTDOWN;
}

int rio_linux_closed_behind(const rio_rq *rq)
{
    return rio_linux_socket_identity(rq->socket) != rq->identity;
}

int64_t rio_linux_now(rio_rq *rq, enum rio_direction direction, char *memory, uint32_t length)
{
    int fd = (int)rq->socket;
    ssize_t moved;

    if (direction == RIO_RECEIVES && rio_linux_has_lost(rq))
        return -RIO_EBADF;
    do
        moved = direction == RIO_SENDS ? send(fd, memory, length, MSG_DONTWAIT | MSG_NOSIGNAL)
                                       : recv(fd, memory, length, MSG_DONTWAIT);
    while (moved < 0 && errno == EINTR);
    if (moved >= 0)
        return moved;
    return -(int64_t)(direction == RIO_SENDS ? rio_send_code(rq, errno)
                                             : rio_code_of_errno(errno));
}

static int64_t rio__moved(ssize_t bytes)
{
    if (bytes >= 0)
        return bytes;
    return errno == EAGAIN || errno == EINTR ? RIO_NOT_NOW : -(int64_t)errno;
}

int64_t rio_linux_socket_send(rio_socket socket, const void *memory, uint32_t length)
{
    if (socket > INT_MAX)
        return -EBADF;
    return rio__moved(send((int)socket, memory, length, MSG_DONTWAIT | MSG_NOSIGNAL));
}

int64_t rio_linux_socket_receive(rio_socket socket, void *memory, uint32_t length)
{
    if (socket > INT_MAX)
        return -EBADF;
    return rio__moved(recv((int)socket, memory, length, MSG_DONTWAIT));
}

/* The inode of an open file is no other's, and no two file systems' numbers meet: sockets have one
 * of their own, what else a number may stand for now has another. */
uint64_t rio_linux_socket_identity(rio_socket socket)
{
    struct stat about;
    if (socket > INT_MAX || fstat((int)socket, &about) != 0)
        return 0;
    return ((uint64_t)about.st_dev << 48 ^ (uint64_t)about.st_ino) + 1;
}

int rio_linux_gives_up(rio_rq *rq)
{
    if (RIO_LIKELY(!rio_linux_closed_behind(rq)))
        return 0;
    for (int i = 0; i < 2; i++)
        while (rq->lanes[i].flight == 0 && rio_lane_waiting(&rq->lanes[i]) != 0)
            rio_failed(rq, (enum rio_direction)i, RIO_EBADF);
    return 1;
}

int32_t rio_connect_check(rio_socket socket, const void *address, uint32_t length)
{
    uint8_t stream;
    if (address == NULL)
        return RIO_EFAULT;
    if (length == 0 || length > sizeof(struct sockaddr_storage))
        return RIO_EINVAL;
    int32_t code = rio_socket_kind(socket, &stream);
    if (code != 0 || !stream)
        return code;
    /* Linux answers the second connect of a non-blocking socket with success, once. */
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    return getpeername((int)socket, (struct sockaddr *)&peer, &size) == 0 ? RIO_EISCONN : 0;
}

rio_port_event rio_connect_event(rio_socket socket, int error, uint64_t key)
{
    return (rio_port_event){ .kind = RIO_PORT_CONNECT,
                             .status = rio_code_of_errno(error),
                             .key = key,
                             .value = socket };
}

uint32_t rio_gather(const rio_lane *lane, struct iovec *pieces, size_t *total)
{
    uint32_t count = rio_lane_waiting(lane);
    size_t room = RIO_TRANSFER_MAX;

    if (count > RIO_GATHER_MAX)
        count = RIO_GATHER_MAX;
    for (uint32_t i = 0; i < count && room != 0; i++) {
        const rio_request *request = rio_lane_request(lane, i);
        size_t rest = request->length - request->done;
        if (rest > room)
            rest = room;
        pieces[i] = (struct iovec){ request->memory + request->done, rest };
        room -= rest;
        if (room == 0)
            count = i + 1;
    }
    *total = RIO_TRANSFER_MAX - room;
    return count;
}
