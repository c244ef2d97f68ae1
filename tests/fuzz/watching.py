"""The parent: runs batches of seeds in processes, and outlives what becomes of them."""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).parents[2]

REPORTS = ("ERROR: AddressSanitizer", "runtime error: ")
"""What a sanitizer's report begins with."""

CRASH_LINES = 60
"""Of what a crashed process said last: a traceback, or a sanitizer's report."""


class Watcher:
    """Runs the seeds of ``options``; ``good`` counts, ``lines`` has a line for each bad one."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.good = 0
        self.lines: list[str] = []
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def run(self) -> None:
        """All batches."""
        first, last = self.options.seeds
        size = max(1, min(self.options.batch, -(-(last - first) // self.options.jobs)))
        batches = [(at, min(at + size, last)) for at in range(first, last, size)]
        with concurrent.futures.ThreadPoolExecutor(self.options.jobs) as pool:
            for _ in pool.map(self._batch, batches):
                pass

    def _enough(self) -> bool:
        seconds = self.options.seconds
        late = seconds is not None and time.monotonic() - self._began > seconds
        return late or len(self.lines) >= self.options.bad

    def _batch(self, seeds: tuple[int, int]) -> None:
        first, last = seeds
        while first < last and not self._enough():
            reached, line = self._process(first, last)
            with self._lock:
                self.good += reached - first
                if line:
                    self.lines.append(line)
                    print(line.partition("\n")[0], flush=True)
            first = reached + bool(line)

    def _process(self, first: int, last: int) -> tuple[int, str]:
        """Run one process; the seeds from ``first`` to the one returned were good."""
        folder = tempfile.mkdtemp(prefix="zerio-fuzz-")
        environment = dict(os.environ, PYTHONHASHSEED="0", ZERIO_FUZZ_FOLDER=folder)
        command = [sys.executable, "-m", "tests.fuzz.child", *self._arguments(first, last)]
        try:
            with (
                tempfile.TemporaryFile("w+") as errors,
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                ) as child,
            ):
                assert child.stdout is not None
                begun, good, told = first, first, ""
                for line in child.stdout:
                    word, _, rest = line.partition(" ")
                    if word == "begin":
                        begun = int(rest)
                    elif word == "good":
                        good = int(rest) + 1
                    elif word == "bad":
                        told = rest.partition(" ")[2]
                status = child.wait()
                errors.seek(0)
                said = errors.read()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if status == 0 and good == last:
            return last, ""
        return begun, self._describe(begun, first, status, told, said)

    def _arguments(self, first: int, last: int) -> list[str]:
        options = self.options
        arguments = [f"--seeds={first}:{last}", f"--provider={options.provider}"]
        arguments += [f"--kinds={','.join(options.kinds)}", f"--limit={options.limit}"]
        if options.without:
            arguments.append(f"--without={','.join(options.without)}")
        arguments += ["--hostile"] * options.hostile
        if options.canary:
            arguments.append(f"--canary={options.canary}")
        return arguments

    def _describe(self, seed: int, first: int, status: int, told: str, said: str) -> str:
        """What happened, how to repeat it, and all that is known."""
        if told:
            what = json.loads(told)
            head = f"{len(what['faults'])} faults: {what['faults'][0].strip().splitlines()[-1]}"
            rest = ["features: " + " ".join(what["features"])]
            rest += what["faults"]
            if self.options.trail:
                rest += ["trail:", *what["trail"]]
        else:
            if status < 0:
                head = f"crashed by {signal.Signals(-status).name}"
            elif "Timeout (" in said:
                head = "hung"
            else:
                head = f"ended with {status}"
            lines = said.splitlines()
            reports = [n for n, line in enumerate(lines) if any(mark in line for mark in REPORTS)]
            start = reports[0] if reports else max(0, len(lines) - CRASH_LINES)
            rest = lines[start : start + CRASH_LINES]
            stacks = [n for n, line in enumerate(lines) if "most recent call first" in line]
            if reports:
                head += f": {lines[reports[0]].partition('ERROR: ')[2] or lines[reports[0]]}"
                rest += lines[stacks[0] : stacks[0] + CRASH_LINES] if stacks else []
        alone = self._arguments(seed, seed + 1)
        again = f"repeat: python -m tests.fuzz {' '.join(alone)} --trail"
        if seed > first:
            again += f" (or, if it goes well alone, --seeds={first}:{seed + 1} --jobs=1)"
        body = "\n".join(f"    {line}" for part in rest for line in part.splitlines())
        return f"seed {seed}: {head}\n    {again}\n{body}"
