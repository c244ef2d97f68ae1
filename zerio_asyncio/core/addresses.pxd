# Socket addresses: the system's form and that of Python programs.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from zerio_asyncio.core.rio cimport RIO_SOCKADDR_INET

cdef enum:
    PLACES = 256        # 10 KiB per book; with more peers than that at a time, some share places

cdef struct Known:
    RIO_SOCKADDR_INET raw
    PyObject *name      # an owned tuple; null: nothing is here


# The name of an IPv4 address in the system's form; None for any other.
cdef object name_of_ipv4(const uint8_t *address, size_t length)


cdef class AddressBook:
    cdef Known *known              # by a hash of the address; null until the first
    cdef PyObject *last_name       # borrowed from `known`: the last one that name_of returned
    cdef RIO_SOCKADDR_INET last

    cdef object name_of(self, const RIO_SOCKADDR_INET *raw)
    cdef bint raw_of(self, int family, object name, RIO_SOCKADDR_INET *raw) except -1
