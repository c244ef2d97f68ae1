"""The port's counters."""

from zerio_asyncio.rio import CompletionPort, CompletionQueue, Region, RequestQueue
from zerio_asyncio.rio._rio import lib


def test_a_new_port_has_counted_nothing(port, provider):
    counts = port.statistics()
    assert counts.provider == provider.name
    assert counts.completions == counts.waits == 0
    assert counts.bytes_received == counts.bytes_sent == 0


def test_bytes_and_results_are_exact(bare):
    requests, queue, _, peer = bare.connection()
    region = bare.region(1 << 20)
    assert bare.send(requests, region.buf(0, 1000), 1) == 0
    bare.collect(queue, 1)
    peer.sendall(b"x" * 77)
    assert bare.receive(requests, region.buf(0, 77), 2, lib.RIO_MSG_WAITALL) == 0
    bare.collect(queue, 1)
    counts = bare.statistics()
    assert (counts.bytes_sent, counts.bytes_received, counts.completions) == (1000, 77, 2)
    assert counts.waits > 0
    assert counts.system_calls > 0


def test_deferred_sends_gather(bare):
    """Sixteen sends, and fewer trips than sends."""
    requests, queue, _, peer = bare.connection(sends=16)
    region = bare.region()
    for i in range(16):
        assert bare.send(requests, region.buf(i * 10, 10), i, lib.RIO_MSG_DEFER) == 0
    assert bare.commit(bare.rio.RIOSend, requests) == 0
    bare.collect(queue, 16)
    counts = bare.statistics()
    assert counts.gathered > 0
    assert counts.bytes_sent == 160
    assert len(peer.recv(1000)) == 160


def test_nothing_is_left_in_the_kernel(provider):
    import socket

    with CompletionPort(provider) as port, Region(provider, 65536) as region:
        queue = CompletionQueue(64, port)
        for _ in range(10):
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            with RequestQueue(ours, queue) as requests:
                requests.receive(region.slice(0, 100))
                port.wait(0)
            while queue.outstanding:
                port.wait(0.01)
                queue.dequeue()
            ours.close()
            peer.close()
        for _ in range(5):
            port.wait(0.001)
        # What stays is the port's own (its bell, where it has one): less than one a connection.
        assert port.statistics().in_kernel < 4


def test_waits_count(port):
    before = port.statistics().waits
    for _ in range(5):
        port.wait(0)
    assert port.statistics().waits == before + 5
