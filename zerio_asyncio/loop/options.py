"""What a user can choose for a loop: sizes, depths, the provider, and how it waits."""

from __future__ import annotations

import dataclasses

from zerio_asyncio.loop.tls_engines import check_engine
from zerio_asyncio.loop.wait_strategy import spin_seconds

KIB = 1024
MIB = 1024 * KIB

PAGE = 4 * KIB
"""Slices and slabs are whole pages: registration pins pages, not bytes
(https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_rioregisterbuffer)."""


@dataclasses.dataclass(frozen=True)
class LoopOptions:
    """Choices for one event loop; the defaults suit servers of both small and large messages.

    All sizes are bytes, all depths are requests. ``ValueError`` names a value out of range,
    ``TypeError`` one of the wrong type.

    ``provider``: name of the Registered I/O provider (``"uring"``, ``"epoll"``). None takes the
    environment variable ``ZERIO_PROVIDER``, or else the best one that works here.

    ``wait``: how the loop waits for work: ``"block"`` sleeps; ``"spin"`` polls and never sleeps,
    which answers fastest and uses a whole core; ``"hybrid(50)"`` polls for 50 microseconds (1 to
    1000000) after the last event and then sleeps. None takes the environment variable
    ``ZERIO_WAIT``, or else ``"block"``.

    ``slice_size``: one registered slice. It limits a single receive into registered memory, and how
    many bytes of small writes are gathered into one send. 4 KiB to 1 MiB, whole pages.

    ``slab_size``: the loop registers slices in slabs of this size, on demand, and returns empty
    slabs. At least one slice, at most 1 GiB, a multiple of ``slice_size``.

    ``send_depth``: how many sends per connection the provider holds at once; the rest wait in the
    transport. 1 to 1024.

    ``completion_queue_size``: how many results the loop's completion queue holds at first; it grows
    with the number of connections. 16 to 1048576.

    ``submission_depth``: operations queued per system call, if the provider has such a queue
    (io_uring). 8 to 32768, a power of two.

    ``datagrams``: ``"rio"`` has the datagram sockets that the loop makes on Windows' own Registered
    I/O (the provider ``winsock``). The system then keeps nothing for the program: a datagram that
    finds no posted receive is dropped, and nobody tells of unreachable ports. None leaves the
    choice to the loop: the system's buffer stands behind every socket. It has no meaning elsewhere.

    ``datagram_receives``: how many receives such a socket has posted, each of 64 KiB: how large a
    burst may be while the program computes. 2 to 1024, a power of two.

    ``tls``: what makes and reads the records of TLS: ``"direct"`` calls the OpenSSL that Python's
    ``ssl`` has loaded, ``"portable"`` uses only what ``ssl`` documents, ``"standard"`` is asyncio's
    own layer. None takes the environment variable ``ZERIO_TLS``, or else the first that works.

    ``gather``: send all writes of one turn of the loop together at its end, in fewer and larger
    sends. That is cheaper if a program writes many small pieces to a connection in one turn. But
    every byte then waits until all callbacks of the turn have run: it is late if one of them
    computes or blocks, and lost if the process ends or execs first. Without ``gather``, as with
    asyncio, the system has the data when ``write`` returns.
    """

    provider: str | None = None
    slice_size: int = 16 * KIB
    slab_size: int = 1 * MIB
    send_depth: int = 8
    completion_queue_size: int = 1024
    submission_depth: int = 1024
    wait: str | None = None
    gather: bool = False
    datagrams: str | None = None
    datagram_receives: int = 64
    tls: str | None = None

    def __post_init__(self) -> None:
        if self.provider is not None and not isinstance(self.provider, str):
            raise TypeError(f"provider must be a name or None, not {self.provider!r}")
        if self.wait is not None:
            spin_seconds(self.wait)
        check_engine(self.tls)
        if not isinstance(self.gather, bool):
            raise TypeError(f"gather must be True or False, not {self.gather!r}")
        self._check("slice_size", PAGE, MIB, PAGE)
        self._check("slab_size", self.slice_size, 1024 * MIB, self.slice_size)
        self._check("send_depth", 1, 1024)
        self._check("completion_queue_size", 16, 1 << 20)
        self._check("submission_depth", 8, 1 << 15)
        self._check("datagram_receives", 2, 1024)
        for name in ("submission_depth", "datagram_receives"):
            if (value := getattr(self, name)) & (value - 1):
                raise ValueError(f"{name} must be a power of two, not {value}")
        if self.datagrams not in {None, "rio"}:
            raise ValueError(f"datagrams must be 'rio' or None, not {self.datagrams!r}")

    def _check(self, name: str, least: int, most: int, multiple: int = 1) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be an integer, not {value!r}")
        if not least <= value <= most or value % multiple:
            whole = f", a multiple of {multiple}" if multiple > 1 else ""
            raise ValueError(f"{name} must be {least} to {most}{whole}, not {value}")
