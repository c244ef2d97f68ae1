"""SocketEngine: ``loop.sock_recv`` and its family, for sockets that remain the program's own.

Each call tries, waits until the socket is ready, and tries again, as the standard library's does.
The difference is in the waiting:

    sock_recv ──▶ recv ──nothing──▶ future ◀── the port: ready, once ──▶ recv ──▶ bytes

* A call that must wait asks the port for one event (RIO_WATCH_ONCE). The system then keeps the
  descriptor, silently, so the next wait is one system call, and ending it takes none.
* Since each wait asks anew, the system itself notices if the number is another file by now. Nothing
  about a socket is kept across a wait but the object.
* Bytes are taken when the task runs, not when the socket becomes ready: a cancelled call takes
  none.
* A cancelled call leaves its watch behind. If its one event comes, nobody is waiting.
* A receive always tries before it waits, though for a program that asks and answers in turn the try
  is futile: with a timeout of 0 a program asks for what is there now.

Hazards, and how they are handled:

* The program closes a socket that a call waits for. The system forgets the watch without telling
  anyone, so the call keeps waiting, as on the standard loop; it ends with EBADF when another socket
  with the same number becomes ready. So each event wakes everyone who waits for that number, and
  each of them tries its own socket.
* ``add_reader`` and a call on the same descriptor: the system knows a descriptor only once, so both
  are armed in the port as one watch, and events go to those they concern. (On the standard loop the
  later one silences the other.)
* Another thread adds or removes a reader while the loop sleeps: asyncio does not promise this, its
  loop tolerates it, and programs do it (Jupyter's kernel). The request is recorded at once, and the
  loop is woken to tell its port.
* Two calls send on one socket: both complete, their pieces interleaved as far as the socket took
  them in pieces.

Behaviour and wording follow asyncio's ``BaseSelectorEventLoop`` (checked: 3.10 to 3.15).
"""

cdef extern from "decref.h":
    pass


import os
import socket
from asyncio import base_events
from errno import EBADF

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t

from zerio_asyncio.core.engine cimport runs_elsewhere
from zerio_asyncio.core.rio cimport (
    RIO_NOT_NOW, RIO_WATCH_ONCE, RIO_WATCH_READ, RIO_WATCH_WRITE)
from zerio_asyncio.core.sending cimport REQUEST_MAX

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1

cdef enum:
    # Above this, the system copies for so long that other threads may run meanwhile.
    ALONE_MAX = 16384

cdef object Socket = socket.socket
cdef object AF_INET = socket.AF_INET
cdef object AF_INET6 = socket.AF_INET6
cdef object NOT_NOW = (BlockingIOError, InterruptedError)

# Saves looking up the method, which each receive would do three times.
cdef object fileno_of = socket.socket.fileno


cdef class Waiters:
    pass


cdef class SocketEngine(Engine):
    """The engine with the socket calls of a selector loop."""

    def __cinit__(self, *args, **kwargs):
        self.table = []

    def __dealloc__(self):
        PyMem_RawFree(self.scratch)

    def _detach(self):
        self.table.clear()
        Engine._detach(self)

    # -------------------------------------------------------------- waiting

    cdef Waiters _waiters(self, int descriptor):
        cdef Waiters waiters
        if descriptor < 0:
            raise OSError(EBADF, os.strerror(EBADF))
        if descriptor >= len(self.table):
            os.fstat(descriptor)  # an absurd number is refused before we make room for it
            self.table.extend([None] * (descriptor + 1 - len(self.table)))
        waiters = self.table[descriptor]
        return self._first_waiters(descriptor) if waiters is None else waiters

    cdef Waiters _first_waiters(self, int descriptor):
        # Another thread may ask for the same: everyone gets the ones made first.
        cdef Waiters made = Waiters.__new__(Waiters)
        cdef Waiters waiters
        with cython.critical_section(self):
            waiters = self.table[descriptor]
            if waiters is None:
                waiters = self.table[descriptor] = made
        return waiters

    cdef int32_t _arm(self, int descriptor, Waiters waiters) noexcept:
        """Tell the port what to report; 0 or a Winsock code."""
        cdef uint32_t mask = waiters.users | waiters.once
        if mask and not waiters.users:
            mask |= RIO_WATCH_ONCE
        return self.provider.port.watch(self.port, <size_t>descriptor, mask, descriptor)

    def _watch(self, int descriptor, uint32_t mask):
        """Report readiness of a descriptor (1 reading, 2 writing, 0 stop) to ``_port_ready``."""
        cdef Waiters waiters
        cdef uint32_t before
        cdef int32_t refused
        if self.port is NULL:
            return
        waiters = self._waiters(descriptor)
        before = waiters.users
        if runs_elsewhere(self):
            if mask:
                os.fstat(descriptor)
            waiters.users = mask
            self.call_soon_threadsafe(self._arm_again, descriptor)
            return
        waiters.users = mask
        waiters.once = _wanted(waiters)
        refused = self._arm(descriptor, waiters)
        if refused:
            waiters.users = before if mask else 0
            raise self.error_of(refused)

    def _arm_again(self, int descriptor):
        """Tell the port what another thread asked for while this one was inside it."""
        cdef Waiters waiters = self._waiters(descriptor)
        cdef int32_t refused
        if self.port is not NULL:
            waiters.once = _wanted(waiters)
            refused = self._arm(descriptor, waiters)
            if refused and waiters.users:
                waiters.users = 0
                raise self.error_of(refused)

    cdef uint32_t became_ready(self, int descriptor, uint32_t mask) except? 0xFFFFFFFF:
        cdef Waiters waiters = self.table[descriptor] if descriptor < len(self.table) else None
        cdef uint32_t heard
        cdef object who
        if waiters is None:
            return mask
        heard = mask & waiters.once
        if heard & RIO_WATCH_READ:
            who = waiters.reading
            waiters.reading = None
            _wake(who)
        if heard & RIO_WATCH_WRITE:
            who = waiters.writing
            waiters.writing = None
            _wake(who)
        waiters.once &= ~mask
        # A watch for one event is over; one shared with users would keep reporting.
        if waiters.once or (heard and waiters.users):
            waiters.once = _wanted(waiters)
            if waiters.once or waiters.users:
                self._arm(descriptor, waiters)
        return mask & waiters.users

    cdef object _until(self, object sock, uint32_t mask):
        """A future that is done when the socket is ready."""
        cdef object number = fileno_of(sock) if type(sock) is Socket else sock.fileno()
        self._check_attached()
        if self.transports is None:
            self.transports = self._transports.data
        if number in self.transports:
            self._ensure_fd_no_transport(number)
        return self._until_at(number, mask)

    cdef object _until_at(self, int descriptor, uint32_t mask):
        self._check_here()
        cdef Waiters waiters = self._waiters(descriptor)
        cdef object future = self.create_future()
        cdef uint32_t before = waiters.once
        cdef int32_t refused
        waiters.once |= mask
        refused = self._arm(descriptor, waiters)
        if refused:
            waiters.once = before
            raise self.error_of(refused)
        if mask == RIO_WATCH_READ:
            waiters.reading = _added(waiters.reading, future)
        else:
            waiters.writing = _added(waiters.writing, future)
        return future

    cdef int _forget(self, object sock) except -1:
        """Leave nothing with the system for a socket that no call waits for."""
        cdef int descriptor = sock.fileno()
        cdef Waiters waiters
        if descriptor < 0 or self.port is NULL:
            return 0
        waiters = self._waiters(descriptor)
        waiters.once = _wanted(waiters)
        self._arm(descriptor, waiters)
        return 0

    # ---------------------------------------------------------------- calls

    cdef int _check(self, object sock) except -1:
        if self.provider is NULL:
            raise RuntimeError("Event loop is closed")
        if type(sock) is not Socket:
            base_events._check_ssl_socket(sock)
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        return 0

    cdef object _receive(self, object sock, object size):
        """bytes, or None if nothing is there now."""
        cdef Waiters waiters
        cdef Py_ssize_t room
        cdef int64_t count
        cdef int descriptor
        if type(sock) is not Socket or type(size) is not int or not 0 < size <= SCRATCH_SIZE:
            try:
                return sock.recv(size)
            except NOT_NOW:
                return None
        room = size
        descriptor = fileno_of(sock)
        waiters = self._waiters(descriptor)
        if waiters.large:
            return self._receive_large(descriptor, waiters, room)
        if self.scratch is NULL:
            self.scratch = <char *>PyMem_RawMalloc(SCRATCH_SIZE)
            if self.scratch is NULL:
                raise MemoryError
        count = self.provider.socket_receive(<size_t>descriptor, self.scratch, <uint32_t>room)
        if _moved(count):
            waiters.large = count > ALONE_MAX
            return PyBytes_FromStringAndSize(self.scratch, count)
        return None

    cdef object _receive_large(self, int descriptor, Waiters waiters, Py_ssize_t size):
        """The same, straight into the bytes."""
        cdef object data = PyBytes_FromStringAndSize(NULL, size)
        cdef char *memory = PyBytes_AS_STRING(data)
        cdef PyObject *raw
        cdef int64_t count
        with nogil:
            count = self.provider.socket_receive(<size_t>descriptor, memory, <uint32_t>size)
        if not _moved(count):
            return None
        waiters.large = count > ALONE_MAX
        if count == size:
            return data
        raw = <PyObject *>data
        Py_INCREF(data)
        data = None
        _PyBytes_Resize(&raw, count)
        data = <object>raw
        Py_DECREF(data)
        return data

    cdef object _receive_into(self, object sock, object buffer):
        """The count of bytes, or None if nothing is there now."""
        cdef Py_buffer view
        cdef int64_t count
        cdef uint32_t room
        cdef int descriptor
        if type(sock) is not Socket:
            try:
                return sock.recv_into(buffer)
            except NOT_NOW:
                return None
        descriptor = fileno_of(sock)
        try:
            PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        except (BufferError, TypeError):
            return sock.recv_into(buffer)  # refuses it in the words that people know
        try:
            if view.len == 0:
                return 0
            room = <uint32_t>min(view.len, <Py_ssize_t>REQUEST_MAX)
            with nogil:
                count = self.provider.socket_receive(<size_t>descriptor, view.buf, room)
            return count if _moved(count) else None
        finally:
            PyBuffer_Release(&view)

    cdef Py_ssize_t _send(self, object sock, object view, Py_ssize_t left) except -2:
        """Send the last ``left`` bytes of a memoryview; return how many are left."""
        cdef Py_buffer buffer
        cdef int64_t count
        cdef uint32_t part
        cdef const char *start
        cdef int descriptor
        if type(sock) is not Socket:
            try:
                return left - <Py_ssize_t>sock.send(view.cast("B")[view.nbytes - left:])
            except NOT_NOW:
                return left
        descriptor = fileno_of(sock)
        PyObject_GetBuffer(view, &buffer, PyBUF_SIMPLE)
        try:
            start = <const char *>buffer.buf + (buffer.len - left)
            part = <uint32_t>min(left, <Py_ssize_t>REQUEST_MAX)
            if left > ALONE_MAX:
                with nogil:
                    count = self.provider.socket_send(<size_t>descriptor, start, part)
            else:
                count = self.provider.socket_send(<size_t>descriptor, start, part)
            if count >= 0:
                return left - count
            if count != RIO_NOT_NOW:
                raise _system_error(count)
            return left
        finally:
            PyBuffer_Release(&buffer)

    async def sock_recv(self, sock, n):
        """Receive up to ``n`` bytes; see ``asyncio.loop.sock_recv``."""
        self._check(sock)
        while True:
            data = self._receive(sock, n)
            if data is not None:
                return data
            await self._until(sock, RIO_WATCH_READ)

    async def sock_recv_into(self, sock, buf):
        """Receive into ``buf``, return the count of bytes; see ``asyncio.loop.sock_recv_into``."""
        self._check(sock)
        while True:
            count = self._receive_into(sock, buf)
            if count is not None:
                return count
            await self._until(sock, RIO_WATCH_READ)

    async def sock_recvfrom(self, sock, bufsize):
        """Receive a datagram and its sender; see ``asyncio.loop.sock_recvfrom``."""
        self._check(sock)
        while True:
            try:
                return sock.recvfrom(bufsize)
            except NOT_NOW:
                pass
            await self._until(sock, RIO_WATCH_READ)

    async def sock_recvfrom_into(self, sock, buf, nbytes=0):
        """Receive a datagram into ``buf``; see ``asyncio.loop.sock_recvfrom_into``."""
        self._check(sock)
        if not nbytes:
            nbytes = len(buf)
        while True:
            try:
                return sock.recvfrom_into(buf, nbytes)
            except NOT_NOW:
                pass
            await self._until(sock, RIO_WATCH_READ)

    async def sock_sendall(self, sock, data):
        """Send all of ``data``; see ``asyncio.loop.sock_sendall``."""
        self._check(sock)
        # One export until all is sent: length and address are queried once.
        with memoryview(data) as view:
            left = self._send(sock, view, view.nbytes)
            while left:
                await self._until(sock, RIO_WATCH_WRITE)
                left = self._send(sock, view, left)

    async def sock_sendto(self, sock, data, address):
        """Send a datagram, return the count of bytes; see ``asyncio.loop.sock_sendto``."""
        self._check(sock)
        while True:
            try:
                return sock.sendto(data, address)
            except NOT_NOW:
                pass
            await self._until(sock, RIO_WATCH_WRITE)

    async def sock_accept(self, sock):
        """Accept a connection, a socket and its peer's address; see ``asyncio.loop.sock_accept``.
        """
        self._check(sock)
        while True:
            try:
                connection, address = sock.accept()
            except NOT_NOW:
                pass
            else:
                connection.setblocking(False)
                return connection, address
            await self._until(sock, RIO_WATCH_READ)

    async def sock_connect(self, sock, address):
        """Connect to ``address``; see ``asyncio.loop.sock_connect``."""
        self._check(sock)
        if sock.family == AF_INET or sock.family == AF_INET6:
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self)
            address = resolved[0][4]
        try:
            sock.connect(address)
            return
        except NOT_NOW:
            pass
        try:
            await self._until(sock, RIO_WATCH_WRITE)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        finally:
            # Most sockets become a transport's next, which registers them with the system anew.
            self._forget(sock)
        if error:
            raise OSError(error, f"Connect call failed {address}")

    # ------------------------------------------------------- for sendfile

    def _writable(self, sock):
        """A future that is done when ``sock``, which may be a transport's, is writable."""
        self._check_attached()
        return self._until_at(sock.fileno(), RIO_WATCH_WRITE)

    def _unwatch(self, sock):
        """No call waits for ``sock`` any more, or is about to."""
        self._forget(sock)

    def _wake_waiters(self, int descriptor):
        """The transport of this descriptor is closed: those who wait for it will notice."""
        if descriptor < len(self.table) and self.table[descriptor] is not None:
            self.became_ready(descriptor, RIO_WATCH_READ | RIO_WATCH_WRITE)


cdef object _system_error(int64_t count):
    return OSError(<int>-count, os.strerror(<int>-count))


cdef bint _moved(int64_t count) except -1:
    """Whether a receive got something (the end of the stream, too); OSError if it failed."""
    if count < 0 and count != RIO_NOT_NOW:
        raise _system_error(count)
    return count >= 0


cdef object _added(object who, object future):
    if who is None:
        return future
    if type(who) is not list:
        who = [who]
    live = [other for other in who if not other.done()]
    live.append(future)
    return live if len(live) > 1 else future


cdef uint32_t _wanted(Waiters waiters) except? 0xFFFFFFFF:
    """What live calls wait for."""
    return ((RIO_WATCH_READ if _awaited(waiters.reading) else 0)
            | (RIO_WATCH_WRITE if _awaited(waiters.writing) else 0))


cdef bint _awaited(object who) except -1:
    if type(who) is list:
        for future in who:
            if not future.done():
                return True
        return False
    return who is not None and not who.done()


cdef int _wake(object who) except -1:
    if type(who) is list:
        for future in who:
            if not future.done():
                future.set_result(None)
    elif who is not None and not who.done():
        who.set_result(None)
    return 0
