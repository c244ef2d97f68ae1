/* interests.h: what an epoll instance should report, by descriptor (interests.c). */
#ifndef ZERIO_INTERESTS_H
#define ZERIO_INTERESTS_H

#include "table/rq.h"

/* Why a descriptor is in an epoll instance; also the low three bits of its tag there. The values
 * avoid HANDLES_RQ, because request queues are tagged with their handle. */
enum interests_purpose {
    FOR_NOTHING = 0,
    FOR_WAKEUP = 1,
    FOR_ASIDE = 2,
    FOR_REST = 4,
    FOR_WATCH = 5,
    FOR_ACCEPT = 6,
    FOR_CONNECT = 7
};

#define TAG_PURPOSE 7u
#define TAG_GENERATION_SHIFT 3
#define TAG_DESCRIPTOR_SHIFT 32

typedef struct interests_entry {
    uint64_t key;
    uint32_t generation; /* of the currently valid registration */
    uint8_t purpose;
    uint8_t mask; /* 0: a watch that was to report once, and has */
    uint16_t burst; /* of a listener that only this process has: connections to try for at once */
} interests_entry;

/* By descriptor number. A tag carries the generation, so that an event of a descriptor that was
 * closed (and lives on in another process) is not mistaken for one of its successor. */
typedef struct interests_set {
    int epoll;
    uint32_t length;
    uint32_t generation;
    uint32_t stale; /* events that matched no entry since the instance was made */
    interests_entry *table;
} interests_set;

/* Registers or changes. WSAEALREADY: this descriptor is in the instance for another purpose. */
int32_t interests_put(interests_set *, int descriptor, enum interests_purpose, uint32_t mask,
                      uint64_t key);
/* 1 if it was there and the system still knew it. */
int interests_drop(interests_set *, int descriptor, enum interests_purpose);
/* The number now belongs to another file. */
void interests_forget(interests_set *, int descriptor);
interests_entry *interests_at(const interests_set *, int descriptor, enum interests_purpose);
interests_entry *interests_of(const interests_set *, uint64_t tag);
/* The same for the tag of an event, which counts as stale if there is none. */
interests_entry *interests_told(interests_set *, uint64_t tag);
/* Makes a fresh instance after stale events, with every entry whose file still has its number. 1
 * and the old one, from which the caller removes what is not an interest, and then closes it. */
int interests_renew(interests_set *, int *old);

/* An entry that was to report once must report again. */
void interests_again(const interests_set *, int descriptor, const interests_entry *);
/* Moves the request queues, too; `events` says how each is registered, 0: not at all. */
void interests_move(const rio_hub *, int old, int fresh, uint32_t (*events)(rio_rq *));
void interests_free(interests_set *);

#endif
