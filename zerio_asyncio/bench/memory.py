"""Memory of idle connections: resident bytes of the server, divided by connections.

Three readings: connections just opened; after one message on each (what a loop allocates at the
first byte and keeps); after all were closed (what it does not release). The client is the native
generator, which holds a connection for the price of a descriptor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerio_asyncio.bench import processes

if TYPE_CHECKING:
    from pathlib import Path

    from zerio_asyncio.bench.results import Sample
    from zerio_asyncio.bench.settings import Settings
    from zerio_asyncio.bench.workloads import Workload

CONNECT_S = 120.0
"""Enough for 100,000 connections on a slow machine."""


def measure(
    peer: str, workload: Workload, settings: Settings, certificate: Path | None = None
) -> tuple[processes.Address, Sample]:
    """Hold idle connections to one peer's server; bytes per connection."""
    count = workload.connections
    core = settings.server_core
    with processes.server(peer, workload.server, core, count, certificate=certificate) as at:
        start = processes.settled_bytes(at.pid)
        arguments = processes.load_arguments(
            at,
            settings.load_core,
            connections=count,
            size=workload.size,
            tls=workload.tls,
            requests_each=1,
            warmup_s=0.0,
            measure_s=CONNECT_S,
        )
        with processes.Child("load", *arguments, "--hold") as client:
            client.answer(CONNECT_S)
            opened = processes.settled_bytes(at.pid)
            client.tell()
            client.answer(CONNECT_S)
            warm = processes.settled_bytes(at.pid)
            client.finish()
        closed = processes.settled_bytes(at.pid)
    sample = {
        "idle_bytes": (opened - start) / count,
        "warm_bytes": (warm - start) / count,
        "closed_bytes": (closed - start) / count,
        "start_bytes": float(start),
    }
    return at, sample
