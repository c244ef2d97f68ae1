"""The benchmark: echo servers on every loop under one native load, and their schedulers.

``python -m zerio_asyncio.bench`` runs it; docs/performance.md explains what each row means.
Imports point one way::

    command ──► runner, memory ──► processes ──► load, servers, scheduler (each in its own process)
       │              │                            │
       ▼              ▼                            ▼
    report, plot   workloads                     peers (which loops there are)
"""
