/* Stands in for the header of Microsoft's compiler where Clang plays its part over MinGW's headers:
 * the intrinsics that compiler.h asks for, declared as Microsoft's pages have them.
 *   https://learn.microsoft.com/cpp/intrinsics/compiler-intrinsics */
long _InterlockedExchange(long volatile *, long);
long _InterlockedExchangeAdd(long volatile *, long);
long long _InterlockedCompareExchange64(long long volatile *, long long, long long);
void *_InterlockedExchangePointer(void *volatile *, void *);
#ifndef _ReadWriteBarrier /* MinGW's own */
void _ReadWriteBarrier(void);
#endif
#ifdef _M_ARM64
void __dmb(unsigned int);
#endif
