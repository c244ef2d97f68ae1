"""Objects that stand for the system's: half made, made twice, copied, pickled. Errors, no more."""

import copy
import inspect
import pickle

import pytest

from tests.rio.bare import connected
from zerio_asyncio.rio import (
    BufferPool,
    CompletionPort,
    CompletionQueue,
    Provider,
    Region,
    RequestQueue,
    Slice,
    known,
)

CLASSES = [CompletionPort, CompletionQueue, RequestQueue, BufferPool, Region, Slice]

ARGUMENTS = {  # of what cannot be called without
    "post": [1],
    "watch": [0, 1],
    "accept": [0],
    "accept_stop": [0],
    "connect": [None, ("127.0.0.1", 1)],
    "connect_stop": [0],
    "retire": [0],
    "join": [0],
    "leave": [0],
    "give": [None],
    "part": [0],
    "send_memory": [b"x"],
    "receive_memory": [bytearray(1)],
    "send_now": [b"x"],
    "receive_now": [bytearray(1)],
    "receive": [None],
    "send": [None],
    "receive_from": [None],
    "send_to": [None],
}

HARMLESS = {"close", "closed", "trim"}


def members(kind):
    return [name for name, _ in inspect.getmembers(kind) if not name.startswith("_")]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.filterwarnings("error")
def test_what_was_never_made_refuses_everything(kind):
    made = kind.__new__(kind)
    assert kind.__name__ in repr(made)
    for name in members(kind):
        if inspect.isdatadescriptor(inspect.getattr_static(kind, name)):
            continue  # looked at below
        call = getattr(made, name)
        arguments = ARGUMENTS.get(name, [1, 1] if name == "resize" else [])
        if name in HARMLESS and kind is not BufferPool:
            call(*arguments)
            continue
        with pytest.raises((ValueError, TypeError, AttributeError)):
            call(*arguments)
    del made


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_properties_of_what_was_never_made(kind):
    made = kind.__new__(kind)
    for name in members(kind):
        if not inspect.isdatadescriptor(inspect.getattr_static(kind, name)):
            continue
        if name == "closed":
            assert made.closed
            continue
        with pytest.raises((ValueError, AttributeError)):
            getattr(made, name)


@pytest.fixture
def all_made(provider):
    """One of each class, with the arguments that it was made with."""
    port = CompletionPort(provider)
    ours, peer = connected("unix", provider)
    ours.setblocking(False)
    queue = CompletionQueue(8, port)
    requests = RequestQueue(ours, queue)
    region = Region(provider, 4096)
    pool = BufferPool(provider, 64, 4096)
    part = pool.take()
    yield [
        (port, (provider,)),
        (queue, (8, port)),
        (requests, (ours, queue)),
        (region, (provider, 4096)),
        (pool, (provider, 64, 4096)),
        (part, (part.region, 0, 64)),
    ]
    pool.give(part)
    pool.close()
    region.close()
    requests.close()
    ours.close()
    peer.close()
    queue.close()
    port.close()


def test_nothing_is_made_twice(all_made):
    for made, arguments in all_made:
        with pytest.raises(TypeError, match="already been made"):
            made.__init__(*arguments)
    port, queue = all_made[0][0], all_made[1][0]
    port.post(3)
    assert [event.key for event in port.wait(5)] == [3]
    assert queue.notify()


def test_nothing_is_made_twice_after_its_end(provider):
    port = CompletionPort(provider)
    port.close()
    with pytest.raises(TypeError, match="already been made"):
        port.__init__(provider)
    assert port.closed


@pytest.mark.parametrize(
    "way",
    [copy.copy, copy.deepcopy]
    + [lambda made, n=n: pickle.dumps(made, n) for n in range(pickle.HIGHEST_PROTOCOL + 1)],
    ids=["copy", "deepcopy"] + [f"pickle {n}" for n in range(pickle.HIGHEST_PROTOCOL + 1)],
)
def test_nothing_is_copied(all_made, way):
    for made, _ in all_made:
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            way(made)
        with pytest.raises(TypeError):
            way(type(made).__new__(type(made)))


def test_a_provider_is_one_object(provider):
    assert copy.copy(provider) is provider
    assert copy.deepcopy(provider) is provider
    assert pickle.loads(pickle.dumps(provider)) is provider
    half = Provider.__new__(Provider)
    assert "Provider" in repr(half)
    for name in ("sends_memory", "receives_memory", "has_datagrams", "acts_now", "sends_now"):
        with pytest.raises(AttributeError):
            getattr(half, name)
    for call in (half.probe, half.make_socket):
        with pytest.raises(AttributeError):
            call()
    assert provider in known()
