/* cq.h: completion queues: waiting results, and the notification of a port (cq.c). */
#ifndef ZERIO_CQ_H
#define ZERIO_CQ_H

#include "table/hub.h"

/* A waiting result. `owner` is the request queue, with the direction and the quiet bit in the low
 * bits that its alignment leaves free. */
typedef struct rio_entry {
    int32_t status;
    uint32_t bytes;
    uint64_t context;
    uintptr_t owner;
} rio_entry;

#define CQ_OWNER_SENDS ((uintptr_t)1)
#define CQ_OWNER_QUIET ((uintptr_t)2)
#define CQ_OWNER_BITS ((uintptr_t)3)

struct rio_cq {
    rio_entry *entries; /* room for what is reserved, not for all that `size` allows */
    uint32_t mask;
    uint32_t head;
    uint32_t tail;
    uint32_t loud;    /* waiting results that may notify */
    uint8_t armed;    /* RIONotify was called and has not fired yet */
    uint8_t notifies; /* it has a port to notify; otherwise it is polled */
    uint8_t closed;   /* kept only for the request queues that still point here */
    uint8_t holds;    /* counts in the hub's `holders` (private ports) */
    uint8_t announced; /* its notification is ready for the port to take */
    rio_hub *hub;
    uint64_t key;
    void *overlapped;
    rio_cq *next_packet;
    rio_cq *previous, *next; /* in the hub's list */
    uint32_t size;           /* entries promised to the caller */
    uint32_t reserved;       /* entries promised to request queues */
    uint32_t attached;       /* lanes that point here */
    RIO_CQ handle;
};

/* The length of a ring with room for `least` entries. */
static inline uint32_t cq_length(uint32_t least)
{
    uint32_t power = 1;
    while (power < least)
        power *= 2;
    return power;
}

/* Entries of RIO's table. The first must know which table it is in. */
RIO_CQ cq_create(const rio_driver *, uint32_t size, RIO_NOTIFICATION_COMPLETION *);
int32_t RIO_CALL cq_notify(RIO_CQ);
int32_t RIO_CALL cq_resize(RIO_CQ, uint32_t);

/* Promises `more` entries: 1, or 0 if there is no room or no memory. */
int cq_reserve(rio_cq *, uint32_t more);
void cq_release(rio_cq *, uint32_t fewer);
/* One lane fewer points here; a closed queue is freed with the last. */
void cq_drop_lane(rio_cq *);
/* An armed queue has something to report. */
void cq_fire(rio_cq *);
/* A queue without a port takes this one; `holds`: it is a private port that ends with it. */
void cq_join(rio_cq *, rio_hub *, int holds);
void cq_unlink(rio_cq *);
/* Takes due notifications, at most `size`; the port's wait calls it. */
uint32_t cq_packets(rio_hub *, rio_port_event *events, uint32_t size);

#endif
