/* threads.h: what the core needs where threads run at the same time, without the GIL.
 *
 * With the GIL all of it is nothing: a lock takes no time, a shared number is a number. Without it
 *
 * - a lock guards what several threads change: the ready queue, the timers, free slices, the ring
 *   of messages. No Python code runs while one is held, no object is let go of, and no second lock
 *   is taken, so none can wait for another. The collector stops the world where no thread holds
 *   one halfway: it may look at what a lock guards without taking it;
 * - a flag or counter that is read without a lock is loaded and stored as one; a size says so much
 *   and no more, and orders nothing;
 * - references are counted in two parts. Only the thread that made an object can tell that nobody
 *   else has it.
 */
#ifndef ZERIO_THREADS_H
#define ZERIO_THREADS_H

#include <Python.h>

#ifdef Py_GIL_DISABLED

#define FREE_THREADED 1

typedef PyMutex thread_lock;
#define thread_lock_take(lock) PyMutex_Lock(lock)
#define thread_lock_give(lock) PyMutex_Unlock(lock)

#define thread_load_int(place) _Py_atomic_load_int(place)
#define thread_store_int(place, value) _Py_atomic_store_int(place, value)
#define thread_add_int(place, value) ((void)_Py_atomic_add_int(place, value))
#define thread_exchange_int(place, value) _Py_atomic_exchange_int(place, value)
#define thread_load_word(place) _Py_atomic_load_uint64(place)
#define thread_store_word(place, value) _Py_atomic_store_uint64(place, value)

#define thread_load_size(place) _Py_atomic_load_ssize_relaxed(place)
#define thread_store_size(place, value) _Py_atomic_store_ssize_relaxed(place, value)

/* Whether this thread made the object; only such a one can be resized. */
#define thread_made(object) _Py_IsOwnedByCurrentThread(object)

/* Whether one reference is all there is, and this thread may know it. */
static inline int thread_has_alone(PyObject *object)
{
    return thread_made(object) && _Py_atomic_load_uint32_relaxed(&object->ob_ref_local) == 1 &&
           _Py_atomic_load_ssize_relaxed(&object->ob_ref_shared) == 0;
}

#else

#define FREE_THREADED 0

typedef char thread_lock;
#define thread_lock_take(lock) ((void)0)
#define thread_lock_give(lock) ((void)0)

#define thread_load_int(place) (*(place))
#define thread_store_int(place, value) ((void)(*(place) = (value)))
#define thread_add_int(place, value) ((void)(*(place) += (value)))
static inline int thread_exchange_int(int *place, int value)
{
    int before = *place;
    *place = value;
    return before;
}
#define thread_load_word(place) (*(place))
#define thread_store_word(place, value) ((void)(*(place) = (value)))
#define thread_load_size(place) (*(place))
#define thread_store_size(place, value) ((void)(*(place) = (value)))

#define thread_made(object) 1
#define thread_has_alone(object) (Py_REFCNT(object) == 1)

#endif

#endif
