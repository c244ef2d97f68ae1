"""DirectRecords: the TLS engine that calls the OpenSSL of the interpreter's ``ssl``.

An ``SSLObject`` of ``SSLContext.wrap_bio`` is made as for the portable engine, so host names, SNI,
certificates and every other choice of the context stay the interpreter's. Then its ``SSL *`` gets a
BIO of ours in the place of the two ``MemoryBIO``: reads come straight out of the received slice,
records go into memory that is handed to the system. Reading and writing are calls of ours, without
an object per record, and so is the handshake, without an exception for each wait; its end and its
failure, as the shutdown, remain calls of the ``SSLObject``.

Where the ``SSL *`` is: the object of ``_ssl`` has it directly before the pointer to its context, in
every version of Python so far. ``prove`` looks for a word that is the context's address, then makes
a handshake in memory and sends a byte each way. Unless all of that succeeds, the engine is not
offered; and each connection looks at the word again before anything is followed.

An error of a read or a write must be an exception with the interpreter's own words. OpenSSL keeps
it in a queue per thread, and a failed ``SSL *`` fails again: so ``sslobj.read`` is called, which
finds the queue as it was left, and raises.
"""

import ssl

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.object cimport PyObject
from libc.stdint cimport uintptr_t
from libc.string cimport memcpy

from zerio_asyncio.core.sending cimport SendingTransport
from zerio_asyncio.core.threads cimport FREE_THREADED
from zerio_asyncio.core.tls_records cimport (
    ENDED_BY_PEER, NOTHING_NOW, PIECE_MAX, RECORD_MAX, PortableRecords, hand_on)

from zerio_asyncio.core.openssl import FUNCTIONS, NotFoundError, addresses

cdef enum:
    # OpenSSL's, from its headers: they are part of its binary interface.
    SSL_ERROR_SSL = 1
    SSL_ERROR_WANT_READ = 2
    SSL_ERROR_WANT_WRITE = 3
    SSL_ERROR_ZERO_RETURN = 6
    BIO_TYPE_SOURCE_SINK = 0x0400
    BIO_CTRL_PENDING = 10
    BIO_CTRL_FLUSH = 11
    BIO_FLAGS_READ = 0x01
    BIO_FLAGS_SHOULD_RETRY = 0x08
    BIO_FLAGS_OF_RETRY = 0x0F
    # What a record adds to its plain bytes, at most.
    RECORD_OVERHEAD = 512
    # What one write may need: the room that connections lend each other.
    SHARED_ROOM = PIECE_MAX + 5 * RECORD_OVERHEAD
    # From so many bytes on, encrypting takes longer than another thread may have to wait.
    UNLOCKED_MIN = 2 * RECORD_MAX

ctypedef int (*bio_read_ex)(void *, char *, size_t, size_t *) noexcept nogil
ctypedef int (*bio_write_ex)(void *, const char *, size_t, size_t *) noexcept nogil
ctypedef long (*bio_ctrl)(void *, int, long, void *) noexcept nogil
ctypedef int (*bio_destroy)(void *) noexcept nogil

cdef struct Functions:
    void (*SSL_set_bio)(void *, void *, void *) noexcept nogil
    int (*SSL_do_handshake)(void *) noexcept nogil
    int (*SSL_read_ex)(void *, void *, size_t, size_t *) noexcept nogil
    int (*SSL_write_ex)(void *, const void *, size_t, size_t *) noexcept nogil
    int (*SSL_pending)(const void *) noexcept nogil
    int (*SSL_get_error)(const void *, int) noexcept nogil
    const char *(*OpenSSL_version)(int) noexcept nogil
    unsigned long (*ERR_peek_error)() noexcept nogil
    void (*ERR_clear_error)() noexcept nogil
    int (*BIO_get_new_index)() noexcept nogil
    void *(*BIO_meth_new)(int, const char *) noexcept nogil
    int (*BIO_meth_set_read_ex)(void *, bio_read_ex) noexcept nogil
    int (*BIO_meth_set_write_ex)(void *, bio_write_ex) noexcept nogil
    int (*BIO_meth_set_ctrl)(void *, bio_ctrl) noexcept nogil
    int (*BIO_meth_set_destroy)(void *, bio_destroy) noexcept nogil
    void *(*BIO_new)(void *) noexcept nogil
    int (*BIO_free)(void *) noexcept nogil
    int (*BIO_up_ref)(void *) noexcept nogil
    void (*BIO_set_data)(void *, void *) noexcept nogil
    void *(*BIO_get_data)(void *) noexcept nogil
    void (*BIO_set_init)(void *, int) noexcept nogil
    void (*BIO_set_flags)(void *, int) noexcept nogil
    void (*BIO_clear_flags)(void *, int) noexcept nogil

cdef Functions openssl
# The BIO_METHOD, null until `prove` has made it; and where the SSL * is, in words.
cdef void *method = NULL
cdef Py_ssize_t ssl_place = 0
cdef object inner_type = None    # the class of _ssl that has it


# --------------------------------------------------------------------------- the BIO

cdef int wire_read(void *bio, char *memory, size_t room, size_t *count) noexcept nogil:
    cdef Wire *wire = <Wire *>openssl.BIO_get_data(bio)
    openssl.BIO_clear_flags(bio, BIO_FLAGS_OF_RETRY)
    if wire.incoming_left == 0:
        openssl.BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
        count[0] = 0
        return 0
    if room > wire.incoming_left:
        room = wire.incoming_left
    memcpy(memory, wire.incoming, room)
    wire.incoming += room
    wire.incoming_left -= room
    count[0] = room
    return 1


cdef bint may_be_records(Wire *wire) noexcept:
    """False: from OpenSSL 3.2 on, such a failure of the handshake is told only once."""
    return wire.incoming_left == 0 or (
        wire.incoming_left > 1 and 20 <= wire.incoming[0] <= 23 and wire.incoming[1] == 3)


cdef bint make_room(Wire *wire, size_t length) noexcept nogil:
    cdef size_t room = wire.outgoing_length + length
    cdef char *memory
    if room <= wire.outgoing_room:
        return True
    room = max(room, 2 * wire.outgoing_room)
    memory = <char *>PyMem_RawRealloc(wire.outgoing, room)
    if memory is NULL:
        return False
    wire.outgoing = memory
    wire.outgoing_room = room
    return True


# Most connections wait most of the time, and need no room for records meanwhile. So one room goes
# from one connection to the next; with the interpreter's lock, as it is taken and given.
cdef char *shared_room = NULL


cdef int take_room(Wire *wire) except -1:
    global shared_room
    if wire.outgoing is NULL and not FREE_THREADED:
        if shared_room is NULL:
            shared_room = <char *>PyMem_RawMalloc(SHARED_ROOM)
        if shared_room is not NULL:
            wire.outgoing = shared_room
            wire.outgoing_room = SHARED_ROOM
            shared_room = NULL
    return 0


cdef int give_room(Wire *wire) except -1:
    global shared_room
    if shared_room is NULL and wire.outgoing_room == SHARED_ROOM and not FREE_THREADED:
        shared_room = wire.outgoing
    else:
        PyMem_RawFree(wire.outgoing)
    wire.outgoing = NULL
    wire.outgoing_room = 0
    return 0


cdef int wire_write(void *bio, const char *memory, size_t length, size_t *count) noexcept nogil:
    cdef Wire *wire = <Wire *>openssl.BIO_get_data(bio)
    openssl.BIO_clear_flags(bio, BIO_FLAGS_OF_RETRY)
    if not make_room(wire, length):
        count[0] = 0
        return 0
    memcpy(wire.outgoing + wire.outgoing_length, memory, length)
    wire.outgoing_length += length
    count[0] = length
    return 1


cdef long wire_ctrl(void *bio, int command, long number, void *pointer) noexcept nogil:
    if command == BIO_CTRL_FLUSH:
        return 1
    if command == BIO_CTRL_PENDING:
        return <long>(<Wire *>openssl.BIO_get_data(bio)).incoming_left
    return 0


cdef int wire_destroy(void *bio) noexcept nogil:
    cdef Wire *wire = <Wire *>openssl.BIO_get_data(bio)
    if wire is not NULL:
        openssl.BIO_set_data(bio, NULL)
        PyMem_RawFree(wire.outgoing)
        PyMem_RawFree(wire)
    return 1


# ---------------------------------------------------------------------- one connection

cdef class DirectRecords(TLSRecords):
    """For an ``SSLObject`` of ``wrap_bio``, once ``prove`` has succeeded; see ``make_records``."""

    def __init__(self, sslobj):
        if method is NULL:
            raise RuntimeError("nobody has proved that this engine works here")
        if self.bio is not NULL:
            raise RuntimeError("made once")
        self.ssl = ssl_of(sslobj, ssl_place)
        if self.ssl is NULL:
            raise RuntimeError("an SSL object whose layout is unlike the one that was proved")
        self.sslobj = sslobj
        self.wire = <Wire *>PyMem_RawCalloc(1, sizeof(Wire))
        self.bio = openssl.BIO_new(method)
        if self.wire is NULL or self.bio is NULL:
            PyMem_RawFree(self.wire)
            self.wire = NULL
            raise MemoryError("no memory for a TLS connection")
        openssl.BIO_set_data(self.bio, self.wire)
        openssl.BIO_set_init(self.bio, 1)
        openssl.BIO_up_ref(self.bio)  # for the SSL *, which takes one for both directions
        openssl.SSL_set_bio(self.ssl, self.bio, self.bio)

    def __dealloc__(self):
        # The program may still have the SSLObject, and that the BIO.
        if self.wire is not NULL:
            self.wire.incoming_left = 0
        if self.bio is not NULL:
            openssl.BIO_free(self.bio)

    cdef int lend(self, const char *memory, size_t length) except -1:
        self.wire.incoming = memory
        self.wire.incoming_left = length
        return 0

    cdef size_t take_back(self) noexcept:
        cdef size_t left = self.wire.incoming_left
        self.wire.incoming = NULL
        self.wire.incoming_left = 0
        return left

    cdef bint shake(self) except -1:
        cdef int result
        if not may_be_records(self.wire):
            return TLSRecords.shake(self)
        take_room(self.wire)
        if openssl.ERR_peek_error():
            openssl.ERR_clear_error()
        with nogil:
            result = openssl.SSL_do_handshake(self.ssl)
        if result != 1:
            result = openssl.SSL_get_error(self.ssl, result)
        if self.wire.outgoing_length == 0:
            give_room(self.wire)
        if result == SSL_ERROR_WANT_READ or result == SSL_ERROR_WANT_WRITE:
            return False
        # The end, or what must be an exception: both are the interpreter's.
        if TLSRecords.shake(self):
            return True
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, "the peer does not speak TLS")

    cdef bint readable(self) except -1:
        return self.wire.incoming_left != 0 or openssl.SSL_pending(self.ssl) != 0

    cdef Py_ssize_t read(self, char *memory, size_t room) except? -2:
        cdef size_t count = 0
        cdef int result
        if not self.readable():
            return NOTHING_NOW
        if openssl.ERR_peek_error():
            openssl.ERR_clear_error()
        if self.wire.incoming_left >= UNLOCKED_MIN:
            with nogil:
                result = openssl.SSL_read_ex(self.ssl, memory, room, &count)
        else:
            result = openssl.SSL_read_ex(self.ssl, memory, room, &count)
        if result == 1:
            return <Py_ssize_t>count
        result = openssl.SSL_get_error(self.ssl, result)
        if result == SSL_ERROR_WANT_READ or result == SSL_ERROR_WANT_WRITE:
            return NOTHING_NOW
        if result == SSL_ERROR_ZERO_RETURN:
            return ENDED_BY_PEER
        raise self._error()

    cdef Py_ssize_t write(self, const char *memory, size_t length) except? -2:
        cdef size_t count = 0
        cdef int result
        take_room(self.wire)
        if not make_room(self.wire, length + RECORD_OVERHEAD * (1 + length // RECORD_MAX)):
            raise MemoryError("no memory for a TLS record")
        if openssl.ERR_peek_error():
            openssl.ERR_clear_error()
        if length >= UNLOCKED_MIN:
            with nogil:
                result = openssl.SSL_write_ex(self.ssl, memory, length, &count)
        else:
            result = openssl.SSL_write_ex(self.ssl, memory, length, &count)
        if result == 1:
            return <Py_ssize_t>count
        result = openssl.SSL_get_error(self.ssl, result)
        if result == SSL_ERROR_WANT_READ or result == SSL_ERROR_WANT_WRITE:
            return NOTHING_NOW
        raise self._error()

    cdef object _error(self):
        """The exception for what OpenSSL has left in its queue."""
        try:
            self.sslobj.read(1)
        except ssl.SSLError as exc:
            return exc
        finally:
            openssl.ERR_clear_error()
        return ssl.SSLError("a failed TLS connection has recovered")

    cdef int send(self, SendingTransport stream) except -1:
        cdef Wire *wire = self.wire
        cdef size_t length = wire.outgoing_length
        if length:
            wire.outgoing_length = 0
            hand_on(stream, None, wire.outgoing, length)
            if wire.outgoing_length == 0:
                give_room(wire)
        return 0


# --------------------------------------------------------------------------- the proof

cdef void *ssl_of(object sslobj, Py_ssize_t place) except? NULL:
    """The SSL * of an SSLObject, which must stand before its context; null if it does not."""
    cdef object inner = sslobj._sslobj
    cdef object context = inner.context
    cdef uintptr_t *words = <uintptr_t *><PyObject *>inner
    if (type(inner) is not inner_type
            or words[place + 1] != <uintptr_t><PyObject *>context):
        return NULL
    return <void *>words[place]


def make_records(context, **options):
    """Records for a connection; ``options`` are those of ``SSLContext.wrap_bio``.

    A context may make objects of its own: what these do at every read and write must not be
    missed, so they get the portable engine. So does a callback that is told of messages: ``ssl``
    keeps what it raises for the end of its own reads and writes.
    """
    cdef PortableRecords portable = PortableRecords(context, **options)
    cdef object kind = type(portable.sslobj)
    if (getattr(kind, "read", None) is not ssl.SSLObject.read
            or getattr(kind, "write", None) is not ssl.SSLObject.write
            or getattr(kind, "do_handshake", None) is not ssl.SSLObject.do_handshake
            or getattr(context, "_msg_callback", None) is not None
            or ssl_of(portable.sslobj, ssl_place) is NULL):
        return portable
    return DirectRecords(portable.sslobj)


cdef Py_ssize_t find_place(object sslobj, object context) except -1:
    cdef object inner = sslobj._sslobj
    global inner_type
    inner_type = type(inner)
    cdef Py_ssize_t size = type(inner).__basicsize__ // <Py_ssize_t>sizeof(uintptr_t)
    cdef Py_ssize_t head = object.__basicsize__ // <Py_ssize_t>sizeof(uintptr_t)
    cdef uintptr_t *words = <uintptr_t *><PyObject *>inner
    cdef Py_ssize_t place
    for place in range(head, size - 1):
        if (words[place + 1] == <uintptr_t><PyObject *>context and words[place] > 4096
                and words[place] % sizeof(uintptr_t) == 0):
            return place
    raise NotFoundError("the objects of ssl have another layout")


def prove():
    """Find all that is needed, and prove it in memory; None, or why it does not work here."""
    global method
    if method is not NULL:
        return None
    try:
        refuse_broken()
    except NotFoundError as refusal:
        method = NULL
        return str(refusal)
    except Exception as error:
        method = NULL
        return f"its proof failed: {error!r}"
    return None


# The steps of the proof. Each does those before it, so that it can be asked for alone.

def find_functions():
    """OpenSSL, as ``ssl`` has loaded it, and all of its functions that are needed."""
    look_up(addresses())


def find_connection():
    """The place of the SSL * in the objects of ``ssl``."""
    global ssl_place
    find_functions()
    ssl_place = find_place_twice()


def make_bio():
    """The methods of a BIO of ours."""
    global method
    find_connection()
    if method is NULL:
        method = new_method()


def shake_hands():
    """A handshake in memory: the records of both sides, client's and server's."""
    make_bio()
    cdef DirectRecords client = in_memory(ssl.PROTOCOL_TLS_CLIENT, False)
    cdef DirectRecords server = in_memory(ssl.PROTOCOL_TLS_SERVER, True)
    shakes(client, b"")
    shakes(server, carried(client))
    shakes(client, carried(server))
    if not shakes(server, carried(client)) or not shakes(client, carried(server)):
        raise NotFoundError("its proof failed: no handshake")
    return client, server


def pass_bytes():
    """A byte each way, after a handshake; the records of both sides again."""
    cdef DirectRecords giver, taker
    cdef char memory[16]
    client, server = shake_hands()
    for giver, taker in ((client, server), (server, client)):
        giver.write(b"?", 1)
        if reads(taker, carried(giver), memory) != 1 or memory[0] != c"?":
            raise NotFoundError("its proof failed: a byte was lost")
    return client, server


def refuse_broken():
    """A record that is broken: the error must have OpenSSL's reason."""
    cdef DirectRecords client, server
    cdef char memory[16]
    cdef bytes record
    client, server = pass_bytes()
    client.write(b"?", 1)
    record = carried(client)
    try:
        reads(server, record[:-1] + bytes([record[-1] ^ 1]), memory)
    except ssl.SSLError as error:
        if error.reason is None:
            raise NotFoundError("its proof failed: an error without a reason") from None
    else:
        raise NotFoundError("its proof failed: a broken record was read")


PROOF = (
    ("functions of OpenSSL", find_functions),
    ("the connection in ssl's object", find_connection),
    ("a BIO of its own", make_bio),
    ("a handshake in memory", shake_hands),
    ("a byte each way", pass_bytes),
    ("a broken record is refused", refuse_broken),
)


cdef int look_up(dict found) except -1:
    """Fill ``openssl``, whose members stand in the order of FUNCTIONS."""
    cdef void **table = <void **>&openssl
    cdef Py_ssize_t i
    assert len(FUNCTIONS) * sizeof(void *) == sizeof(Functions)
    for i, name in enumerate(FUNCTIONS):
        table[i] = <void *><uintptr_t>found[name]
    return 0


cdef void *new_method() except NULL:
    cdef void *made = openssl.BIO_meth_new(
        openssl.BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, b"zerio_asyncio")
    if (made is NULL or not openssl.BIO_meth_set_read_ex(made, wire_read)
            or not openssl.BIO_meth_set_write_ex(made, wire_write)
            or not openssl.BIO_meth_set_ctrl(made, wire_ctrl)
            or not openssl.BIO_meth_set_destroy(made, wire_destroy)):
        raise MemoryError("no memory for a BIO_METHOD")
    return made


def anonymous_context(protocol):
    """A context that needs no certificate; for the proof alone."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.set_ciphers("AECDH-AES128-SHA:AECDH-AES256-SHA:@SECLEVEL=0")
    except ssl.SSLError as error:
        raise NotFoundError(f"no cipher to prove it with: {error}") from None
    return context


cdef Py_ssize_t find_place_twice() except -1:
    """Two objects must agree on the place, and have different pointers there."""
    cdef Py_ssize_t place = 0
    cdef set pointers = set()
    cdef set places = set()
    for _ in range(2):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        sslobj = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
        place = find_place(sslobj, context)
        places.add(place)
        pointers.add((context, <uintptr_t>ssl_of(sslobj, place)))
    if len(places) != 1 or len({pointer for _, pointer in pointers}) != 2:
        raise NotFoundError("the objects of ssl have another layout")
    return place


cdef bytes carried(DirectRecords records):
    """The records that were made, as bytes."""
    cdef bytes data = records.wire.outgoing[:records.wire.outgoing_length]
    records.wire.outgoing_length = 0
    return data


cdef bint shakes(DirectRecords records, bytes received) except -1:
    """One step of the handshake; whether it was the last."""
    records.lend(received, len(received))
    try:
        return records.shake()
    finally:
        records.take_back()


cdef Py_ssize_t reads(DirectRecords records, bytes received, char *memory) except? -2:
    records.lend(received, len(received))
    try:
        return records.read(memory, 16)
    finally:
        records.take_back()


cdef DirectRecords in_memory(object protocol, bint server_side):
    return DirectRecords(anonymous_context(protocol).wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=server_side))
