"""The doctor's visit as a whole: what is tried, the table, the JSON, the exit status.

The table grows while steps run, so that what hangs can be seen hanging. The JSON is for a bug
report: it names no user and no host.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerio_asyncio.doctor import kernel, provider_steps, tls_steps, windows_facts
from zerio_asyncio.doctor.steps import BAD, Group, Outcome, Status, run
from zerio_asyncio.rio import known

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

FORMAT = 1
"""Of the JSON; a change of a name's meaning counts one up."""

WELL, ILL, NONE = 0, 1, 2
"""Exit statuses: all well; a step failed; no provider works here at all."""

_PROOF = provider_steps.__name__
_TLS = tls_steps.__name__
_NAME_WIDTH = 46
_STATUS_WIDTH = 8


def groups() -> list[Group]:
    """Return what there is to try on this system."""
    proofs = [Group(f"provider {p.name}", f"{_PROOF}:steps", p.name) for p in known()]
    facts = [Group("facts", f"{windows_facts.__name__}:steps")]
    asked = facts if any(p.name == "winsock" for p in known()) else []
    tls = [Group(f"TLS engine {name}", f"{_TLS}:steps", name) for name in ("direct", "portable")]
    chosen = [Group("choice", f"{_PROOF}:choice"), Group("choice of TLS", f"{_TLS}:choice")]
    return [*chosen, *proofs, *tls, *asked]


def visit(options: argparse.Namespace, machine: dict[str, Any]) -> int:
    """Try everything, tell it, and return the exit status. ``machine``: for the JSON alone."""
    quiet = options.json == "-"
    made = groups()
    for group in made:
        _say(quiet, f"\n{group.name}")
        for outcome in run(group):
            _say(quiet, _line(outcome))
    rings = any(group.argument == "uring" for group in made)
    system = kernel.read() if rings else kernel.Kernel()
    notes = kernel.explain(system, _refusal(made))
    if notes:
        _say(quiet, "\nsystem")
    for note in notes:
        _say(quiet, f"  {note.about}{' (!)' if note.warns else ''}: {note.told}")
    status, verdict = judge(made)
    _say(quiet, f"\n{verdict}")
    if options.json:
        whole = document(machine, system, notes, made, status, verdict)
        text = json.dumps(whole, indent=1) + "\n"
        if quiet:
            sys.stdout.write(text)
        else:
            Path(options.json).write_text(text, encoding="utf-8")
            _say(quiet, f"written to {options.json}")
    return status


def _refusal(made: Sequence[Group]) -> str | None:
    """What ``uring`` was refused with."""
    for group in made:
        if group.argument == "uring":
            refused = [o.told for o in group.outcomes if o.status is Status.REFUSED]
            return refused[0] if refused else None
    return None


def _line(outcome: Outcome) -> str:
    dots = f"{outcome.name} ".ljust(_NAME_WIDTH, ".")
    status = outcome.status.value.ljust(_STATUS_WIDTH)
    return f"  {dots} {status} {outcome.ms:9.2f} ms  {outcome.told}".rstrip()


def judge(made: Sequence[Group]) -> tuple[int, str]:
    """Return the exit status and the verdict."""
    bad = [
        f"{g.name}: {o.name} ({o.status.value})"
        for g in made
        for o in g.outcomes
        if o.status in BAD
    ]
    proofs = {g.argument: g.outcomes for g in made if g.steps.startswith(_PROOF) and g.argument}
    good = [
        name
        for name, outcomes in proofs.items()
        if outcomes and all(outcome.status is Status.OK for outcome in outcomes)
    ]
    if not good:
        return NONE, f"No provider works here. {'; '.join(bad)}".rstrip()
    working = f"Proved: {', '.join(good)}."
    return (ILL, f"{working} Failed: {'; '.join(bad)}") if bad else (WELL, working)


def document(
    machine: dict[str, Any],
    system: kernel.Kernel,
    notes: Sequence[kernel.Note],
    made: Sequence[Group],
    status: int,
    verdict: str,
) -> dict[str, Any]:
    """Return everything as one object for JSON."""
    return {
        "format": FORMAT,
        "verdict": verdict,
        "status": status,
        "machine": machine,
        "kernel": asdict(system),
        "notes": [note._asdict() for note in notes],
        "groups": [
            {"name": group.name, "steps": [asdict(outcome) for outcome in group.outcomes]}
            for group in made
        ],
    }


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
