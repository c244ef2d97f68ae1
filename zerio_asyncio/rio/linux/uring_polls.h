/* uring_polls.h: polls that an io_uring port keeps in the kernel (uring_polls.c). */
#ifndef ZERIO_URING_POLLS_H
#define ZERIO_URING_POLLS_H

#include "linux/uring_port.h"

void uring_polls_begin(uring_port *);
void uring_polls_end(uring_port *);
/* It should be in the kernel. */
void uring_polls_list(uring_port *, uring_poll *);
void uring_polls_unlist(uring_port *, uring_poll *);
/* All that should be in the kernel and are not, after a new ring or a park. */
void uring_polls_list_all(uring_port *);
/* Submits every listed poll to the ring. */
void uring_polls_submit(uring_port *);
void uring_polls_done(uring_port *, uring_poll *, int32_t result, uint32_t flags);
/* An inner epoll instance, made on first use, and its poll. 0 or a code. */
int32_t uring_polls_open_inner(uring_port *, interests_set *, uring_poll *);
/* A fresh inner instance after a stale event; 1 and the old one, which the caller closes. */
int uring_polls_renew_inner(interests_set *, uring_poll *, int *old);

#endif
