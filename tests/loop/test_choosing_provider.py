"""Which provider a loop takes, and what happens where the system refuses one.

Trap 10 of docs/design.md. The refusals are made in processes of their own, by a seccomp filter
as containers have it, and by resource limits.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from .marks import with_limits, with_seccomp
from .support import provider_refusal

SECCOMP = """
import ctypes, struct

def refuse_io_uring(error):
    '''Every io_uring system call of this process fails with the error from now on.'''
    load, jump_equal, answer = 0x20, 0x15, 0x06
    def step(code, yes, no, value):
        return struct.pack("HBBI", code, yes, no, value)
    program = step(load, 0, 0, 0)                      # the number of the system call
    for number, over in ((425, 2), (426, 1), (427, 0)):  # setup, enter, register
        program += step(jump_equal, over, 1 if not over else 0, number)
    program += step(answer, 0, 0, 0x00050000 | error)  # SECCOMP_RET_ERRNO
    program += step(answer, 0, 0, 0x7FFF0000)          # SECCOMP_RET_ALLOW
    memory = ctypes.create_string_buffer(program, len(program))
    filter = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8,
                                                     ctypes.addressof(memory)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, ctypes.byref(filter)) == 0  # PR_SET_SECCOMP
"""

ECHO = """
import asyncio

async def echo():
    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"echo\\n")
    answer = await reader.readline()
    writer.close()
    await asyncio.sleep(0.01)
    server.close()
    return answer.decode().strip()
"""


def python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {k: v for k, v in os.environ.items() if k != "ZERIO_PROVIDER"}
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", SECCOMP + ECHO + textwrap.dedent(program)],
        env={**variables, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def answer(program: str, **environment: str) -> str:
    done = python(program, **environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.strip()


NAME_AND_ECHO = """
import zerio_asyncio
loop = zerio_asyncio.new_event_loop()
print(loop.provider, loop.run_until_complete(echo()))
loop.close()
"""


@pytest.mark.ours
def test_a_loop_tells_its_provider(loop, kind):
    assert loop.provider == kind
    assert loop.rio_stats().provider == kind


@with_seccomp
def test_the_best_one_is_taken_by_itself():
    best = "epoll" if provider_refusal("uring") else "uring"
    assert answer(NAME_AND_ECHO) == f"{best} echo"


@pytest.mark.ours
def test_the_environment_chooses(kind):
    assert answer(NAME_AND_ECHO, ZERIO_PROVIDER=kind) == f"{kind} echo"


def test_an_empty_variable_chooses_nothing():
    assert answer(NAME_AND_ECHO, ZERIO_PROVIDER="").endswith(" echo")


@pytest.mark.ours
def test_options_win_over_the_environment(kind):
    other = "uring" if kind == "epoll" else "epoll"
    program = f"""
    import zerio_asyncio
    loop = zerio_asyncio.new_event_loop(zerio_asyncio.LoopOptions(provider={kind!r}))
    print(loop.provider)
    loop.close()
    """
    assert answer(program, ZERIO_PROVIDER=other) == kind


def test_an_unknown_name_is_a_value_error(monkeypatch):
    import zerio_asyncio

    with pytest.raises(ValueError, match="kqueue"):
        zerio_asyncio.new_event_loop(zerio_asyncio.LoopOptions(provider="kqueue"))
    monkeypatch.setenv("ZERIO_PROVIDER", "kqueue")
    with pytest.raises(ValueError, match="kqueue"):
        zerio_asyncio.new_event_loop()


@with_seccomp
@pytest.mark.parametrize("error", [1, 38, 22], ids=["EPERM", "ENOSYS", "EINVAL"])
def test_where_io_uring_is_forbidden_the_next_provider_is_taken(error):
    program = f"""
    import logging, sys
    logging.basicConfig(stream=sys.stdout, level=logging.DEBUG, format="%(name)s %(message)s")
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    refuse_io_uring({error})
    import zerio_asyncio
    loop = zerio_asyncio.new_event_loop()
    print(loop.provider, loop.run_until_complete(echo()))
    loop.close()
    """
    lines = answer(program).splitlines()
    assert lines[-1] == "epoll echo"
    # One line at debug level says why, and no more than one.
    told = [line for line in lines if line.startswith("zerio_asyncio")]
    assert len(told) == 1
    assert "uring" in told[0]


@with_seccomp
@pytest.mark.parametrize("error", [1, 38], ids=["EPERM", "ENOSYS"])
def test_asking_by_name_for_a_forbidden_provider_is_an_os_error(error):
    program = f"""
    refuse_io_uring({error})
    import zerio_asyncio
    try:
        zerio_asyncio.new_event_loop(zerio_asyncio.LoopOptions(provider="uring"))
    except OSError as refusal:
        print(refusal.errno, refusal.strerror)
    """
    number, _, text = answer(program).partition(" ")
    assert int(number) == error
    assert "uring" in text


NO_LOCKED_MEMORY = """
import os, resource
import zerio_asyncio
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(100_000 + os.getpid())  # root has no such limit; each user has one of his own
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
"""


@with_limits
def test_without_any_locked_memory_some_provider_works():
    """Kernels that count rings as locked memory refuse io_uring then; the next one is taken."""
    assert answer(NO_LOCKED_MEMORY + NAME_AND_ECHO).endswith(" echo")


@with_limits
def test_a_limit_that_a_few_rings_use_up_leaves_the_next_loops_to_epoll():
    program = (
        NO_LOCKED_MEMORY.replace("(0, 0)", "(1 << 18, 1 << 18)")
        + """
import asyncio
loops = [zerio_asyncio.new_event_loop() for _ in range(12)]
kinds = [loop.provider for loop in loops]
for loop in loops:
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
print(kinds[0], kinds[-1])
"""
    )
    assert answer(program) in ("uring epoll", "epoll epoll", "uring uring")


@with_limits
def test_epoll_needs_no_locked_memory():
    assert answer(NO_LOCKED_MEMORY + NAME_AND_ECHO, ZERIO_PROVIDER="epoll") == "epoll echo"


@with_limits
@pytest.mark.ours
def test_too_few_descriptors_for_a_loop_is_an_os_error(kind):
    """EMFILE is no refusal of the provider: no other one could do better."""
    program = """
    import os, resource
    import zerio_asyncio
    zerio_asyncio.new_event_loop().close()
    before = len(os.listdir("/proc/self/fd"))
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    try:
        zerio_asyncio.new_event_loop()
    except OSError as refusal:
        print(refusal.errno)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    """
    assert answer(program, ZERIO_PROVIDER=kind) == "24"


RANGES = [
    ("slice_size", 4096, 1 << 20, 4096),
    ("slab_size", 1 << 14, 1 << 30, 1 << 14),
    ("send_depth", 1, 1024, 1),
    ("completion_queue_size", 16, 1 << 20, 1),
    ("submission_depth", 8, 1 << 15, 8),
    ("datagram_receives", 2, 1024, 1),
]


@pytest.mark.parametrize(("name", "least", "most", "step"), RANGES, ids=[r[0] for r in RANGES])
def test_options_out_of_range(name, least, most, step):
    from zerio_asyncio import LoopOptions

    assert getattr(LoopOptions(**{name: least}), name) == least
    for wrong in (least - step, most + step, 0, -1, most * 2):
        with pytest.raises(ValueError, match=name):
            LoopOptions(**{name: wrong})
    for wrong in (None, "1", 1.5, True):
        with pytest.raises(TypeError, match=name):
            LoopOptions(**{name: wrong})


@pytest.mark.parametrize(
    "options",
    [
        {"slice_size": 5000},
        {"slab_size": (1 << 20) + 1},
        {"submission_depth": 100},
        {"datagram_receives": 100},
        {"datagrams": "udp"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_that_are_not_a_multiple(options):
    from zerio_asyncio import LoopOptions

    with pytest.raises(ValueError, match=next(iter(options))):
        LoopOptions(**options)


def test_options_of_a_wrong_type():
    import zerio_asyncio

    with pytest.raises(TypeError):
        zerio_asyncio.LoopOptions(provider=7)
    for wrong in ("uring", 7, {}):
        with pytest.raises(TypeError):
            zerio_asyncio.new_event_loop(wrong)


def test_options_cannot_be_changed():
    import dataclasses

    from zerio_asyncio import LoopOptions

    with pytest.raises(dataclasses.FrozenInstanceError):
        LoopOptions().slice_size = 8192


@pytest.mark.ours
@pytest.mark.parametrize(
    "options",
    [
        {"slice_size": 4096, "slab_size": 4096},
        {"slice_size": 1 << 20, "slab_size": 1 << 20},
        {"send_depth": 1},
        {"completion_queue_size": 16},
        {"submission_depth": 8},
    ],
    ids=lambda options: next(iter(options)),
)
def test_extreme_options_work(new_loop, options):
    import asyncio

    from .support import Recorder, connect, shut

    async def main():
        ends = [await connect(Recorder) for _ in range(20)]
        data = bytes(range(256)) * 1000
        for transport, _, peer in ends:
            transport.write(data)
            assert await peer.receive_exactly(len(data)) == data
            sending = asyncio.ensure_future(peer.send(data))
            await sending
        for _, recorder, _ in ends:
            assert await recorder.got(len(data)) == data
        for end in ends:
            await shut(*end)

    loop = new_loop(**options)
    loop.run_until_complete(main())
