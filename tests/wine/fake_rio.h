/* fake_rio.h: what the two files of the fake know of each other; its page is in fake_rio.c. */
#ifndef FAKE_RIO_H
#define FAKE_RIO_H

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __declspec(dllexport)

enum { DONT_NOTIFY = 1, DEFER = 2, WAITALL = 4, COMMIT_ONLY = 8 };
enum { RECEIVES = 0, SENDS = 1 };

#define INVALID_BUFFER ((void *)(ULONG_PTR)0xFFFFFFFF)
#define CORRUPT 0xFFFFFFFFu
#define QUEUE_MAX 0x08000000u
#define ADDRESS_BYTES 28u /* SOCKADDR_INET */
#define GET_MULTIPLE 0xC8000024u
#define FLAG_REGISTERED 0x100u
#define MARK 0x5A000000u
#define MARK_BITS 0xFF000000u
#define LOOK_MS 2
#define RECLAIM_TURNS 100
#define CLOSING_TURNS 50 /* of 1 ms */
#define ACKNOWLEDGED_MS 40
#define BURST_MS 30
#define TEXT_BYTES (1u << 20)

typedef struct {
    void *id;
    ULONG offset, length;
} slice;

typedef struct {
    LONG status;
    ULONG bytes;
    ULONGLONG socket_context, request_context;
} result;

typedef struct {
    int type;
    union {
        struct {
            HANDLE port;
            void *key, *overlapped;
        } iocp;
        struct {
            HANDLE event;
            BOOL reset;
        } event;
    } u;
} notification;

typedef struct buffer {
    uint32_t alive;
    char *memory;
    ULONG length;
    uint32_t uses;
} buffer;

struct request;

typedef struct queue { /* of completions */
    uint32_t alive;
    volatile LONG busy;
    DWORD size, reserved;
    result *results;
    struct request **owners;
    DWORD head, count, loud;
    int armed, notifies;
    HANDLE port;
    void *key, *overlapped;
} queue;

typedef struct lane {
    struct request *first, *last, *committed; /* the last one that may start */
    int active;
    DWORD limit, outstanding;
    queue *to;
} lane;

typedef struct requests {
    uint32_t alive;
    volatile LONG busy;
    SOCKET socket;
    DWORD number;
    int stream, ended;
    int dead;  /* accepted by a listener that was not made for it: no receive ever ends */
    int heard; /* the peer's end has been received */
    void *context;
    lane lanes[2];
    struct requests *next;
} requests;

typedef struct request {
    OVERLAPPED overlapped; /* first */
    struct request *next;
    requests *owner;
    int direction;
    char *memory, *remote, *message_flags;
    buffer *buffers[3];
    ULONG length, done;
    DWORD flags;
    void *context;
    SOCKADDR_STORAGE address;
    INT address_length;
    DWORD out_flags;
    ULONGLONG due; /* when its result may be told; 0: nobody has asked yet */
} request;

/* What fake_mode sets. */
enum {
    WORKS = 0,
    REFUSES = 1,        /* WSAIoctl fails */
    WRONG_SIZE = 2,     /* a table of another size */
    LACKS_ENTRY = 3,    /* a null entry */
    REFUSES_QUEUES = 4, /* no request queue for any socket */
    OTHER_LAYER = 5,    /* sockets answer with other functions than before */
    CORRUPTED = 6,      /* every dequeue says that the queue is damaged */
    REFUSES_BUFFERS = 7 /* no memory can be registered */
};

/* What fake_rules sets. The first ones are how Windows is, and on unless a test says otherwise. */
enum {
    NO_BLOCKING_MODE = 1,   /* FIONBIO on a socket that was made for it: WSAEOPNOTSUPP */
    NO_PLAIN_CALLS = 2,     /* send, WSARecv, TransmitFile and the like on one: WSAENOTSOCK */
    FLAGS_MATCH = 4,        /* connections of a listener of another kind never end a receive */
    NO_DATAGRAM_BUFFER = 8, /* a datagram that finds no posted receive is dropped */
    CLOSE_ABORTS = 16,      /* what a close ends has WSAECONNABORTED */
    NEEDS_A_SOCKET = 32,    /* while none is open: no buffer, no completion queue (WSAEFAULT) */
    CLOSE_RESETS = 64,      /* a close with a receive outstanding resets the connection */
    AS_WINDOWS = 127,
    COMMIT_FAILS = 128, /* the next COMMIT_ONLY, once */
    ACKNOWLEDGED = 256, /* a send ends when the peer has acknowledged it, which takes its time */
    BURSTS = 512,       /* results come many at a time */
    LAYERED = 1024,     /* sockets do not tell what is below them, but for polls */
    WAIT_PACKETS = 2048, /* ntdll has wait completion packets, which Wine 8 lacks */
    PACKETS_LATE = 4096  /* and to cancel one comes too late, once */
};

/* ------------------------------------------------------------------------------ fake_rio_work.c */

extern CRITICAL_SECTION lock;
extern HANDLE bell;
extern requests *all;
extern int recording;
extern char *calls, *violations;
extern volatile LONG mode;
extern volatile LONG rules;

void violated(const char *format, ...);
void called(const char *format, ...);
int refuse(int code); /* 0, and the code for WSAGetLastError */

/* Nobody else may be inside of this queue between the two. */
void enter(volatile LONG *busy, const char *function);
void leave(volatile LONG *busy);

DWORD mark_of(SOCKET);
int is_open(const requests *);
void fire(queue *);
void go_on(requests *, int direction); /* starts what may start and fails what cannot */
void reclaim(void);
void closing(SOCKET); /* what closesocket means to its requests */
int receives(SOCKET); /* whether a stream has receives outstanding, and its peer has not ended */

/* ----------------------------------------------------------------------------- fake_rio_hooks.c */

int WSAAPI plain_wsa_ioctl(SOCKET, DWORD code, void *in, DWORD in_bytes, void *out,
                           DWORD out_bytes, DWORD *bytes, OVERLAPPED *,
                           LPWSAOVERLAPPED_COMPLETION_ROUTINE);
int some_flagged(void);    /* whether a socket that was made for it is open */
void remember(SOCKET);     /* one was made */
int is_dead(SOCKET);       /* accepted by a listener of another kind */

#endif
