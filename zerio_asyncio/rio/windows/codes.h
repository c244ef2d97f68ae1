/* codes.h: Winsock codes of Win32 errors (codes.c). */
#ifndef ZERIO_CODES_H
#define ZERIO_CODES_H

#include "windows/sdk.h"

#include "rio.h"

/* The Winsock code of a Win32 error that an operation on a socket may end with. */
int32_t codes_winsock(DWORD error);

#endif
