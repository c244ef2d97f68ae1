"""Registering memory, and who owns a slice of it.

nc-mswsock-lpfn_rioregisterbuffer, -rioderegisterbuffer, ns-mswsockdef-rio_buf; rule 3.
"""

import pytest

from tests.rio.bare import NULL, read_all
from zerio_asyncio.rio._rio import ffi, lib


def test_null_memory_is_a_fault_and_no_length_is_invalid(bare):
    assert bare.rio.RIORegisterBuffer(NULL, 4096) == lib.RIO_INVALID_BUFFERID
    assert bare.error() == lib.RIO_EFAULT
    memory = ffi.new("char[16]")
    assert bare.rio.RIORegisterBuffer(memory, 0) == lib.RIO_INVALID_BUFFERID
    assert bare.error() == lib.RIO_EINVAL


def test_memory_that_wraps_around_is_a_fault(bare):
    last = ffi.cast("char *", 2**64 - 4096)
    assert bare.rio.RIORegisterBuffer(last, 8192) == lib.RIO_INVALID_BUFFERID
    assert bare.error() in {lib.RIO_EFAULT, lib.RIO_EINVAL}


def test_the_invalid_id_has_32_bits_set(bare):
    assert int(ffi.cast("uintptr_t", lib.RIO_INVALID_BUFFERID)) == 0xFFFFFFFF


def test_the_same_memory_may_be_registered_twice(bare):
    region = bare.region(4096)
    again = bare.rio.RIORegisterBuffer(ffi.from_buffer(region.memory), 4096)
    assert again not in {lib.RIO_INVALID_BUFFERID, region.id}
    bare.rio.RIODeregisterBuffer(again)
    requests, queue, _, _ = bare.connection()
    assert bare.send(requests, region.buf(0, 8)) == 0  # the first registration is another
    bare.collect(queue, 1)


def test_deregistering_what_is_none_is_ignored(bare):
    region = bare.region(4096)
    for wrong in (NULL, lib.RIO_INVALID_BUFFERID, ffi.cast("RIO_BUFFERID", 12345)):
        bare.rio.RIODeregisterBuffer(wrong)
    bare.rio.RIODeregisterBuffer(region.id)
    bare.rio.RIODeregisterBuffer(region.id)


def test_a_deregistered_buffer_is_a_fault(bare):
    requests, queue, _, _ = bare.connection()
    region = bare.region(4096)
    bare.rio.RIODeregisterBuffer(region.id)
    assert bare.receive(requests, region.buf(0, 8)) == lib.RIO_EFAULT
    assert bare.send(requests, region.buf(0, 8)) == lib.RIO_EFAULT
    bare.wait(0.01)
    assert bare.dequeue(queue) == []


def test_a_new_registration_does_not_revive_an_old_id(bare):
    requests, _, _, _ = bare.connection()
    old = bare.region(4096)
    bare.rio.RIODeregisterBuffer(old.id)
    fresh = [bare.region(4096) for _ in range(10)]
    assert old.id not in [region.id for region in fresh]
    assert bare.send(requests, old.buf(0, 8)) == lib.RIO_EFAULT


@pytest.mark.parametrize(
    ("offset", "length"),
    [(4096, 1), (4095, 2), (0, 4097), (1, 4096), (0xFFFFFFFF, 1), (1, 0xFFFFFFFF), (2**31, 2**31)],
)
def test_a_slice_must_lie_within_its_region(bare, offset, length):
    requests, queue, _, _ = bare.connection()
    region = bare.region(4096)
    for call in (bare.receive, bare.send):
        assert call(requests, region.buf(offset, length)) in {lib.RIO_EINVAL, lib.RIO_EFAULT}
    bare.wait(0.01)
    assert bare.dequeue(queue) == []


def test_the_last_byte_belongs_to_the_region(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region(4096)
    region.memory[4095] = 0x5A
    assert bare.send(requests, region.buf(4095, 1)) == 0
    assert bare.collect(queue, 1)[0].bytes == 1
    assert peer.recv(10) == b"\x5a"


def test_receives_write_their_slice_and_nothing_beside_it(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region(4096)
    region.memory[:] = b"\xee" * 4096
    assert bare.receive(requests, region.buf(100, 10), 1) == 0
    assert bare.receive(requests, region.buf(50, 20), 2) == 0
    peer.sendall(b"0123456789ABCDEFGHIJKLMNOPQRST")
    results = bare.collect(queue, 2)
    assert [(r.context, r.bytes) for r in results] == [(1, 10), (2, 20)]
    assert region.memory[100:110] == b"0123456789"
    assert region.memory[50:70] == b"ABCDEFGHIJKLMNOPQRST"
    assert set(region.memory[:50] + region.memory[70:100] + region.memory[110:]) == {0xEE}


def test_a_busy_region_may_be_deregistered_and_its_requests_end_well(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region(1 << 20)
    region.memory[: 1 << 19] = b"s" * (1 << 19)
    assert bare.receive(requests, region.buf(1 << 19, 100), 1) == 0
    assert bare.send(requests, region.buf(0, 1 << 19), 2) == 0
    bare.rio.RIODeregisterBuffer(region.id)
    assert bare.send(requests, region.buf(0, 1), 3) == lib.RIO_EFAULT
    peer.settimeout(0.02)
    got = b""
    while len(got) < 1 << 19:
        bare.wait(0)
        try:
            got += peer.recv(1 << 19)
        except TimeoutError:
            continue
    assert got == b"s" * (1 << 19)
    peer.sendall(b"late")
    results = sorted(bare.collect(queue, 2), key=lambda r: r.context)
    assert [(r.status, r.bytes) for r in results] == [(0, 4), (0, 1 << 19)]
    assert region.memory[1 << 19 : (1 << 19) + 4] == b"late"


def test_many_registrations_come_and_go(bare):
    seen = set()
    for _ in range(50):
        regions = [bare.region(4096) for _ in range(20)]
        seen.update(int(ffi.cast("uintptr_t", region.id)) for region in regions)
        for region in regions:
            bare.rio.RIODeregisterBuffer(region.id)
    assert len(seen) == 1000


def test_the_description_of_a_slice_is_read_during_the_call(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region(4096)
    region.memory[:20] = b"firstsecondthird...."
    data = region.buf(0, 5)
    assert bare.send(requests, data, 1, lib.RIO_MSG_DEFER) == 0
    data.Offset, data.Length = 5, 6
    assert bare.send(requests, data, 2, lib.RIO_MSG_DEFER) == 0
    data.Offset, data.Length = 11, 5
    assert bare.send(requests, data, 3) == 0
    data.BufferId, data.Offset, data.Length = NULL, 0, 0
    assert [r.bytes for r in bare.collect(queue, 3)] == [5, 6, 5]
    assert read_all(peer, 16) == b"firstsecondthird"
