/* CPU time of another process, read at an exact moment.
 *
 * The figure that matters is the server's CPU time per request. A server that measures itself has
 * to be told when the window opens and closes, by a message that is itself work, and it answers
 * when it gets round to it. Linux lets any process read the CPU clock of another
 * (clock_getcpuclockid(3)), in nanoseconds, all threads together - with io_uring's workers, which
 * are threads of the process that owns the ring. So the generator, which knows when the window
 * opens and closes, reads the server's clock there and then.
 */
#define _GNU_SOURCE
#include "parts.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

int process_die_with_parent(int parent)
{
    (void)parent;
    return prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 ? 0 : -errno;
}

int process_cpu_ns(int pid, uint64_t *ns)
{
    clockid_t clock;
    struct timespec time;
    int error = clock_getcpuclockid(pid, &clock);
    if (error != 0)
        return -error;
    if (clock_gettime(clock, &time) != 0)
        return -errno;
    *ns = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    return 0;
}

int process_split_ns(int pid, uint64_t *user_ns, uint64_t *system_ns)
{
    char path[64];
    char text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return -EIO;
    text[length] = '\0';
    /* The name in field 2 may hold spaces and parentheses: the fields start after the last ')'. */
    const char *rest = strrchr(text, ')');
    unsigned long long user, system;
    if (rest == NULL
        || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                  &system)
               != 2)
        return -EIO;
    uint64_t tick_ns = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK);
    *user_ns = user * tick_ns;
    *system_ns = system * tick_ns;
    return 0;
}

uint64_t clock_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* A sleep may end this much late: by default, half a burst's delay. */
void clock_be_precise(void)
{
    (void)prctl(PR_SET_TIMERSLACK, 1);
}
