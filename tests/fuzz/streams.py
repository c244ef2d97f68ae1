"""Streams: transports with three kinds of protocols, and the plain sockets at their other ends."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import tempfile
from typing import Any

from zerio_asyncio import RegisteredProtocol

from .world import Planned, World, callback

RESET = struct.pack("ii", 1, 0)
NAMES = ("peername", "socket", "sockname", "sslcontext", "nothing of this name")
LIMITS = (0, 1, 1000, 20_000, 200_000)


class End:
    """One end of a connection: what it sends is ``flow``, what it gets is ``reader``'s."""

    tame = False
    """Its callbacks do nothing but look."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.flow = world.new_flow()
        self.reader = world.new_reader()

    def spoil(self) -> None:
        """It may end any moment: bytes on their way, in either direction, may be lost."""
        self.flow.broken = True
        self.reader.spoiled = True

    @property
    def missing(self) -> set[int]:
        return self.flow.missing


class Side(End):
    """An end that is a transport's. Actions stay offered after its end: they must do no harm."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.transport: Any = None
        self.lost = False
        self.sends_file = False
        self.protocol = self.new_protocol()

    def new_protocol(self) -> Any:
        kinds = [Plain, Buffered]
        if self.world.provider != "std":
            kinds += [Registered, Registered]
        return self.world.random.choice(kinds)(self)

    def offer(self) -> None:
        self.world.offer(
            ("", self.write),
            ("", self.write),
            ("", self.write),
            ("writelines", self.writelines),
            ("copies", self.write_copy),
            ("eof", self.write_eof),
            ("pause", self.pause_reading),
            ("pause", self.resume_reading),
            ("pause", self.resume_reading),
            ("pause", self.pause_and_resume),
            ("protocols", self.set_protocol),
            ("limits", self.set_limits),
            ("close", self.close),
            ("abort", self.abort),
            ("info", self.ask),
            ("sendfile", self.sendfile),
        )

    # ------------------------------------------------------------------- actions

    def _take(self) -> tuple[int, bytes]:
        open_ = not self.transport.is_closing()
        return self.flow.take(self.world.size(), sure=open_)

    def _send(self, function: Any, argument: Any, numbers: list[int]) -> None:
        flow = self.flow
        flow.inside += 1
        try:
            before, self.world.quiet = self.world.quiet, 0
            try:
                function(argument)
            finally:
                self.world.quiet = before
        except RuntimeError:  # after write_eof, during a sendfile
            for number in numbers:
                flow.withdraw(number)
        except OSError:
            self.spoil()
        except SystemExit:
            pass
        finally:
            flow.inside -= 1

    def write(self) -> None:
        if self.transport is not None:
            number, data = self._take()
            self._send(self.transport.write, data, [number])

    def write_copy(self) -> None:
        """What may be changed as soon as the call returns."""
        if self.transport is None:
            return
        number, data = self._take()
        copy = bytearray(data)
        kind = self.world.random.random()
        self._send(self.transport.write, copy if kind < 0.5 else memoryview(copy), [number])
        copy[:] = b"!" * len(copy)

    def writelines(self) -> None:
        if self.transport is None:
            return
        if self.world.provider == "std" and self.transport.is_closing():
            return  # from 3.12 on it is a TypeError there
        taken = [self._take() for _ in range(self.world.random.randint(1, 4))]
        parts = [data for _, data in taken]
        self._send(self.transport.writelines, parts, [number for number, _ in taken])

    def write_eof(self) -> None:
        if self.transport is not None and self.transport.can_write_eof():
            self.world.call(self.transport.write_eof)

    def pause_reading(self) -> None:
        if self.transport is not None:
            self.world.call(self.transport.pause_reading)

    def resume_reading(self) -> None:
        if self.transport is not None:
            self.world.call(self.transport.resume_reading)

    def pause_and_resume(self) -> None:
        self.pause_reading()
        self.resume_reading()

    def set_protocol(self) -> None:
        if self.transport is None or self.lost:
            return
        if self.protocol.between and self.world.provider == "std":
            return  # it would tell the new protocol of the old one's buffer
        if self.protocol.between and self.reader.flow is not None:
            # The buffer is the old one's, and who is told of it differs between loops.
            self.reader.flow.unsure = True
        if self.protocol.between:
            self.protocol.excused = True
            self.spoil()
        self.protocol = self.new_protocol()
        self.protocol.transport = self.transport
        self.world.call(self.transport.set_protocol, self.protocol)

    def set_limits(self) -> None:
        if self.transport is not None:
            high = self.world.random.choice(LIMITS)
            self.world.call(self.transport.set_write_buffer_limits, high)

    def close(self) -> None:
        if self.transport is not None:
            self.spoil()
            self.world.call(self.transport.close, allow=())

    def abort(self) -> None:
        if self.transport is not None:
            self.spoil()
            self.world.call(self.transport.abort, allow=())

    def ask(self) -> None:
        transport, call = self.transport, self.world.call
        if transport is None:
            return
        call(transport.get_extra_info, self.world.random.choice(NAMES), allow=())
        for method in (
            transport.is_closing, transport.is_reading, transport.get_write_buffer_size,
            transport.get_write_buffer_limits, transport.get_protocol, transport.can_write_eof,
            transport.__repr__,
        ):  # fmt: skip
            call(method, allow=())

    def sendfile(self) -> None:
        # The standard loop forgets that a transport may end while a file goes out.
        if self.transport is not None and not self.sends_file and self.world.provider != "std":
            self.sends_file = True
            self.world.spawn(self._sendfile())

    async def _sendfile(self) -> None:
        number, data = self.flow.take(self.world.random.choice((0, 3000, 70_000)), sure=False)
        self.flow.loose.add(number)  # it begins later
        offset = self.world.random.choice((0, 17))
        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(b"-" * offset + data)
            sent = False
            try:
                await self.world.loop.sendfile(self.transport, file, offset, len(data))
                sent = True
            except (OSError, RuntimeError):
                pass
            finally:
                self.sends_file = False
                if not sent and number not in self.flow.seen:
                    # How much has gone is not known: the stream is of no use any more.
                    self.flow.unsure = True
                    self.abort()

    # ------------------------------------------------------------------- its end

    async def settle(self) -> None:
        self.resume_reading()

    def ended(self) -> None:
        """All have ended, and the loop has not."""

    def drop(self) -> None:
        self.transport = None

    def __repr__(self) -> str:
        kind = type(self.protocol).__name__
        return f"<{kind} side, flow {self.flow.number}, {self.transport!r}, lost {self.lost}>"


class Base:
    """What the three kinds of protocols have in common."""

    between = False
    """A buffer was asked for, and nothing said yet of what is in it."""
    excused = False
    """It was replaced in that moment."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.world = side.world
        self.transport: Any = None

    @callback
    def connection_made(self, transport: Any) -> None:
        side = self.side
        if side.transport is not None:
            self.world.tell("connection_made came twice")
        side.transport = self.transport = transport
        if not self.world.over:
            side.offer()
        self.made(transport)
        self.mischief()
        self.fail(harmless=True)

    def made(self, transport: Any) -> None:
        pass

    def current(self, call: str) -> None:
        """What is called must be the protocol that was set last, on an open connection."""
        if self.side.lost:
            self.world.tell(f"{call} after connection_lost")

    def mischief(self) -> None:
        if not self.side.tame:
            self.world.mischief()

    def fail(self, harmless: bool = False) -> None:
        """Perhaps raise; that ends the connection, unless it is harmless there."""
        try:
            if not self.side.tame:
                self.world.fail()
        except Planned:
            if not harmless:
                self.side.spoil()
            raise

    def got(self, data: bytes) -> None:
        self.current("data")
        if self.side.protocol is not self and not self.excused and not self.world.late:
            self.world.tell("data for a protocol that was replaced")
        self.side.reader.feed(data)

    @callback
    def eof_received(self) -> bool:
        self.current("eof_received")
        self.side.reader.finish()
        self.mischief()
        self.fail()
        return not self.world.over and self.world.random.random() < 0.3

    @callback
    def connection_lost(self, error: BaseException | None) -> None:
        side = self.side
        if side.lost:
            self.world.tell("connection_lost came twice")
        side.lost = True
        if error is not None:
            side.spoil()
        side.reader.finish()
        self.mischief()
        self.fail(harmless=True)

    @callback
    def pause_writing(self) -> None:
        self.current("pause_writing")
        self.mischief()
        self.fail(harmless=True)

    @callback
    def resume_writing(self) -> None:
        self.mischief()
        self.fail(harmless=True)


class Plain(Base, asyncio.Protocol):
    @callback
    def data_received(self, data: bytes) -> None:
        self.got(data)
        self.mischief()
        self.fail()


class Buffered(Base, asyncio.BufferedProtocol):
    def __init__(self, side: Side) -> None:
        super().__init__(side)
        self.buffer: Any = None

    @callback
    def get_buffer(self, sizehint: int) -> Any:
        self.current("get_buffer")
        size = self.world.random.choice((1, 100, 5000, 70_000))
        self.buffer = bytearray(size)
        self.between = True
        self.mischief()
        self.fail()
        return self.buffer

    @callback
    def buffer_updated(self, count: int) -> None:
        self.between = False
        data, self.buffer = bytes(self.buffer[:count]), None
        self.got(data)
        self.mischief()
        self.fail()


class Registered(Base, RegisteredProtocol):
    @callback
    def view_received(self, view: memoryview) -> None:
        data = bytes(view)
        self.got(data)
        self.world.show(view, data)
        self.mischief()
        self.world.shown(view, data)
        self.fail()


class Peer(End):
    """An end that is a plain socket, on no loop; it never blocks."""

    def __init__(self, world: World, sock: socket.socket) -> None:
        super().__init__(world)
        self.sock = sock
        sock.setblocking(False)
        self.unsent = bytearray()
        self.open = self.sending = True
        self.lost = False
        world.offer(
            ("", self.send),
            ("", self.send),
            ("", self.pump),
            ("", self.receive),
            ("", self.receive),
            ("eof", self.end),
            ("abort", self.reset),
            ("close", self.close),
        )

    def send(self) -> None:
        if self.open and self.sending and len(self.unsent) < 400_000:
            _, data = self.flow.take(self.world.size())
            if self.world.canary and self.flow.taken > 1:
                data = data[:-1] + bytes([data[-1] ^ 1])
            self.unsent += data
            self.pump()

    def pump(self) -> None:
        """Send what the socket takes."""
        try:
            while self.open and self.unsent:
                part = self.sock.send(self.unsent)
                del self.unsent[:part]
        except BlockingIOError:
            pass
        except OSError:
            self._lose()
        if self.open and not self.sending and not self.unsent:
            self._shut()

    def receive(self) -> None:
        size = self.world.random.choice((1, 5000, 300_000)) if not self.world.over else 1 << 18
        if self.open and not self.lost:
            self._receive(size)

    def _receive(self, size: int) -> bool:
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            return False
        except OSError:
            self._lose()
            return False
        if not data:
            self.reader.finish()
            self.lost = True
            return False
        self.reader.feed(data)
        return True

    def receive_all(self) -> None:
        while self.open and not self.lost and self._receive(1 << 18):
            pass

    def end(self) -> None:
        if self.open and self.sending:
            self.sending = False
            self.pump()

    def _shut(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._lose()

    def reset(self) -> None:
        if self.open:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.close()

    def close(self) -> None:
        if self.open:
            self._lose()
            self.open = False
            self.sock.close()

    def _lose(self) -> None:
        self.lost = True
        self.spoil()
        self.unsent.clear()

    async def settle(self) -> None:
        self.sending = self.sending and self.open

    def drop(self) -> None:
        self.open = False
        self.sock.close()

    def __repr__(self) -> str:
        return f"<peer, flow {self.flow.number}, unsent {len(self.unsent)}, lost {self.lost}>"


def pair(one: End, other: End) -> None:
    """They are the ends of one connection."""
    one.reader.expect(other.flow)
    other.reader.expect(one.flow)


class Settling:
    """Ends the connections of a program: what must come has come, then all are closed."""

    def __init__(self, world: World, ends: list[End]) -> None:
        self.world = world
        self.ends = ends

    def _pump(self) -> None:
        for end in self.ends:
            if isinstance(end, Peer):
                end.pump()
                end.receive_all()
            elif end.transport is not None and not end.transport.is_closing():
                end.resume_reading()

    def _arrived(self) -> bool:
        self._pump()
        return not any(end.missing for end in self.ends)

    def _ended(self) -> bool:
        """Whether all have ended; those that were made just now are closed, too."""
        self._pump()
        left = 0
        for end in self.ends:
            if isinstance(end, Side) and end.transport is not None and not end.lost:
                self.world.call(end.transport.close)
                left += 1
        return not left

    def _what(self) -> str:
        return "; ".join(
            f"{end!r} lacks {sorted(end.missing)[:5]}"
            for end in self.ends
            if end.missing or not end.lost
        )

    async def settle(self) -> None:
        # A sendfile that is under way is waited for; the rest may be cancelled at the end.
        await self.world.until(self._arrived, lambda: f"arrivals: {self._what()}")
        for end in self.ends:
            if isinstance(end, Peer):
                end.end()
        await self.world.until(self._ended, lambda: f"ends: {self._what()}")
        for end in self.ends:
            if isinstance(end, Peer):
                end.drop()
            elif isinstance(end, Side):
                end.ended()

    def drop(self) -> None:
        for end in self.ends:
            end.drop()  # type: ignore[attr-defined]
        self.ends.clear()


async def transport_of(world: World, side: Side, sock: socket.socket) -> None:
    """Make the transport, one way or another."""
    sock.setblocking(False)
    loop, draw = world.loop, world.random.random()
    world.quiet = 0
    try:
        if draw < 0.5 and sock.family == socket.AF_UNIX:
            await loop.create_unix_connection(lambda: side.protocol, sock=sock)
        elif draw < 0.8:
            await loop.create_connection(lambda: side.protocol, sock=sock)
        else:
            await loop.connect_accepted_socket(lambda: side.protocol, sock)
    finally:
        world.quiet = 1


async def pairs(world: World) -> list[Any]:
    """Connections of socket pairs: a transport and a plain socket, or two transports."""
    ends: list[End] = []
    settling = Settling(world, ends)
    world.actors.append(settling)
    for _ in range(world.random.randint(1, 3)):
        one, other = socket.socketpair()
        side = Side(world)
        far: End = Peer(world, other) if world.random.random() < 0.6 else Side(world)
        pair(side, far)
        ends += [side, far]
        await transport_of(world, side, one)
        if isinstance(far, Side):
            await transport_of(world, far, other)
    return []


def folder() -> str:
    """Where Unix sockets of servers are."""
    made = os.environ.get("ZERIO_FUZZ_FOLDER")
    if not made:
        made = os.environ["ZERIO_FUZZ_FOLDER"] = tempfile.mkdtemp(prefix="zerio-fuzz-")
    return made
