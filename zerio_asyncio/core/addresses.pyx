"""AddressBook: converts between the system's ``sockaddr`` and the tuples of Python's socket module.

A datagram's sender has usually been seen before, and the answer goes to the very tuple that came
with the question. So a socket keeps the tuples it made, each in a place derived from its address:
naming a known sender takes one comparison, addressing the answer none.

Nothing is resolved here. Anything that is not a numeric address in its usual form goes to the
socket module, which knows the rest (host names, zones, ``<broadcast>``) and how to report errors.
"""

cdef extern from "decref.h":
    pass


import socket

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.long cimport PyLong_AsLong, PyLong_CheckExact
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL
    object PyUnicode_FromKindAndData(int, const void *, Py_ssize_t)
    int PyUnicode_1BYTE_KIND

cdef int INET = socket.AF_INET
cdef int INET6 = socket.AF_INET6

cdef enum:
    # Where the parts are behind the family, the same on every system that has a SOCKADDR_INET.
    PORT = 0
    HOST = 2
    FLOW6 = 2
    HOST6 = 6
    SCOPE6 = 22


cdef class AddressBook:
    """The addresses that one socket has seen."""

    def __dealloc__(self):
        cdef int i
        if self.known is not NULL:
            for i in range(PLACES):
                Py_XDECREF(self.known[i].name)
            PyMem_RawFree(self.known)

    cdef object name_of(self, const RIO_SOCKADDR_INET *raw):
        """The tuple of an address; None for one of another family."""
        cdef Known *place
        cdef object name
        if raw.family != INET and raw.family != INET6:
            return None
        if self.known is NULL:
            self.known = <Known *>PyMem_RawCalloc(PLACES, sizeof(Known))
            if self.known is NULL:
                raise MemoryError
        place = &self.known[_place(raw)]
        if place.name is NULL or memcmp(&place.raw, raw, sizeof(RIO_SOCKADDR_INET)) != 0:
            name = _name4(raw) if raw.family == INET else _name6(raw)
            if place.name is self.last_name:
                self.last_name = NULL
            Py_XDECREF(place.name)
            Py_INCREF(name)
            place.name = <PyObject *>name
            place.raw = raw[0]
        self.last_name = place.name
        self.last = place.raw
        return <object>place.name

    cdef bint raw_of(self, int family, object name, RIO_SOCKADDR_INET *raw) except -1:
        """Whether ``name`` is a numeric address of the family; if so, ``raw`` is filled in."""
        if <PyObject *>name is self.last_name:
            raw[0] = self.last
            return True
        memset(raw, 0, sizeof(RIO_SOCKADDR_INET))
        if not PyTuple_CheckExact(name):
            return False
        raw.family = <unsigned short>family
        if family == INET:
            return PyTuple_GET_SIZE(name) == 2 and _port(name, raw) and _host4(name, raw)
        if family == INET6:
            return 2 <= PyTuple_GET_SIZE(name) <= 4 and _port(name, raw) and _rest6(name, raw)
        return False


cdef object name_of_ipv4(const uint8_t *address, size_t length):
    # A SOCKADDR_INET begins with a sockaddr_in.
    cdef const RIO_SOCKADDR_INET *raw = <const RIO_SOCKADDR_INET *>address
    if length < 8 or raw.family != INET:
        return None
    return _name4(raw)


cdef inline uint32_t _place(const RIO_SOCKADDR_INET *raw) noexcept:
    # Everything but an IPv6 scope: the same host rarely has two.
    cdef uint64_t words[3]
    memcpy(words, raw, sizeof(words))
    cdef uint64_t mixed = (words[0] ^ words[1] * 31 ^ words[2] * 961) * 0x9E3779B97F4A7C15ULL
    return <uint32_t>(mixed >> 56)


cdef object _name4(const RIO_SOCKADDR_INET *raw):
    cdef char text[16]
    cdef int length = 0
    cdef int i
    cdef uint8_t number
    for i in range(4):
        number = raw.rest[HOST + i]
        if number >= 100:
            text[length] = <char>(48 + number // 100)
            length += 1
        if number >= 10:
            text[length] = <char>(48 + number // 10 % 10)
            length += 1
        text[length] = <char>(48 + number % 10)
        text[length + 1] = 46  # "."
        length += 2
    return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, text, length - 1), _port_of(raw)


cdef object _name6(const RIO_SOCKADDR_INET *raw):
    cdef uint32_t scope
    cdef uint32_t flow = 0
    cdef int i
    memcpy(&scope, &raw.rest[SCOPE6], sizeof(scope))
    for i in range(4):
        flow = flow << 8 | raw.rest[FLOW6 + i]
    host = socket.inet_ntop(INET6, (<const char *>&raw.rest[HOST6])[:16])
    return host, _port_of(raw), flow, scope


cdef inline int _port_of(const RIO_SOCKADDR_INET *raw) noexcept:
    return raw.rest[PORT] << 8 | raw.rest[PORT + 1]


cdef bint _port(tuple name, RIO_SOCKADDR_INET *raw) except -1:
    cdef long port = _number(name, 1, 0xFFFF)
    if port < 0:
        return False
    raw.rest[PORT] = <uint8_t>(port >> 8)
    raw.rest[PORT + 1] = <uint8_t>port
    return True


cdef long _number(tuple name, Py_ssize_t index, long most) except -2:
    """The item as a number from 0 to ``most``; -1 if it is not one."""
    cdef object item = <object>PyTuple_GET_ITEM(name, index)
    cdef long number
    if not PyLong_CheckExact(item):
        return -1
    try:
        number = PyLong_AsLong(item)
    except OverflowError:
        return -1
    return number if 0 <= number <= most else -1


cdef bint _host4(tuple name, RIO_SOCKADDR_INET *raw) except -1:
    cdef object host = <object>PyTuple_GET_ITEM(name, 0)
    cdef Py_ssize_t length
    cdef Py_ssize_t i = 0
    cdef int part, digits, number
    cdef const char *text
    if not PyUnicode_CheckExact(host) or not host.isascii():
        return False
    text = PyUnicode_AsUTF8AndSize(host, &length)
    for part in range(4):
        if part:
            if i == length or text[i] != 46:
                return False
            i += 1
        number = 0
        digits = 0
        while i < length and 48 <= text[i] <= 57 and digits < 3:
            if digits and number == 0:
                return False  # some read a leading zero as octal, others ignore it
            number = number * 10 + text[i] - 48
            digits += 1
            i += 1
        if digits == 0 or number > 255:
            return False
        raw.rest[HOST + part] = <uint8_t>number
    return i == length


cdef bint _rest6(tuple name, RIO_SOCKADDR_INET *raw) except -1:
    cdef object host = <object>PyTuple_GET_ITEM(name, 0)
    cdef Py_ssize_t size = PyTuple_GET_SIZE(name)
    cdef long flow = _number(name, 2, 0xFFFFF) if size > 2 else 0
    cdef long scope = _number(name, 3, 0x7FFFFFFF) if size > 3 else 0
    cdef uint32_t scope_id = <uint32_t>scope
    cdef int i
    if flow < 0 or scope < 0 or not PyUnicode_CheckExact(host):
        return False
    try:
        packed = socket.inet_pton(INET6, host)
    except (OSError, ValueError):
        return False  # a name, a zone, or wrong
    for i in range(4):
        raw.rest[FLOW6 + i] = <uint8_t>(flow >> (24 - 8 * i))
    memcpy(&raw.rest[HOST6], PyBytes_AS_STRING(packed), 16)
    memcpy(&raw.rest[SCOPE6], &scope_id, sizeof(scope_id))
    return True
