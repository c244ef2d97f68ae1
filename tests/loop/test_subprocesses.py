"""Subprocesses: every form of their streams, their ends, and what outlives whom."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading

import pytest

from .children import KILLED, PYTHON, is_gone, no_children_left, program, watched
from .marks import with_posix_children
from .support import SECONDS, WINDOWS, descriptors

__all__ = ["no_children_left", "watched"]

PIPE = asyncio.subprocess.PIPE
DEVNULL = asyncio.subprocess.DEVNULL
STDOUT = asyncio.subprocess.STDOUT

pytestmark = pytest.mark.usefixtures("watched", "no_children_left")

LINE_END = os.linesep.encode()
UPPER = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(7)"


async def run(code, *arguments, **options):
    """What a program printed, and its status."""
    process = await program(code, *arguments, stdout=PIPE, **options)
    output, _ = await process.communicate()
    return output, process.returncode


async def test_all_streams_and_an_exit_status(loop):
    process = await program(UPPER, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    output, errors = await process.communicate(b"hello " * 40_000)
    assert output == b"HELLO " * 40_000
    assert errors == b""
    assert process.returncode == 7


@pytest.mark.parametrize("status", [0, 1, 77, 255])
async def test_exit_statuses(loop, status):
    process = await program(f"raise SystemExit({status})")
    assert process.returncode is None
    assert await process.wait() == status
    assert process.returncode == status
    assert await process.wait() == status  # as often as one likes


@with_posix_children
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGUSR1"])
async def test_a_process_that_a_signal_ends(loop, name):
    number = signal.Signals[name]
    process = await program("import time; print(flush=True); time.sleep(60)", stdout=PIPE)
    await process.stdout.readline()
    process.send_signal(number)
    assert await process.wait() == -number


@with_posix_children
async def test_terminate_can_be_caught_and_kill_cannot(loop):
    stubborn = """
        import os, signal, time
        signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"no\\n"))
        os.write(1, b"up\\n")
        while True: time.sleep(1)
    """
    process = await program(stubborn, stdout=PIPE)
    assert await process.stdout.readline() == b"up\n"
    process.terminate()
    assert await process.stdout.readline() == b"no\n"
    assert process.returncode is None
    process.kill()
    assert await process.wait() == KILLED


async def test_signals_to_a_process_that_has_ended(loop):
    process = await program("pass")
    await process.wait()
    with pytest.raises(ProcessLookupError):
        process.kill()
    with pytest.raises(ProcessLookupError):
        process.terminate()
    with pytest.raises(ProcessLookupError):
        process.send_signal(signal.SIGTERM)


@with_posix_children
@pytest.mark.ours  # the standard loop's thread may lose the status to Popen.poll until 3.13.1
async def test_a_signal_to_a_child_that_is_dead_and_not_yet_waited_for(loop):
    """The loop has not heard of the end; the child's status must survive the attempt."""
    process = await program("raise SystemExit(3)", stdin=PIPE)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and left to be waited for
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 3


@with_posix_children
@pytest.mark.ours  # CPython before 3.12.8 and 3.13.1 loses the status and says 255
async def test_polling_does_not_take_the_status(loop):
    """``Popen.poll``, which kill() called until 3.12, waits for the child before the loop does."""
    process = await program("raise SystemExit(3)")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process._transport.get_extra_info("subprocess").poll() == 3
    assert await process.wait() == 3


@with_posix_children
@pytest.mark.ours  # before 3.12 a thread of the standard loop's takes it first
async def test_a_status_that_somebody_else_took(loop, caplog):
    process = await program("raise SystemExit(3)")
    os.waitpid(process.pid, 0)
    assert await process.wait() == 255
    assert "will report returncode 255" in caplog.text


@with_posix_children
async def test_a_shell(loop):
    process = await asyncio.create_subprocess_shell(
        'read line; echo "$line" | tr a-z A-Z; echo oops >&2; exit 9',
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    assert await process.communicate(b"hello\n") == (b"HELLO\n", b"oops\n")
    assert process.returncode == 9


@with_posix_children
async def test_a_shell_that_is_killed(loop):
    process = await asyncio.create_subprocess_shell("exec sleep 60")
    process.kill()
    assert await process.wait() == KILLED


async def test_a_command_that_does_not_exist(loop, tmp_path):
    before = descriptors()
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec(
                str(tmp_path / "nothing"), stdin=PIPE, stdout=PIPE, stderr=PIPE
            )
    (tmp_path / "plain").write_text("no program")
    with pytest.raises(OSError if WINDOWS else PermissionError):
        await asyncio.create_subprocess_exec(str(tmp_path / "plain"))
    assert descriptors() == before
    process = await asyncio.create_subprocess_shell("exit 127")
    assert await process.wait() == 127


# ------------------------------------------------------------------ streams


async def test_errors_go_where_the_output_goes(loop):
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    assert await run(code, stderr=STDOUT) == (b"out\nerr\n", 0)


async def test_no_streams(loop):
    process = await program(
        "import sys; assert sys.stdin.read() == ''; print('lost'); print('lost', file=sys.stderr)",
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    assert await process.communicate() == (None, None)
    assert process.returncode == 0
    assert (process.stdin, process.stdout, process.stderr) == (None, None, None)


async def test_files_and_descriptors(loop, tmp_path):
    (tmp_path / "in").write_bytes(b"from a file")
    with open(tmp_path / "in", "rb") as given, open(tmp_path / "out", "wb") as taken:
        process = await program(UPPER, stdin=given.fileno(), stdout=taken)
        assert await process.wait() == 7
    assert (tmp_path / "out").read_bytes() == b"FROM A FILE"


async def test_inherited_streams(loop, capfd):
    process = await program("print('inherited')")
    assert await process.wait() == 0
    assert capfd.readouterr().out == "inherited\n"


async def test_a_stream_that_is_read_by_lines_while_another_is_written(loop):
    code = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)"
    process = await program(code, stdin=PIPE, stdout=PIPE)
    for number in range(20):
        process.stdin.write(b"line %d\n" % number)
        await process.stdin.drain()
        assert await process.stdout.readline() == (b"line %d" % number)[::-1] + b"\n"
    process.stdin.close()
    await process.stdin.wait_closed()
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_large_amounts_on_all_streams_at_once(loop):
    code = """
        import sys, threading
        data = sys.stdin.buffer.read()
        half = threading.Thread(target=sys.stderr.buffer.write, args=(data[::-1],))
        half.start()
        sys.stdout.buffer.write(data)
        half.join()
    """
    data = os.urandom(3_000_000)
    process = await program(code, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    output, errors = await process.communicate(data)
    assert output == data
    assert errors == data[::-1]


async def test_output_that_nobody_reads_stops_the_child_not_the_loop(loop):
    process = await program("import sys; sys.stdout.write('x' * 5_000_000)", stdout=PIPE)
    for _ in range(20):
        await asyncio.sleep(0.002)
    assert process.returncode is None
    assert len(await process.stdout.read()) == 5_000_000
    assert await process.wait() == 0


async def test_a_child_that_closes_its_input_early(loop):
    process = await program("import os; os.close(0); print('closed')", stdin=PIPE, stdout=PIPE)
    output, _ = await process.communicate(b"nobody reads this" * 100_000)
    assert output == b"closed\n"
    assert process.returncode == 0


async def test_writing_to_a_child_that_has_gone(loop):
    process = await program("pass", stdin=PIPE)
    await process.wait()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            process.stdin.write(b"x" * 65536)
            await process.stdin.drain()
            await asyncio.sleep(0)
    process.stdin.close()


async def test_a_child_that_closes_its_output_early(loop):
    code = "import os, sys; os.close(1); sys.stdin.read(); os._exit(4)"
    process = await program(code, stdin=PIPE, stdout=PIPE)
    assert await process.stdout.read() == b""
    assert process.returncode is None
    process.stdin.close()
    assert await process.wait() == 4


@with_posix_children
async def test_a_grandchild_that_keeps_the_output_open(loop):
    """The end of the child and the end of its output are two things."""
    process = await asyncio.create_subprocess_shell(
        'exec 3<&0; (read line <&3; echo "late $line") & exit 5', stdin=PIPE, stdout=PIPE
    )
    transport = process._transport
    while transport.get_returncode() is None:
        await asyncio.sleep(0.001)
    assert transport.get_returncode() == 5
    process.stdin.write(b"word\n")
    assert await process.stdout.read() == b"late word\n"
    process.stdin.close()
    assert await process.wait() == 5


# ------------------------------------------------------------------ options


@with_posix_children
async def test_the_surroundings_of_a_child(loop, tmp_path):
    code = "import os; print(os.getcwd(), os.environ.get('WORD'), os.getsid(0) == os.getpid())"
    output, _ = await run(
        code, cwd=str(tmp_path), env={**os.environ, "WORD": "given"}, start_new_session=True
    )
    assert output.decode().split() == [str(tmp_path.resolve()), "given", "True"]


@with_posix_children
async def test_a_function_before_the_program(loop):
    code = "import os; print(os.umask(0) == 0o027)"
    assert await run(code, preexec_fn=lambda: os.umask(0o027)) == (b"True\n", 0)


@with_posix_children
async def test_a_function_before_the_program_that_fails(loop):
    def fail():
        raise ValueError("no")

    import subprocess

    with pytest.raises(subprocess.SubprocessError):
        await run("pass", preexec_fn=fail)


@with_posix_children
async def test_descriptors_that_a_child_gets(loop):
    ours, theirs = os.pipe()
    code = "import os, sys; os.write(int(sys.argv[1]), b'through')"
    output, status = await run(code, str(theirs), pass_fds=(theirs,))
    os.close(theirs)
    assert (status, os.read(ours, 100)) == (0, b"through")
    os.close(ours)


@with_posix_children
async def test_a_child_gets_no_descriptor_of_the_loop(loop):
    """Neither rings nor ports nor self-pipes: it may outlive us, and must hold nothing of ours."""
    code = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
    output, _ = await run(code, stdin=DEVNULL)
    assert output == b"[0, 1, 2]\n"


@pytest.mark.parametrize(
    "options", [{"universal_newlines": True}, {"bufsize": 4096}, {"text": True}]
)
async def test_options_that_asyncio_refuses(loop, options):
    with pytest.raises(ValueError):
        await program("pass", **options)


async def test_a_limit_for_lines(loop):
    process = await program("print('x' * 10_000)", stdout=PIPE, limit=1000)
    with pytest.raises(ValueError):
        await process.stdout.readline()
    assert await process.wait() == 0


# -------------------------------------------------------- many, and early ends


async def test_many_at_once(loop):
    before = len(descriptors())

    async def work(number):
        process = await program(
            f"print(input() * 2); raise SystemExit({number})", stdin=PIPE, stdout=PIPE
        )
        output, _ = await process.communicate(b"%d\n" % number)
        return output, process.returncode

    found = await asyncio.gather(*(work(number) for number in range(24)))
    assert found == [(b"%d%d\n" % (number, number), number) for number in range(24)]
    await asyncio.sleep(0.01)
    assert len(descriptors()) == before


@with_posix_children
async def test_no_zombie_stays(loop):
    processes = [await program("pass") for _ in range(5)]
    await asyncio.gather(*(process.wait() for process in processes))
    assert all(is_gone(process.pid) for process in processes)


async def test_cancelled_while_it_is_created(loop):
    """At every await on the way: no child, no descriptor stays."""
    before = descriptors()
    for turns in range(8):
        task = asyncio.ensure_future(
            program("import time; time.sleep(60)", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            process = await task
        except asyncio.CancelledError:
            continue
        process.kill()
        await process.wait()
    await asyncio.sleep(0.01)
    assert descriptors() == before


async def test_cancelled_while_it_is_waited_for(loop):
    process = await program("input(); raise SystemExit(2)", stdin=PIPE)
    waiting = asyncio.ensure_future(process.wait())
    await asyncio.sleep(0.001)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    process.stdin.write(b"\n")
    assert await process.wait() == 2


async def test_communicating_for_too_long(loop):
    process = await program("import time; print('a', flush=True); time.sleep(60)", stdout=PIPE)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(process.communicate(), 0.05)
    process.kill()
    assert await process.wait() == KILLED


async def test_the_lower_interface(loop):
    """Protocol calls in their order; connection_lost is the last."""
    calls, data = [], {1: b"", 2: b""}
    done = loop.create_future()

    class Protocol(asyncio.SubprocessProtocol):
        def connection_made(self, transport):
            calls.append("made")

        def pipe_data_received(self, fd, part):
            data[fd] += part

        def pipe_connection_lost(self, fd, error):
            calls.append(("closed", fd, error))

        def process_exited(self):
            calls.append("exited")

        def connection_lost(self, error):
            calls.append("lost")
            done.set_result(None)

    code = "import sys; print(input().upper()); print('e', file=sys.stderr); sys.exit(6)"
    transport, _ = await loop.subprocess_exec(Protocol, PYTHON, "-c", code)
    assert transport.get_pid() > 0
    transport.get_pipe_transport(0).write(b"word\n")
    await asyncio.wait_for(done, SECONDS)
    assert transport.get_returncode() == 6
    assert calls[0] == "made"
    assert calls[-1] == "lost"
    assert {"exited", ("closed", 1, None), ("closed", 2, None)} <= set(calls)
    assert data == {1: b"WORD" + LINE_END, 2: b"e" + LINE_END}
    transport.close()


async def test_closing_the_transport_kills_the_child(loop):
    transport, _ = await loop.subprocess_exec(
        asyncio.SubprocessProtocol, PYTHON, "-c", "import time; time.sleep(60)"
    )
    transport.close()
    assert transport.is_closing()
    assert await transport._wait() == KILLED


# ------------------------------------------------------------- loops and threads


def test_a_loop_in_another_thread(new_loop):
    statuses = []

    def work():
        loop = new_loop()

        async def main():
            process = await program(UPPER, stdin=PIPE, stdout=PIPE)
            statuses.append((await process.communicate(b"hi"), process.returncode))

        loop.run_until_complete(main())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(SECONDS)
    assert statuses == [((b"HI", None), 7)]


def test_two_loops_with_children_at_once(new_loop):
    statuses = []
    together = threading.Barrier(3)

    def work():
        loop = new_loop()

        async def main():
            code = "import sys; sys.stdin.read(); sys.exit(4)"
            processes = [await program(code, stdin=PIPE) for _ in range(4)]
            together.wait(SECONDS)
            for process in processes:
                process.stdin.close()
            statuses.extend(await asyncio.gather(*(process.wait() for process in processes)))

        loop.run_until_complete(main())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert statuses == [4] * 12


@with_posix_children
def test_a_child_across_two_runs_of_the_loop(loop):
    """It ends while the loop does not run."""
    process = loop.run_until_complete(program("raise SystemExit(8)", stdin=PIPE))
    with contextlib.suppress(ChildProcessError):  # a thread of the standard loop may be first
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert loop.run_until_complete(process.wait()) == 8


SAYS = """
import os, sys, time
print("first", flush=True)
print("error", file=sys.stderr, flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
print("second", flush=True)
"""


@pytest.mark.ours  # the standard loop forgets it, subprocess.Popen does not
@pytest.mark.parametrize("times", [1, 3])
async def test_what_a_child_said_before_communicate_was_cancelled_is_kept(loop, times, tmp_path):
    go_on = tmp_path / "go on"
    process = await program(SAYS, str(go_on), stdout=PIPE, stderr=PIPE)
    for _ in range(times):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.communicate(), 0.3)
    go_on.touch()
    output, errors = await process.communicate()
    assert output.split() == [b"first", b"second"]
    assert errors.split() == [b"error"]
    assert process.returncode == 0


@pytest.mark.ours
async def test_a_stream_that_had_ended_when_communicate_was_cancelled_is_kept(loop):
    process = await program(
        """
        import os, sys, time
        print("all of it", flush=True)
        sys.stdout.flush()
        os.close(1)
        time.sleep(60)
        """,
        stdout=PIPE,
        stderr=PIPE,
    )
    reading = loop.create_task(process.communicate())
    while not process.stdout.at_eof():
        await asyncio.sleep(0.001)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    process.kill()
    output, errors = await process.communicate()
    assert output.split() == [b"all", b"of", b"it"]
    assert errors == b""


async def test_reading_to_the_end_twice_gives_nothing_the_second_time(loop):
    process = await program("print('once')", stdout=PIPE)
    assert (await process.stdout.read()).split() == [b"once"]
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


@pytest.mark.ours
async def test_a_cancelled_read_to_the_end_loses_nothing(loop, tmp_path):
    go_on = tmp_path / "go on"
    process = await program(SAYS, str(go_on), stdout=PIPE, stderr=DEVNULL)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(process.stdout.read(), 0.3)
    assert (await process.stdout.readline()).split() == [b"first"]
    go_on.touch()
    assert (await process.stdout.read()).split() == [b"second"]
    assert await process.wait() == 0
