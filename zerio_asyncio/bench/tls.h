/* TLS between a wire and whoever reads and writes it, by the OpenSSL of this machine. */
#ifndef ZERIO_BENCH_TLS_H
#define ZERIO_BENCH_TLS_H

#include "parts.h"

typedef struct tls_context tls_context;

/* One side of one connection. All zeros: a wire without TLS, on which nothing ever waits. It must
 * stay where it is from tls_begin to tls_free. */
typedef struct {
    void *ssl;
    const unsigned char *given; /* received, not yet decrypted */
    size_t given_size;
    unsigned char *records; /* encrypted, not yet sent */
    size_t records_size, records_sent, records_room;
} tls_link;

/* NULL: no library, no memory, or no key and certificate in that file (PEM). A client trusts
 * anybody: what a certificate is worth is no question of a measurement. */
tls_context *tls_client(void);
tls_context *tls_server(const char *certificate);
void tls_context_free(tls_context *self);

/* 0 or a negative code. */
int tls_begin(const tls_context *context, tls_link *link);
void tls_free(tls_link *link);

/* What a wire received, to be decrypted before the memory is used again: handshakes and reads go on
 * until they say WIRES_LATER, and have taken all of it then. */
void tls_give(tls_link *link, const unsigned char *bytes, size_t size);
/* 1: done; 0: more must be received; negative: it failed. Whatever it says, flush. */
int tls_handshake(tls_link *link);
/* Bytes, 0 at the end, WIRES_LATER, or another negative code. */
int64_t tls_read(tls_link *link, unsigned char *room, size_t size);
/* All of it, into records; 0 or a negative code. */
int tls_write(tls_link *link, const unsigned char *bytes, size_t size);
/* Tells the other side that no more will come. */
void tls_end(tls_link *link);
/* Sends records: 0 if none is left, WIRES_LATER, or another negative code. */
int tls_flush(wires *all, wire *wire, tls_link *link);

static inline int tls_waits(const tls_link *link)
{
    return link->records_sent < link->records_size;
}

/* What a client needs to resume: after the first bytes of a server have been read. */
void *tls_session(const tls_link *link);
void tls_session_free(void *session);
/* Between tls_begin and the handshake. */
void tls_resume(tls_link *link, void *session);
int tls_resumed(const tls_link *link);

#endif
