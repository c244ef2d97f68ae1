/* Connections on a completion port.
 *
 * A receive is posted ahead on each wire, into memory of the wire's own, and posted again when its
 * bytes have been taken and the next wait begins. A send is tried at once, without an operation of
 * its own, because the system nearly always takes all; what it does not take goes in an overlapped
 * one, and the wire takes no more until that has ended. What ends at once makes no packet
 * (FILE_SKIP_COMPLETION_PORT_ON_SUCCESS).
 *
 * A wire is in one list at most: `changed` since the last wait, or `ready`, because it has
 * something to tell. Its memory is the system's, too, while an operation is on its way; it is freed
 * after both.
 */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

enum { ACCEPTS = 16, ADDRESS = sizeof(struct sockaddr_storage) + 16, END_MS = 1000 };

typedef enum { NOWHERE, CHANGED, READY } place;

typedef struct wires_connection {
    OVERLAPPED receive, send;
    SOCKET socket;
    wire *owner; /* NULL: closed */
    struct wires_connection *next;
    place place;
    int watched;
    int receiving, sending; /* an operation is on its way */
    int has;                /* what a receive came to waits to be taken */
    int64_t got;
    int failure;         /* of a send */
    unsigned char *kept; /* copy of what an overlapped send sends */
    size_t kept_size;
    unsigned char room[1]; /* `piece` bytes */
} connection;

typedef struct {
    connection *first, **last;
} list;

typedef struct {
    OVERLAPPED overlapped;
    SOCKET socket; /* to be */
    int done;
    unsigned char addresses[2 * ADDRESS];
} acceptance;

struct wires {
    HANDLE port;
    size_t piece;
    list changed, ready;
    unsigned outstanding; /* operations */
    SOCKET listener;
    LPFN_ACCEPTEX accept;
    int family, accepted; /* of those below, done and not taken */
    acceptance acceptances[ACCEPTS];
    HANDLE commands, reader;
    int told; /* commands that have not been taken */
};

/* What a packet is about, when it is no wire. */
static char wires__listener, wires__command;

/* ---- lists ----------------------------------------------------------------------------------- */

static void wires__append(list *to, connection *one, place where)
{
    one->next = NULL;
    one->place = where;
    *to->last = one;
    to->last = &one->next;
}

static connection *wires__take(list *from)
{
    connection *one = from->first;
    if (one == NULL)
        return NULL;
    from->first = one->next;
    if (from->first == NULL)
        from->last = &from->first;
    one->place = NOWHERE;
    return one;
}

static void wires__change(wires *self, connection *one)
{
    if (one->place == NOWHERE)
        wires__append(&self->changed, one, CHANGED);
}

/* Whether it was the end of it. */
static int wires__free_if_done(connection *one)
{
    if (one->owner != NULL || one->receiving || one->sending || one->place != NOWHERE)
        return 0;
    free(one->kept);
    free(one);
    return 1;
}

/* ---- life ------------------------------------------------------------------------------------ */

wires *wires_new(size_t piece)
{
    wires *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->piece = piece;
    self->changed.last = &self->changed.first;
    self->ready.last = &self->ready.first;
    self->listener = INVALID_SOCKET;
    for (int i = 0; i < ACCEPTS; i++)
        self->acceptances[i].socket = INVALID_SOCKET;
    self->port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);
    if (self->port != NULL)
        return self;
    free(self);
    return NULL;
}

static int wires__associate(const wires *self, SOCKET socket, void *about)
{
    UCHAR modes = FILE_SKIP_COMPLETION_PORT_ON_SUCCESS | FILE_SKIP_SET_EVENT_ON_HANDLE;
    HANDLE file = (HANDLE)socket;
    if (CreateIoCompletionPort(file, self->port, (ULONG_PTR)about, 0) == NULL
        || !SetFileCompletionNotificationModes(file, modes))
        return process_code(GetLastError());
    return 0;
}

int wires_add(wires *self, wire *link, intptr_t socket)
{
    u_long on = 1;
    connection *one = calloc(1, sizeof *one + self->piece);
    if (one == NULL) {
        closesocket((SOCKET)socket);
        return -WSAENOBUFS;
    }
    one->socket = (SOCKET)socket;
    one->owner = link;
    one->watched = WIRES_READS;
    link->connection = one;
    wires__change(self, one);
    /* Sends that are no overlapped operations must not wait. */
    if (ioctlsocket(one->socket, (long)FIONBIO, &on) != 0)
        return -WSAGetLastError();
    return wires__associate(self, one->socket, one);
}

void wires_close(wires *self, wire *link)
{
    connection *one = link->connection;
    link->connection = NULL;
    closesocket(one->socket); /* ends its operations */
    one->owner = NULL;
    wires__change(self, one); /* the next wait may free it */
}

int wires_is_open(const wire *link)
{
    return link->connection != NULL;
}

/* ---- receiving and sending ------------------------------------------------------------------- */

static void wires__post_receive(wires *self, connection *one)
{
    WSABUF room = {(ULONG)self->piece, (char *)one->room};
    DWORD got = 0, flags = 0;
    memset(&one->receive, 0, sizeof one->receive);
    int status = WSARecv(one->socket, &room, 1, &got, &flags, &one->receive, NULL);
    int error = status == 0 ? 0 : WSAGetLastError();
    if (error == WSA_IO_PENDING) {
        one->receiving = 1;
        self->outstanding += 1;
        return;
    }
    one->has = 1;
    one->got = error == 0 ? (int64_t)got : -error;
}

int64_t wires_receive(wires *self, wire *link, unsigned char *room, size_t size,
                      const unsigned char **bytes)
{
    (void)room, (void)size;
    connection *one = link->connection;
    *bytes = one->room;
    if (!one->has)
        return WIRES_LATER;
    one->has = 0;
    wires__change(self, one);
    return one->got;
}

/* Leaves out the bytes that have gone, and keeps the others if nobody else does. */
static DWORD wires__rest(connection *one, WSABUF *pieces, DWORD count, DWORD sent, int lasting)
{
    DWORD first = 0;
    size_t size = 0;
    for (; first < count && sent >= pieces[first].len; first++)
        sent -= pieces[first].len;
    pieces[first].buf += sent;
    pieces[first].len -= sent;
    memmove(pieces, pieces + first, (count - first) * sizeof *pieces);
    count -= first;
    if (lasting)
        return count;
    for (DWORD i = 0; i < count; i++)
        size += pieces[i].len;
    if (size > one->kept_size) {
        free(one->kept);
        one->kept = malloc(size);
        one->kept_size = one->kept == NULL ? 0 : size;
        if (one->kept == NULL)
            return 0;
    }
    size = 0;
    for (DWORD i = 0; i < count; i++) {
        memcpy(one->kept + size, pieces[i].buf, pieces[i].len);
        size += pieces[i].len;
    }
    pieces[0] = (WSABUF){(ULONG)size, (char *)one->kept};
    return 1;
}

static int wires__post_send(wires *self, connection *one, WSABUF *pieces, DWORD count)
{
    DWORD sent = 0;
    memset(&one->send, 0, sizeof one->send);
    if (WSASend(one->socket, pieces, count, &sent, 0, &one->send, NULL) == 0)
        return 0;
    int error = WSAGetLastError();
    if (error != WSA_IO_PENDING)
        return -error;
    one->sending = 1;
    self->outstanding += 1;
    return 0;
}

int64_t wires_send(wires *self, wire *link, const wires_piece *pieces, int count, int lasting)
{
    connection *one = link->connection;
    WSABUF parts[WIRES_PIECES_MAX];
    int64_t whole = 0;
    DWORD sent = 0;
    if (one->failure != 0)
        return one->failure;
    if (one->sending)
        return WIRES_LATER;
    for (int i = 0; i < count; i++) {
        parts[i] = (WSABUF){(ULONG)pieces[i].size, (char *)pieces[i].bytes};
        whole += (int64_t)pieces[i].size;
    }
    if (WSASend(one->socket, parts, (DWORD)count, &sent, 0, NULL, NULL) != 0) {
        int error = WSAGetLastError();
        if (error != WSAEWOULDBLOCK)
            return -error;
        sent = 0;
    }
    if ((int64_t)sent == whole)
        return whole;
    DWORD left = wires__rest(one, parts, (DWORD)count, sent, lasting);
    int status = left == 0 ? -WSAENOBUFS : wires__post_send(self, one, parts, left);
    return status == 0 ? whole : status;
}

int wires_watch(wires *self, wire *link, int what)
{
    connection *one = link->connection;
    if (one->watched != what) {
        one->watched = what;
        wires__change(self, one);
    }
    return 0;
}

/* ---- accepting ------------------------------------------------------------------------------- */

static int wires__post_accept(wires *self, acceptance *one)
{
    DWORD got = 0;
    one->socket = WSASocketW(self->family, SOCK_STREAM, 0, NULL, 0, WSA_FLAG_OVERLAPPED);
    if (one->socket == INVALID_SOCKET)
        return -WSAGetLastError();
    for (;;) {
        memset(&one->overlapped, 0, sizeof one->overlapped);
        if (self->accept(self->listener, one->socket, one->addresses, 0, ADDRESS, ADDRESS, &got,
                         &one->overlapped)) {
            one->done = 1;
            self->accepted += 1;
            return 0;
        }
        int error = WSAGetLastError();
        if (error == WSA_IO_PENDING) {
            self->outstanding += 1;
            return 0;
        }
        if (error != WSAECONNRESET) { /* a client that has already gone is none */
            closesocket(one->socket);
            one->socket = INVALID_SOCKET;
            return -error;
        }
    }
}

int wires_listen(wires *self, intptr_t listener)
{
    GUID which = WSAID_ACCEPTEX;
    struct sockaddr_storage name;
    int size = sizeof name;
    DWORD got = 0;
    self->listener = (SOCKET)listener;
    if (getsockname(self->listener, (struct sockaddr *)&name, &size) != 0
        || WSAIoctl(self->listener, SIO_GET_EXTENSION_FUNCTION_POINTER, &which, sizeof which,
                    &self->accept, sizeof self->accept, &got, NULL, NULL)
               != 0)
        return -WSAGetLastError();
    self->family = name.ss_family;
    int status = wires__associate(self, self->listener, &wires__listener);
    for (int i = 0; status == 0 && i < ACCEPTS; i++)
        status = wires__post_accept(self, &self->acceptances[i]);
    return status;
}

int wires_accept(wires *self, wire *link)
{
    for (int i = 0; i < ACCEPTS; i++) {
        acceptance *one = &self->acceptances[i];
        if (!one->done)
            continue;
        SOCKET socket = one->socket;
        BOOL on = TRUE;
        one->done = 0;
        self->accepted -= 1;
        setsockopt(socket, SOL_SOCKET, SO_UPDATE_ACCEPT_CONTEXT, (char *)&self->listener,
                   sizeof self->listener);
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, (char *)&on, sizeof on);
        int status = wires__post_accept(self, one);
        if (status != 0) {
            closesocket(socket);
            return status;
        }
        if (wires_add(self, link, (intptr_t)socket) == 0)
            return 1;
        if (wires_is_open(link))
            wires_close(self, link);
    }
    return 0;
}

/* ---- commands: a pipe that cannot be waited for, so a thread reads it ------------------------ */

static DWORD WINAPI wires__read_commands(void *argument)
{
    wires *self = argument;
    char line[256];
    DWORD got = 0;
    while (ReadFile(self->commands, line, sizeof line, &got, NULL) && got > 0)
        PostQueuedCompletionStatus(self->port, 0, (ULONG_PTR)&wires__command, NULL);
    return 0;
}

int wires_listen_for_commands(wires *self, intptr_t commands)
{
    self->commands = (HANDLE)commands;
    self->reader = CreateThread(NULL, 0, wires__read_commands, self, 0, NULL);
    return self->reader == NULL ? process_code(GetLastError()) : 0;
}

int wires_take_command(wires *self)
{
    if (self->told == 0)
        return 0;
    self->told -= 1;
    return 1;
}

void wires_answer(intptr_t answers, const char *line, size_t size)
{
    DWORD written = 0;
    (void)WriteFile((HANDLE)answers, line, (DWORD)size, &written, NULL);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static int wires__what(const connection *one)
{
    int reads = one->watched & WIRES_READS && one->has;
    int sends = one->watched & WIRES_SENDS && !one->sending;
    return one->owner == NULL ? 0 : (reads ? WIRES_READS : 0) | (sends ? WIRES_SENDS : 0);
}

static void wires__settle(wires *self, connection *one)
{
    if (wires__free_if_done(one))
        return;
    if (one->owner != NULL && one->watched & WIRES_READS && !one->receiving && !one->has)
        wires__post_receive(self, one);
    if (one->place == NOWHERE && wires__what(one) != 0)
        wires__append(&self->ready, one, READY);
}

/* How many bytes an operation moved, or why it failed. */
static int64_t wires__result(const connection *one, OVERLAPPED *operation, DWORD moved)
{
    DWORD flags = 0;
    if ((LONG)operation->Internal >= 0)
        return (int64_t)moved;
    if (one->owner == NULL)
        return -WSAECONNABORTED;
    if (WSAGetOverlappedResult(one->socket, operation, &moved, FALSE, &flags))
        return (int64_t)moved;
    return -WSAGetLastError();
}

static void wires__complete(wires *self, const OVERLAPPED_ENTRY *entry)
{
    void *about = (void *)entry->lpCompletionKey;
    if (about == &wires__command) {
        self->told += 1;
        return;
    }
    self->outstanding -= 1;
    if (about == &wires__listener) {
        acceptance *done = CONTAINING_RECORD(entry->lpOverlapped, acceptance, overlapped);
        done->done = 1; /* if it failed, the first receive tells */
        self->accepted += 1;
        return;
    }
    connection *one = about;
    int64_t result = wires__result(one, entry->lpOverlapped, entry->dwNumberOfBytesTransferred);
    if (entry->lpOverlapped == &one->receive) {
        one->receiving = 0;
        one->has = 1;
        one->got = result;
    } else {
        one->sending = 0;
        one->failure = result < 0 ? (int)result : 0;
    }
    wires__settle(self, one);
}

static int wires__collect(wires *self, DWORD wait_ms)
{
    OVERLAPPED_ENTRY entries[WIRES_EVENTS_MAX];
    ULONG count = 0;
    if (!GetQueuedCompletionStatusEx(self->port, entries, WIRES_EVENTS_MAX, &count, wait_ms,
                                     FALSE)) {
        DWORD error = GetLastError();
        return error == WAIT_TIMEOUT ? 0 : process_code(error);
    }
    for (ULONG i = 0; i < count; i++)
        wires__complete(self, &entries[i]);
    return 0;
}

/* Milliseconds are all that the system knows; what is less is polled where it has to be exact. */
static DWORD wires__milliseconds(uint64_t ns, int exact)
{
    if (ns == WIRES_FOREVER)
        return INFINITE;
    if (ns == 0)
        return 0;
    return (DWORD)(ns / 1000000u) + (exact ? 0 : 1);
}

int wires_wait(wires *self, uint64_t ns, int exact, wires_event *events, int most)
{
    connection *one;
    int count = 0;
    while ((one = wires__take(&self->changed)) != NULL)
        wires__settle(self, one);
    int waits = self->ready.first == NULL && self->accepted == 0 && self->told == 0;
    int status = wires__collect(self, waits ? wires__milliseconds(ns, exact) : 0);
    if (status != 0)
        return status;
    if (self->accepted > 0 && count < most)
        events[count++] = (wires_event){NULL, WIRES_LISTENER};
    if (self->told > 0 && count < most)
        events[count++] = (wires_event){NULL, WIRES_COMMANDS};
    while (count < most && (one = wires__take(&self->ready)) != NULL) {
        int what = wires__what(one);
        wires__change(self, one);
        if (what != 0)
            events[count++] = (wires_event){one->owner, what};
    }
    return count;
}

/* ---- the end --------------------------------------------------------------------------------- */

void wires_free(wires *self)
{
    connection *one;
    if (self == NULL)
        return;
    if (self->listener != INVALID_SOCKET)
        CancelIoEx((HANDLE)self->listener, NULL);
    do {
        while ((one = wires__take(&self->ready)) != NULL)
            (void)wires__free_if_done(one);
        while ((one = wires__take(&self->changed)) != NULL)
            (void)wires__free_if_done(one);
    } while (self->outstanding > 0 && wires__collect(self, END_MS) == 0);
    if (self->reader != NULL) { /* it may wait for a line that never comes */
        CancelSynchronousIo(self->reader);
        WaitForSingleObject(self->reader, END_MS);
        CloseHandle(self->reader);
    }
    for (int i = 0; i < ACCEPTS; i++)
        if (self->acceptances[i].socket != INVALID_SOCKET)
            closesocket(self->acceptances[i].socket);
    CloseHandle(self->port);
    free(self);
}
