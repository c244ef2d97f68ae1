/* OpenSSL, looked up when it is asked for, with prototypes of our own.
 *
 * A clean machine has the library, for Python wants it, but not its headers. So nothing of it is
 * compiled in: functions are found by name, and types are pointers to nothing known. All that is
 * used here has been the same from OpenSSL 1.1.1 on.
 *
 * Memory. The library reads and writes through a BIO, and ours is no more than two pointers: it
 * decrypts out of the memory into which the system received, and encrypts into the memory that is
 * sent, in one call for all records of a message. A BIO on the socket would make two calls for
 * every record received, and one for every record sent: that would be no limit.
 */
#include "tls.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef int (*tls__reader)(void *, char *, int);
typedef int (*tls__writer)(void *, const char *, int);
typedef long (*tls__controller)(void *, int, long, void *);

#define TLS__FUNCTIONS(F)                                                                          \
    F(const char *, OpenSSL_version, (int))                                                        \
    F(const void *, TLS_client_method, (void))                                                     \
    F(const void *, TLS_server_method, (void))                                                     \
    F(void *, SSL_CTX_new, (const void *))                                                         \
    F(void, SSL_CTX_free, (void *))                                                                \
    F(int, SSL_CTX_use_certificate_chain_file, (void *, const char *))                             \
    F(int, SSL_CTX_use_PrivateKey_file, (void *, const char *, int))                               \
    F(void *, SSL_new, (void *))                                                                   \
    F(void, SSL_free, (void *))                                                                    \
    F(void, SSL_set_bio, (void *, void *, void *))                                                 \
    F(void, SSL_set_connect_state, (void *))                                                       \
    F(void, SSL_set_accept_state, (void *))                                                        \
    F(int, SSL_do_handshake, (void *))                                                             \
    F(int, SSL_read, (void *, void *, int))                                                        \
    F(int, SSL_write, (void *, const void *, int))                                                 \
    F(int, SSL_shutdown, (void *))                                                                 \
    F(int, SSL_get_error, (const void *, int))                                                     \
    F(void *, SSL_get1_session, (void *))                                                          \
    F(int, SSL_set_session, (void *, void *))                                                      \
    F(int, SSL_session_reused, (const void *))                                                     \
    F(void, SSL_SESSION_free, (void *))                                                            \
    F(void, ERR_clear_error, (void))                                                               \
    F(int, BIO_get_new_index, (void))                                                              \
    F(void *, BIO_meth_new, (int, const char *))                                                   \
    F(int, BIO_meth_set_read, (void *, tls__reader))                                               \
    F(int, BIO_meth_set_write, (void *, tls__writer))                                              \
    F(int, BIO_meth_set_ctrl, (void *, tls__controller))                                           \
    F(void *, BIO_new, (const void *))                                                             \
    F(void, BIO_set_data, (void *, void *))                                                        \
    F(void *, BIO_get_data, (void *))                                                              \
    F(void, BIO_set_init, (void *, int))                                                           \
    F(void, BIO_set_flags, (void *, int))                                                          \
    F(void, BIO_clear_flags, (void *, int))

#define TLS__MEMBER(result, name, arguments) result(*name) arguments;
#define TLS__NAME(result, name, arguments) #name,

static struct {
    TLS__FUNCTIONS(TLS__MEMBER)
} tls__ssl;

static const char *const tls__names[] = {TLS__FUNCTIONS(TLS__NAME)};
static const char *const tls__libraries[] = {"libssl.so.3", "libssl.so.1.1"};

enum { TLS__COUNT = sizeof tls__names / sizeof *tls__names };

/* Numbers of its headers. */
enum {
    FILE_IS_PEM = 1,
    ERROR_WANT_READ = 2,
    ERROR_ZERO_RETURN = 6,
    BIO_IS_SOURCE_AND_SINK = 0x400,
    BIO_FLUSHES = 11,
    BIO_READ_AGAIN = 0x01 | 0x08,
};

enum { RECORDS_MIN = 4096 };

static void *tls__method; /* of our BIO; NULL: the library has not been loaded */

struct tls_context {
    void *context;
    int serves;
};

/* ---- the BIO --------------------------------------------------------------------------------- */

static int tls__take(void *bio, char *room, int size)
{
    tls_link *link = tls__ssl.BIO_get_data(bio);
    tls__ssl.BIO_clear_flags(bio, BIO_READ_AGAIN);
    if (link->given_size == 0) {
        tls__ssl.BIO_set_flags(bio, BIO_READ_AGAIN);
        return -1;
    }
    size_t part = link->given_size < (size_t)size ? link->given_size : (size_t)size;
    memcpy(room, link->given, part);
    link->given += part;
    link->given_size -= part;
    return (int)part;
}

static int tls__put(void *bio, const char *bytes, int size)
{
    tls_link *link = tls__ssl.BIO_get_data(bio);
    size_t needed = link->records_size + (size_t)size;
    if (needed > link->records_room) {
        size_t room = link->records_room == 0 ? RECORDS_MIN : link->records_room;
        while (room < needed)
            room *= 2;
        unsigned char *larger = realloc(link->records, room);
        if (larger == NULL)
            return -1;
        link->records = larger;
        link->records_room = room;
    }
    memcpy(link->records + link->records_size, bytes, (size_t)size);
    link->records_size = needed;
    return size;
}

static long tls__control(void *bio, int command, long number, void *about)
{
    (void)bio, (void)number, (void)about;
    return command == BIO_FLUSHES;
}

/* ---- the library ----------------------------------------------------------------------------- */

/* Functions and data have pointers of one size wherever there is a dynamic linker. */
static int tls__find(void *library)
{
    void *found[TLS__COUNT];
    for (int i = 0; i < TLS__COUNT; i++)
        if ((found[i] = library_symbol(library, tls__names[i])) == NULL)
            return 0;
    memcpy(&tls__ssl, found, sizeof tls__ssl);
    return 1;
}

static int tls__load(void)
{
    void *library = NULL;
    for (size_t i = 0; i < sizeof tls__libraries / sizeof *tls__libraries && library == NULL; i++)
        library = library_open(tls__libraries[i]);
    if (library == NULL || !tls__find(library))
        return 0;
    int index = tls__ssl.BIO_get_new_index();
    void *method = tls__ssl.BIO_meth_new(index | BIO_IS_SOURCE_AND_SINK, "wire");
    if (method == NULL)
        return 0;
    tls__ssl.BIO_meth_set_read(method, tls__take);
    tls__ssl.BIO_meth_set_write(method, tls__put);
    tls__ssl.BIO_meth_set_ctrl(method, tls__control);
    tls__method = method;
    return 1;
}

const char *tls_version(void)
{
    return tls__method != NULL || tls__load() ? tls__ssl.OpenSSL_version(0) : NULL;
}

/* ---- contexts -------------------------------------------------------------------------------- */

static tls_context *tls__context(int serves)
{
    tls_context *self = tls_version() == NULL ? NULL : calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->serves = serves;
    self->context = tls__ssl.SSL_CTX_new(serves ? tls__ssl.TLS_server_method()
                                                : tls__ssl.TLS_client_method());
    if (self->context != NULL)
        return self;
    free(self);
    return NULL;
}

tls_context *tls_client(void)
{
    return tls__context(0);
}

tls_context *tls_server(const char *certificate)
{
    tls_context *self = tls__context(1);
    if (self == NULL)
        return NULL;
    if (tls__ssl.SSL_CTX_use_certificate_chain_file(self->context, certificate) == 1
        && tls__ssl.SSL_CTX_use_PrivateKey_file(self->context, certificate, FILE_IS_PEM) == 1)
        return self;
    tls_context_free(self);
    return NULL;
}

void tls_context_free(tls_context *self)
{
    if (self == NULL)
        return;
    tls__ssl.SSL_CTX_free(self->context);
    free(self);
}

/* ---- links ----------------------------------------------------------------------------------- */

int tls_begin(const tls_context *context, tls_link *link)
{
    memset(link, 0, sizeof *link);
    link->ssl = tls__ssl.SSL_new(context->context);
    void *bio = link->ssl == NULL ? NULL : tls__ssl.BIO_new(tls__method);
    if (bio == NULL) {
        tls_free(link);
        return -SYSTEM_NO_MEMORY;
    }
    tls__ssl.BIO_set_data(bio, link);
    tls__ssl.BIO_set_init(bio, 1);
    tls__ssl.SSL_set_bio(link->ssl, bio, bio); /* it is freed with the link */
    if (context->serves)
        tls__ssl.SSL_set_accept_state(link->ssl);
    else
        tls__ssl.SSL_set_connect_state(link->ssl);
    return 0;
}

void tls_free(tls_link *link)
{
    if (link->ssl != NULL)
        tls__ssl.SSL_free(link->ssl);
    free(link->records);
    memset(link, 0, sizeof *link);
}

void tls_give(tls_link *link, const unsigned char *bytes, size_t size)
{
    link->given = bytes;
    link->given_size = size;
}

/* What a call that did not succeed means. */
static int tls__outcome(const tls_link *link, int status)
{
    int error = tls__ssl.SSL_get_error(link->ssl, status);
    if (error == ERROR_WANT_READ)
        return WIRES_LATER;
    if (error == ERROR_ZERO_RETURN)
        return 0;
    tls__ssl.ERR_clear_error(); /* errors are kept for the thread, not for the connection */
    return -SYSTEM_PROTOCOL;
}

int tls_handshake(tls_link *link)
{
    int status = tls__ssl.SSL_do_handshake(link->ssl);
    if (status == 1)
        return 1;
    status = tls__outcome(link, status);
    return status == WIRES_LATER ? 0 : -SYSTEM_PROTOCOL;
}

int64_t tls_read(tls_link *link, unsigned char *room, size_t size)
{
    int got = tls__ssl.SSL_read(link->ssl, room, size > INT_MAX ? INT_MAX : (int)size);
    return got > 0 ? got : tls__outcome(link, got);
}

int tls_write(tls_link *link, const unsigned char *bytes, size_t size)
{
    while (size > 0) {
        int part = size > INT_MAX ? INT_MAX : (int)size;
        int status = tls__ssl.SSL_write(link->ssl, bytes, part);
        if (status != part) { /* records are never refused: only an error is left */
            tls__ssl.ERR_clear_error();
            return -SYSTEM_PROTOCOL;
        }
        bytes += part;
        size -= (size_t)part;
    }
    return 0;
}

void tls_end(tls_link *link)
{
    if (tls__ssl.SSL_shutdown(link->ssl) < 0)
        tls__ssl.ERR_clear_error(); /* it never began, or it failed: there is nothing to tell */
}

int tls_flush(wires *all, wire *wire, tls_link *link)
{
    while (tls_waits(link)) {
        wires_piece piece = {link->records + link->records_sent,
                             link->records_size - link->records_sent};
        int64_t sent = wires_send(all, wire, &piece, 1, 0);
        if (sent < 0)
            return (int)sent;
        link->records_sent += (size_t)sent;
    }
    link->records_size = link->records_sent = 0;
    return 0;
}

/* ---- resumption ------------------------------------------------------------------------------ */

void *tls_session(const tls_link *link)
{
    return tls__ssl.SSL_get1_session(link->ssl);
}

void tls_session_free(void *session)
{
    if (session != NULL)
        tls__ssl.SSL_SESSION_free(session);
}

void tls_resume(tls_link *link, void *session)
{
    tls__ssl.SSL_set_session(link->ssl, session);
}

int tls_resumed(const tls_link *link)
{
    return tls__ssl.SSL_session_reused(link->ssl);
}
