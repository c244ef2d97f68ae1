"""Regions, slices and the pool."""

import gc
import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from zerio_asyncio.rio import BufferPool, Region, Slice, available
from zerio_asyncio.rio.buffers import PAGE_SIZE, REGION_SIZE_MAX


@pytest.fixture
def pool(provider):
    with BufferPool(provider, 4096, 16384) as made:
        yield made


class TestRegion:
    def test_whole_pages(self, provider):
        with Region(provider, 1) as region:
            assert region.size == PAGE_SIZE
            assert len(region.slice()) == PAGE_SIZE

    @pytest.mark.parametrize("size", [0, -1, REGION_SIZE_MAX + 1])
    def test_sizes_have_a_range(self, provider, size):
        with pytest.raises(ValueError, match="size must be"):
            Region(provider, size)

    def test_what_is_no_provider(self):
        with pytest.raises(TypeError):
            Region("epoll", 4096)

    def test_slices_see_the_same_memory(self, provider):
        with Region(provider, 4096) as region:
            region.slice(10, 5).memory[:] = b"hello"
            assert bytes(region.slice(8, 9).memory) == b"\0\0hello\0\0"
            assert bytes(region.slice(10).part(1, 3).memory) == b"ell"

    @pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, 4097), (4096, 1), (5, -1)])
    def test_slices_lie_within(self, provider, offset, length):
        with Region(provider, 4096) as region:
            with pytest.raises(ValueError, match="lie outside"):
                region.slice(offset, length)
            with pytest.raises(ValueError, match="lie outside"):
                region.slice().part(offset, length)

    def test_parts_lie_within_their_slice(self, provider):
        with Region(provider, 4096) as region:
            part = region.slice(100, 50)
            assert (part.part(10).offset, part.part(10).length) == (110, 40)
            with pytest.raises(ValueError, match="lie outside a slice"):
                part.part(10, 41)

    def test_closed(self, provider):
        region = Region(provider, 4096)
        region.close()
        region.close()
        assert region.closed
        with pytest.raises(ValueError, match="region is closed"):
            _ = region.buffer_id

    def test_memory_stays_as_long_as_somebody_looks(self, provider):
        region = Region(provider, 4096)
        view = region.slice(0, 5).memory
        view[:] = b"still"
        region.close()
        del region
        gc.collect()
        assert bytes(view) == b"still"


class TestPool:
    @pytest.mark.parametrize("sizes", [(0, 4096), (4096, 0), (4096, 4095), (4096, 6000), (-1, 1)])
    def test_a_slab_is_whole_slices(self, provider, sizes):
        with pytest.raises(ValueError, match="not a whole number"):
            BufferPool(provider, *sizes)

    def test_slabs_are_registered_on_demand(self, pool):
        assert pool.statistics() == (0, 0, 0, 0, 0)
        slices = [pool.take() for _ in range(4)]
        assert pool.statistics() == (4, 4, 4, 1, 1)
        slices.append(pool.take())
        assert pool.statistics() == (8, 5, 5, 2, 2)
        for part in slices:
            assert len(part) == 4096
            pool.give(part)
        assert pool.statistics() == (4, 0, 5, 1, 2)  # one spare

    def test_the_spare_saves_registrations(self, pool):
        for _ in range(100):
            pool.give(pool.take())
        assert pool.statistics().registrations == 1
        pool.trim()
        assert pool.statistics().slabs == 0

    def test_slices_do_not_overlap(self, pool):
        slices = [pool.take() for _ in range(10)]
        places = {(id(part.region), part.offset) for part in slices}
        assert len(places) == 10
        for i, part in enumerate(slices):
            part.memory[:] = bytes([i]) * 4096
        assert [set(part.memory) for part in slices] == [{i} for i in range(10)]
        for part in slices:
            pool.give(part)

    def test_giving_back_what_is_not_ours(self, pool, provider):
        part = pool.take()
        with pytest.raises(TypeError, match="not a slice"):
            pool.give(bytearray(4096))
        with Region(provider, 4096) as region, pytest.raises(ValueError, match="not in use"):
            pool.give(region.slice())
        with pytest.raises(ValueError, match="not in use"):
            pool.give(part.part(0))
        pool.give(part)
        with pytest.raises(ValueError, match="not in use"):
            pool.give(part)

    def test_a_busy_slice_cannot_be_given_back(self, pool):
        part = pool.take()
        inner = part.part(5, 5)
        inner._hold()
        with pytest.raises(ValueError, match="belongs to a request"):
            pool.give(part)
        inner._release()
        pool.give(part)

    def test_a_limit_of_slabs(self, provider):
        with BufferPool(provider, 4096, 8192, slabs_max=2) as pool:
            slices = [pool.take() for _ in range(4)]
            with pytest.raises(MemoryError, match="all 2 slabs"):
                pool.take()
            pool.give(slices.pop())
            slices.append(pool.take())
            for part in slices:
                pool.give(part)
        with pytest.raises(ValueError, match="slabs_max"):
            BufferPool(provider, slabs_max=0)

    def test_a_closed_pool_takes_back_what_is_out(self, provider):
        pool = BufferPool(provider, 4096, 8192)
        part, _spare = pool.take(), pool.take()
        pool.close()
        with pytest.raises(ValueError, match="pool is closed"):
            pool.take()
        region = part.region
        pool.give(_spare)
        assert not region.closed
        pool.give(part)
        assert region.closed
        assert pool.statistics().slabs == 0

    def test_a_dropped_pool_drops_its_memory(self, provider):
        pool = BufferPool(provider, 4096, 8192)
        held = weakref.ref(pool.take().region)
        del pool
        gc.collect()
        assert held() is None

    def test_slices_say_what_they_are(self, pool):
        part = pool.take()
        assert repr(part) == "<Slice 0+4096>"
        assert isinstance(part, Slice)
        pool.give(part)


class PoolMachine(RuleBasedStateMachine):
    """Any order of takes, gives, requests and trims keeps the books and the slices apart."""

    slices = Bundle("slices")

    def __init__(self):
        super().__init__()
        self.pool = BufferPool(available()[-1], 4096, 4 * 4096)
        self.used, self.most = {}, 0
        self.mark = 0

    @rule(target=slices)
    def take(self):
        part = self.pool.take()
        assert id(part) not in self.used
        self.mark = self.mark % 255 + 1
        part.memory[0] = part.memory[-1] = self.mark
        self.used[id(part)] = (part, self.mark)
        self.most = max(self.most, len(self.used))
        return part

    @rule(part=consumes(slices))
    def give(self, part):
        assert not part.busy
        self.pool.give(part)
        del self.used[id(part)]

    @rule(part=slices, offset=st.integers(0, 4095))
    def request(self, part, offset):
        inner = part.part(offset)
        inner._hold()
        with pytest.raises(ValueError, match="belongs to a request"):
            self.pool.give(part)
        inner._release()

    @rule()
    def trim(self):
        self.pool.trim()

    @invariant()
    def books(self):
        counts = self.pool.statistics()
        assert counts.used == len(self.used)
        assert counts.used_max == self.most
        assert counts.slices == 4 * counts.slabs
        assert counts.slabs <= counts.registrations
        # never more than one slab that nobody uses
        assert counts.slabs <= len({id(part.region) for part, _ in self.used.values()}) + 1

    @invariant()
    def contents(self):
        for part, mark in self.used.values():
            assert (part.memory[0], part.memory[-1]) == (mark, mark)

    def teardown(self):
        for part, _ in self.used.values():
            self.pool.give(part)
        self.pool.close()
        assert self.pool.statistics()[:2] == (0, 0)


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
