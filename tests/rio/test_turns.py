"""Two threads at one port through the classes: refused or ordered, never a crash (rule 10)."""

import contextlib
import gc
import os
import threading
import time

import pytest

from tests.rio.bare import SECONDS, connected
from tests.rio.isolated import isolated
from tests.rio.marks import with_fork
from zerio_asyncio.rio import (
    CompletionPort,
    CompletionQueue,
    Kind,
    Region,
    RequestQueue,
    RioError,
    by_name,
)


class Sleeper(threading.Thread):
    """Sleeps in a port's wait until it is posted to; `events` is what the wait answered."""

    def __init__(self, port):
        super().__init__()
        self.port = port
        self.events = None
        self.start()
        end = time.monotonic() + SECONDS
        while not asleep(port):
            assert time.monotonic() < end

    def run(self):
        while self.events is None:
            with contextlib.suppress(RuntimeError):  # while the other asks whether it sleeps
                self.events = self.port.wait(SECONDS)
        self.port.park()

    def wake(self):
        self.port.post(5)
        self.join()
        return [(event.kind, event.key) for event in self.events]


def asleep(port):
    try:
        port.pending()
    except RuntimeError:
        return True
    return False


@pytest.fixture
def used(provider):
    """A port with a connection and its queue, and a region; all still open at the end."""
    port = CompletionPort(provider)
    ours, peer = connected("tcp", provider)
    ours.setblocking(False)
    queue = CompletionQueue(64, port)
    requests = RequestQueue(ours, queue)
    region = Region(provider, 4096)
    port.park()
    yield port, queue, requests, region, ours
    requests.close()
    ours.close()
    peer.close()
    port.close()
    region.close()


def test_a_port_is_not_closed_under_its_sleeper(used):
    port = used[0]
    sleeper = Sleeper(port)
    with pytest.raises(RuntimeError, match="another thread is in a call"):
        port.close()
    assert not port.closed
    assert sleeper.wake() == [(Kind.POST, 5)]
    port.close()
    assert port.closed


def test_every_call_but_post_is_refused_while_another_sleeps(used):
    port, queue, requests, region, ours = used
    sleeper = Sleeper(port)
    part = region.slice(0, 64)
    calls = {
        "wait": lambda: port.wait(0),
        "pending": port.pending,
        "watch": lambda: port.watch(ours, 1),
        "accept": lambda: port.accept(ours),
        "accept_stop": lambda: port.accept_stop(ours),
        "connect": lambda: port.connect(ours, ("127.0.0.1", 9)),
        "connect_stop": lambda: port.connect_stop(ours),
        "retire": lambda: port.retire(ours),
        "join": lambda: port.join(ours),
        "native": lambda: port.native,
        "park": port.park,
        "statistics": port.statistics,
        "close": port.close,
        "queue": lambda: CompletionQueue(1, port),
        "notify": queue.notify,
        "dequeue": queue.dequeue,
        "resize": lambda: queue.resize(128),
        "close the queue": queue.close,
        "requests": lambda: RequestQueue(ours, queue),
        "receive": lambda: requests.receive(part),
        "send": lambda: requests.send(part),
        "receive_from": lambda: requests.receive_from(part),
        "send_to": lambda: requests.send_to(part),
        "send_memory": lambda: requests.send_memory(b"x"),
        "receive_memory": lambda: requests.receive_memory(bytearray(8)),
        "send_now": lambda: requests.send_now(b"x"),
        "receive_now": lambda: requests.receive_now(bytearray(8)),
        "commit_receives": requests.commit_receives,
        "commit_sends": requests.commit_sends,
        "resize the requests": lambda: requests.resize(2, 2),
        "close the requests": requests.close,
    }
    answers = {}
    for name, call in calls.items():
        try:
            call()
        except RuntimeError:
            continue
        except Exception as error:
            answers[name] = error
        else:
            answers[name] = "done"
    assert answers == {}
    assert not part.busy
    assert queue.outstanding == 0
    assert sleeper.wake() == [(Kind.POST, 5)]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_finalizers_in_another_thread_are_put_off(used):
    """What the collector ends while another sleeps is ended when that one comes out."""
    port, queue, _, _, _ = used
    provider = port.provider
    ours, peer = connected("unix", provider)  # which may have a second queue on every provider
    ours.setblocking(False)
    with ours, peer:
        forgotten = CompletionQueue(8, port)
        requests = RequestQueue(ours, forgotten)
        requests.receive(Region(provider, 64).slice())
        cycle = [forgotten, requests]
        cycle.append(cycle)
        port.park()
        sleeper = Sleeper(port)
        del forgotten, requests, cycle
        gc.collect()
        assert sleeper.wake() == [(Kind.POST, 5)]
        again = RequestQueue(ours, queue)  # its place is free
        again.close()


def test_queues_without_a_port_wait_for_each_other(provider):
    """None of their calls sleeps; threads that use them take turns."""
    failures = []

    def use():
        try:
            for _ in range(50):
                ours, peer = connected("unix", provider)
                with ours, peer, CompletionQueue(8, provider=provider) as queue:
                    ours.setblocking(False)
                    region = Region(provider, 64)
                    requests = RequestQueue(ours, queue)
                    requests.receive(region.slice())
                    peer.send(b"x")
                    end = time.monotonic() + SECONDS
                    while not queue.dequeue():
                        assert time.monotonic() < end
                    requests.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_a_region_stays_registered_as_long_as_a_request_uses_it(used):
    port, queue, requests, region, ours = used
    part = region.slice(0, 64)
    requests.receive(part)
    other = threading.Thread(target=region.close)
    other.start()
    other.join()
    assert region.closed
    with pytest.raises(ValueError, match="region is closed"):
        requests.send(part)
    requests.close()
    ours.close()
    end = time.monotonic() + SECONDS
    while part.busy:
        assert time.monotonic() < end
        port.wait(0.01)
        queue.dequeue()


@with_fork
def test_a_child_of_a_fork_closes_a_port_in_which_a_thread_slept(provider):
    isolated(fork_beside_a_sleeper, provider.name)


def fork_beside_a_sleeper(name):
    port = CompletionPort(by_name(name))
    sleeper = Sleeper(port)
    child = os.fork()
    if child == 0:
        try:
            port.pending()
            port.wait(0)
        except RioError:
            port.close()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert sleeper.wake() == [(Kind.POST, 5)]
    port.close()
