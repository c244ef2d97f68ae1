/* Libraries that are looked for when they are needed: the rows of TLS are Linux' alone, so none. */
#include "parts.h"

void *library_open(const char *name)
{
    (void)name;
    return NULL;
}

void *library_symbol(void *library, const char *name)
{
    (void)library, (void)name;
    return NULL;
}
