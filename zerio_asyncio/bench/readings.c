/* What the clocks say when the window opens, and when it closes. */
#include "parts.h"

int reading_take(int server_pid, reading *now)
{
    int status = process_cpu_ns(0, &now->load_ns); /* 0: the calling process */
    if (status == 0 && server_pid != 0)
        status = process_cpu_ns(server_pid, &now->server_ns);
    if (status == 0 && server_pid != 0)
        status = process_split_ns(server_pid, &now->user_ns, &now->system_ns);
    now->wall_ns = clock_ns();
    return status;
}

void reading_store(load_result *result, const reading *first, const reading *last)
{
    result->wall_ns = last->wall_ns - first->wall_ns;
    result->load_cpu_ns = last->load_ns - first->load_ns;
    result->server_cpu_ns = last->server_ns - first->server_ns;
    result->server_user_ns = last->user_ns - first->user_ns;
    result->server_system_ns = last->system_ns - first->system_ns;
}
