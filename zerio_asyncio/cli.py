"""The command line: what runs here (info, doctor), an echo server (echo), the benchmark."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import platform
import signal
import sys
from typing import Any

from zerio_asyncio.bench import command
from zerio_asyncio.bench.echo import MODES, Server, listen
from zerio_asyncio.doctor import kernel

LOOPS = ("zerio", "zerio-uring", "zerio-epoll", "asyncio", "uvloop", "rloop")
PACKAGES = ("zerio-asyncio", "cffi", "uvloop", "rloop", "rich", "hdrhistogram", "matplotlib")
LIMITS = ("RLIMIT_NOFILE", "RLIMIT_MEMLOCK")
SYSCTL_MEANING = {"0": "allowed", "1": "only for the group io_uring_group", "2": "forbidden"}


# ---- info ---------------------------------------------------------------------------------------


def gather() -> dict[str, Any]:
    """Collect everything that ``info`` shows."""
    return {"provider": _provider(), **_machine()}


def _machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "tls": _tls(),
        "limits": {name: _limit(name) for name in LIMITS},
        "kernel.io_uring_disabled": kernel.read().uring_disabled,
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _provider() -> dict[str, Any]:
    """Return the provider that a loop would take, why, and which others are refused."""
    from zerio_asyncio.rio import providers  # noqa: PLC0415 - compiled; echo and bench may do without

    known = [provider.name for provider in providers.known()]
    try:
        choice = providers.pick()
    except (OSError, ValueError) as error:
        return {"name": None, "reason": str(error), "refused": {}, "known": known}
    # The others are probed, too: a reader wants to know about each of them.
    refused = dict(choice.refused)
    for provider in providers.known():
        refusal = provider.probe()
        if refusal is not None:
            refused[provider.name] = str(refusal.strerror)
    reason = choice.reason
    return {"name": choice.provider.name, "reason": reason, "refused": refused, "known": known}


def _tls() -> dict[str, str | None]:
    """Return the TLS engine that a loop would take, why, and what ``direct`` was refused for."""
    try:
        from zerio_asyncio.loop import tls_engines  # noqa: PLC0415 - as above

        refusal = tls_engines.direct_refusal()
        choice = tls_engines.choose_engine(None)
    except ImportError as error:
        return {"name": None, "reason": str(error), "direct": str(error)}
    except (RuntimeError, ValueError) as error:
        return {"name": None, "reason": str(error), "direct": refusal}
    return {"name": choice.name, "reason": choice.reason, "direct": refusal}


def _limit(name: str) -> dict[str, int | None] | None:
    """Return the soft and hard limit, None for no limit; None if the system has none such."""
    limits = kernel.limit(name)
    return None if limits is None else dict(zip(("soft", "hard"), limits, strict=True))


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe(facts: dict[str, Any]) -> list[str]:
    """Format the facts as lines for people."""
    provider = facts["provider"]
    lines = [f"provider: {provider['name'] or 'none'} ({provider['reason']})"]
    for name in provider["known"]:
        if name != provider["name"]:
            why = provider["refused"].get(name)
            lines.append(f"  {name}: {'refused: ' + why if why else 'works here'}")
    lines += [f"system: {facts['system']}", f"python: {facts['python']}"]
    tls = facts["tls"]
    lines.append(f"tls: {tls['name'] or 'none'} ({tls['reason']})")
    if tls["name"] != "direct":
        lines.append(f"  direct: {'refused: ' + tls['direct'] if tls['direct'] else 'works here'}")
    for name, limit in facts["limits"].items():
        if limit is not None:
            soft, hard = ("unlimited" if v is None else str(v) for v in limit.values())
            lines.append(f"{name}: {soft} (hard limit {hard})")
    sysctl = facts["kernel.io_uring_disabled"]
    meaning = SYSCTL_MEANING.get(sysctl or "", "this system has no such setting")
    lines.append(f"kernel.io_uring_disabled: {sysctl or '-'} ({meaning})")
    for name, version in facts["packages"].items():
        lines.append(f"{name}: {version or 'not installed'}")
    return lines


def info(options: argparse.Namespace) -> int:
    """Print what a loop would run on here, and why; 1 if no provider works."""
    facts = gather()
    text = json.dumps(facts, indent=1) if options.json else "\n".join(describe(facts))
    _say(text)
    return int(facts["provider"]["name"] is None)


# ---- doctor -------------------------------------------------------------------------------------


def doctor(options: argparse.Namespace) -> int:
    """Try every provider step by step; the statuses are those of `report`."""
    from zerio_asyncio.doctor import report  # noqa: PLC0415 - needs what is compiled, as info does

    try:
        return report.visit(options, _machine())
    except OSError as error:  # the file, for all else is a line of the table
        sys.stderr.write(f"doctor: {error}\n")
        return report.ILL


# ---- echo ---------------------------------------------------------------------------------------


def echo(options: argparse.Namespace) -> int:
    """Serve echo until SIGINT or SIGTERM; 1 if the loop or the address is not available."""
    try:
        loop = _loop(options.loop, options.wait)
        try:
            asyncio.set_event_loop(loop)
            with contextlib.suppress(KeyboardInterrupt):
                loop.run_until_complete(_serve(loop, options))
        finally:
            asyncio.set_event_loop(None)
            loop.close()
    except (ImportError, OSError, ValueError) as error:
        sys.stderr.write(f"echo: {error}\n")
        return 1
    return 0


def _loop(name: str, wait: str | None) -> asyncio.AbstractEventLoop:
    """Make a loop by name; ``asyncio`` is the platform's own."""
    if wait is not None and not name.startswith("zerio"):
        raise ValueError(f"--wait is for zerio's loops; {name} has no such choice")
    if name == "asyncio":
        return asyncio.new_event_loop()
    from zerio_asyncio.bench import peers  # noqa: PLC0415 - only here

    return peers.new_loop(name, wait)


async def _serve(loop: asyncio.AbstractEventLoop, options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows' loops have no signal handlers; there Ctrl-C raises KeyboardInterrupt.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    listener = listen(options.host, options.port)
    host, port = listener.getsockname()[:2]
    server = Server(options.mode, listener)
    await server.start()
    own = [getattr(loop, name, None) for name in ("provider", "wait_strategy")]
    runs_on = options.loop
    if None not in own:
        runs_on += f" ({', '.join(map(str, own))})"
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    _say(f"echo on {at}, {server.ran}, {runs_on}")
    await stop.wait()
    await server.close()


def _say(text: str) -> None:
    """Print and flush: somebody may wait for the address on a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# ---- the whole ----------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """Declare the command line."""
    whole = argparse.ArgumentParser(
        prog="zerio-asyncio", description="An asyncio event loop on Registered I/O."
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    part = commands.add_parser("info", help="show which provider a loop gets here, and why")
    part.add_argument("--json", action="store_true", help="print JSON")
    part.set_defaults(run=info)

    part = commands.add_parser("doctor", help="try every provider step by step, and say what fails")
    part.add_argument("--json", metavar="FILE", help="write all of it to FILE, - for the output")
    part.set_defaults(run=doctor)

    part = commands.add_parser("echo", help="run an echo server until SIGINT or SIGTERM")
    part.add_argument("--host", default="127.0.0.1", help="name or address (127.0.0.1)")
    part.add_argument("--port", type=int, default=0, help="0, the default, takes a free port")
    part.add_argument("--loop", choices=LOOPS, default="zerio")
    part.add_argument("--mode", choices=MODES, default="protocol")
    part.add_argument("--wait", help="zerio's loops: block, spin or 'hybrid(µs)' (block)")
    part.set_defaults(run=echo)

    part = commands.add_parser("bench", help="compare event loops on this machine")
    command.add_arguments(part)
    part.set_defaults(run=command.run)
    return whole


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status."""
    options = parser().parse_args(arguments)
    status: int = options.run(options)
    return status
