"""The rows of HTTP: every server answers the same page, to the byte, on every loop."""

import pytest

from zerio_asyncio.bench import pages, peers, workloads
from zerio_asyncio.bench.generator import LoadError
from zerio_asyncio.bench.runner import Plan
from zerio_asyncio.bench.settings import Settings

from .support import load, server

LOOPS = ("asyncio", "uvloop", "zerio-uring", "zerio-epoll")
PLAIN = ("http", "uvicorn", "aiohttp")


@pytest.mark.parametrize("mode", PLAIN)
@pytest.mark.parametrize("name", LOOPS)
def test_every_server_on_every_loop(mode: str, name: str) -> None:
    refusal = pages.refusal(mode) or peers.find(name).refusal
    if refusal is not None:
        pytest.skip(refusal)
    settings = Settings(rounds=1, warmup_s=0.05, measure_s=0.1, server_core=None, load_core=None)
    workload = workloads.Workload(mode, connections=5)
    (row,) = Plan([(workload, [peers.find(name)])], [], settings).run(lambda step: None)
    (outcome,) = row.outcomes
    assert outcome.error is None
    assert outcome.ran == mode
    assert row.title == f"{mode}, 13 B × 5"
    assert outcome.samples[0]["requests_s"] > 0


class Written:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.bytes = b""

    def write(self, data: bytes) -> None:
        self.bytes += data


@pytest.mark.parametrize("cut", range(1, 2 * len(pages.REQUEST)))
def test_requests_in_pieces(cut: int) -> None:
    page, transport = pages.Page(), Written()
    page.connection_made(transport)  # type: ignore[arg-type]
    both = 2 * pages.REQUEST
    page.data_received(both[:cut])
    assert transport.bytes == pages.ANSWER * (cut // len(pages.REQUEST))
    page.data_received(both[cut:])
    assert transport.bytes == 2 * pages.ANSWER


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages.importlib.util, "find_spec", lambda name: None)
    assert pages.refusal("http") is None
    assert pages.refusal("uvicorn") == "install uvicorn and httptools"
    assert pages.refusal("aiohttp") == "install aiohttp"


def test_another_answer_is_found() -> None:
    wrong = pages.ANSWER.replace(b"World", b"world")
    with server(lambda data, seen: wrong) as listener, pytest.raises(LoadError, match="came back"):
        load(listener, page=True, requests_each=5)


def test_no_server_in_c_answers_pages() -> None:
    native = peers.Peer("c-epoll", "C", native=True)
    for mode in pages.MODES:
        assert workloads.peers_for(workloads.Workload(mode), [native]) == []
