/* compiler.h: what these sources need from a compiler beyond the C11 that all of them have.
 *
 * GCC and Clang support all of C11. Microsoft's compiler, asked for C11, omits _Thread_local and
 * atomics; its own keywords are here, its intrinsics in atomics.h. Only these two headers may
 * distinguish compilers; tests/tidy/test_portable_c.py enforces that.
 *
 * Link: https://learn.microsoft.com/cpp/overview/install-c17-support
 */
#ifndef ZERIO_COMPILER_H
#define ZERIO_COMPILER_H

#ifdef _MSC_VER

#define RIO_LIKELY(condition) (condition)
#define RIO_UNLIKELY(condition) (condition)
#define RIO_THREAD_LOCAL __declspec(thread)

#else

#define RIO_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define RIO_UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define RIO_THREAD_LOCAL _Thread_local

#endif

#endif
