# The variables of a context, one immutable object: contexts that have the same one are equal.

from cpython.object cimport PyObject

cdef extern from "Python.h":
    ctypedef struct ContextType "PyTypeObject":
        void *tp_traverse
    ContextType *type_of_context "Py_TYPE"(PyObject *) noexcept
    bint PyContext_CheckExact(PyObject *) noexcept

# As C declares them: a result other than 0 is the visitor's, not an exception.
ctypedef int (*visit_function)(PyObject *, void *) noexcept
ctypedef int (*traverse_function)(PyObject *, visit_function, void *) noexcept


cdef struct context_variables:
    PyObject *found
    int others


cdef inline int contexts__visit(PyObject *item, void *argument) noexcept:
    cdef context_variables *variables = <context_variables *>argument
    if not PyContext_CheckExact(item):  # it also shows the one that it was entered from
        variables.others += variables.found is not NULL
        variables.found = item
    return 0


cdef inline PyObject *variables_of(PyObject *context) noexcept:
    """The object that holds a context's variables; null if this Python does not show just one."""
    cdef context_variables variables = context_variables(NULL, 0)
    if context is NULL:
        return NULL
    (<traverse_function><void *>type_of_context(context).tp_traverse)(
        context, contexts__visit, &variables)
    return NULL if variables.others else variables.found
