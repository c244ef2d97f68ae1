"""The structures of rio.h with Python's types, for mypy and for readers; rio.h says what they mean.

cffi makes the objects; nothing here is used at run time. Handles and pointers are all ``CData``.
A test compares every name and every number of arguments with what cffi has compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from _cffi_backend import _CDataBase

CData: TypeAlias = _CDataBase

# What several entries of the tables have in common.
Start: TypeAlias = Callable[[CData, CData, int, int, CData], int]
StartEx: TypeAlias = Callable[[CData, CData, int, CData, CData, CData, CData, int, CData], int]
Now: TypeAlias = Callable[[CData, CData, int], int]


class RIORESULT(Protocol):
    """One result, as ``RIODequeueCompletion`` writes it."""

    Status: int
    BytesTransferred: int
    SocketContext: int
    RequestContext: int


class rio_port_event(Protocol):
    """One event, as ``wait`` writes it."""

    kind: int
    status: int
    key: int
    overlapped: CData
    value: int


class rio_peer(Protocol):
    """The address of an accepted connection."""

    address: CData
    length: int


class rio_port_statistics(Protocol):
    """What a port has counted."""

    submissions: int
    completions: int
    system_calls: int
    waits: int
    bytes_received: int
    bytes_sent: int
    gathered: int
    in_kernel: int


class RIO_EXTENSION_FUNCTION_TABLE(Protocol):
    """Registered I/O's functions."""

    cbSize: int

    def RIOReceive(
        self, requests: CData, data: CData, count: int, flags: int, request_context: CData, /
    ) -> int: ...
    def RIOReceiveEx(
        self,
        requests: CData,
        data: CData,
        count: int,
        local_address: CData,
        remote_address: CData,
        control: CData,
        flags_out: CData,
        flags: int,
        request_context: CData,
        /,
    ) -> int: ...
    def RIOSend(
        self, requests: CData, data: CData, count: int, flags: int, request_context: CData, /
    ) -> int: ...
    def RIOSendEx(
        self,
        requests: CData,
        data: CData,
        count: int,
        local_address: CData,
        remote_address: CData,
        control: CData,
        flags_in: CData,
        flags: int,
        request_context: CData,
        /,
    ) -> int: ...
    def RIOCloseCompletionQueue(self, queue: CData, /) -> None: ...
    def RIOCreateCompletionQueue(self, size: int, notification: CData, /) -> CData: ...
    def RIOCreateRequestQueue(
        self,
        socket: int,
        max_receives: int,
        max_receive_buffers: int,
        max_sends: int,
        max_send_buffers: int,
        receive_queue: CData,
        send_queue: CData,
        socket_context: CData,
        /,
    ) -> CData: ...
    def RIODequeueCompletion(self, queue: CData, results: CData, size: int, /) -> int: ...
    def RIODeregisterBuffer(self, buffer: CData, /) -> None: ...
    def RIONotify(self, queue: CData, /) -> int: ...
    def RIORegisterBuffer(self, memory: CData, length: int, /) -> CData: ...
    def RIOResizeCompletionQueue(self, queue: CData, size: int, /) -> int: ...
    def RIOResizeRequestQueue(
        self, requests: CData, max_receives: int, max_sends: int, /
    ) -> int: ...


class rio_port_table(Protocol):
    """What a port does."""

    size: int

    def create(self, options: CData, /) -> CData: ...
    def close(self, port: CData, /) -> None: ...
    def wait(self, port: CData, events: CData, size: int, timeout_ns: int, /) -> int: ...
    def pending(self, port: CData, /) -> int: ...
    def post(self, port: CData, key: int, /) -> int: ...
    def watch(self, port: CData, socket: int, mask: int, key: int, /) -> int: ...
    def accept(self, port: CData, listener: int, key: int, /) -> int: ...
    def accept_stop(self, port: CData, listener: int, /) -> int: ...
    def connect(
        self, port: CData, socket: int, address: CData, length: int, key: int, /
    ) -> int: ...
    def connect_stop(self, port: CData, socket: int, /) -> int: ...
    def retire(self, port: CData, socket: int, /) -> int: ...
    def park(self, port: CData, /) -> int: ...
    def statistics(self, port: CData, statistics: CData, /) -> int: ...
    def join(self, port: CData, file: int, /) -> int: ...
    def native(self, port: CData, /) -> int: ...
    def accept_alone(self, port: CData, listener: int, alone: int, /) -> int: ...
    def leave(self, port: CData, socket: int, /) -> int: ...


class rio_provider(Protocol):
    """One implementation: both tables, and what it has beside them."""

    size: int
    capabilities: int
    name: CData

    def probe(self, reason: CData, size: int, /) -> int: ...

    rio: RIO_EXTENSION_FUNCTION_TABLE
    port: rio_port_table

    def send_memory(
        self, requests: CData, memory: CData, length: int, flags: int, request_context: CData, /
    ) -> int: ...
    def receive_memory(
        self, requests: CData, memory: CData, length: int, flags: int, request_context: CData, /
    ) -> int: ...
    def send_now(self, requests: CData, memory: CData, length: int, /) -> int: ...
    def receive_now(self, requests: CData, memory: CData, length: int, /) -> int: ...
    def send_datagrams_now(self, requests: CData, datagrams: CData, count: int, /) -> int: ...
    def socket_send(self, socket: int, memory: CData, length: int, /) -> int: ...
    def socket_receive(self, socket: int, memory: CData, length: int, /) -> int: ...
    def make_socket(self, family: int, type: int, protocol: int, /) -> int: ...
    def is_made(self, socket: int, /) -> int: ...
    def recall_receives(self, requests: CData, /) -> int: ...
    def socket_identity(self, socket: int, /) -> int: ...
    def guard(self, requests: CData, identity: int, /) -> int: ...
    def know_stream(self, port: CData, socket: int, /) -> int: ...
