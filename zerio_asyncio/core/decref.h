/* decref.h: an exception without a traceback is one, too.
 *
 * When memory is out, an exception is set for which no traceback could be made. Code that Cython
 * writes for `except` lets go of type, value and traceback without asking whether they are there
 * (3.3: __Pyx_GetException leaves the traceback null). Here letting go of nothing is harmless.
 */
#ifndef ZERIO_DECREF_H
#define ZERIO_DECREF_H

#include <Python.h>

#undef Py_DECREF
#define Py_DECREF(object) Py_XDECREF(object)

#endif
