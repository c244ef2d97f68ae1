"""``python -m zerio_asyncio doctor``: whether Registered I/O does here what the loop expects.

A provider may work on most machines and fail on one: a container forbids io_uring, a limit is too
low, a version of Windows hands out a table whose functions fail. Who meets that wants to know which
part fails and why, and to send it to somebody. So the doctor tries everything step by step:

- ``steps`` runs them in processes of their own, each with a limit of time: a step that hangs or
  crashes is one bad line, and the steps behind it still run;
- ``provider_steps`` proves a provider over loopback: memory, queues, a connection, a byte each way,
  a burst, both kinds of end, datagrams;
- ``tls_steps`` tells the TLS engine that a loop takes, and proves both, in memory;
- ``kernel`` explains what this system allows: kernel version, settings, seccomp, limits;
- ``winsock_facts`` asks Windows, fact by fact, for what its documentation does not say;
- ``report`` makes the table, the JSON and the exit status.

It stands on `zerio_asyncio.rio`, and for TLS on the two engines: no event loop is involved.
"""
