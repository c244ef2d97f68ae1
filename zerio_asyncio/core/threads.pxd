# What the core needs when threads run at the same time; see threads.h.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

cdef extern from "threads.h":
    bint FREE_THREADED

    ctypedef struct thread_lock:
        pass

    void thread_lock_take(thread_lock *lock) noexcept
    void thread_lock_give(thread_lock *lock) noexcept

    int thread_load_int(int *place) noexcept
    void thread_store_int(int *place, int value) noexcept
    void thread_add_int(int *place, int value) noexcept
    int thread_exchange_int(int *place, int value) noexcept
    uint64_t thread_load_word(uint64_t *place) noexcept
    void thread_store_word(uint64_t *place, uint64_t value) noexcept
    Py_ssize_t thread_load_size(Py_ssize_t *place) noexcept
    void thread_store_size(Py_ssize_t *place, Py_ssize_t value) noexcept

    bint thread_made(PyObject *object) noexcept
    bint thread_has_alone(PyObject *object) noexcept
