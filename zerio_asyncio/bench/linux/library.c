/* Libraries that are looked for when they are needed, so that nothing must be there to build. */
#include "parts.h"

#include <dlfcn.h>

void *library_open(const char *name)
{
    return dlopen(name, RTLD_NOW | RTLD_LOCAL);
}

void *library_symbol(void *library, const char *name)
{
    return dlsym(library, name);
}
