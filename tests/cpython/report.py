"""Verdicts as text and as JSON."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, Any

from tests.cpython.processes import BAD, Module

if TYPE_CHECKING:
    from tests.cpython.judge import Settings, Verdict

COLUMNS = ("passed", "failed", "baseline", "excluded", "skipped")


def counts(verdict: Verdict) -> dict[str, int]:
    """How many tests passed, failed and so on; hung and crashed ones have failed."""
    found = collections.Counter(
        "failed" if record.outcome in BAD else record.outcome.partition(",")[0]
        for record in verdict.records
    )
    return {
        **{column: found[column] for column in COLUMNS},
        "on_its_loop": sum(r.outcome == "passed" and r.loops > 0 for r in verdict.records),
        "second_run": sum(r.runs > 1 for r in verdict.records),
        "loops_made": sum(r.loops for r in verdict.records),
    }


def line_of(module: Module) -> str:
    """A line of progress."""
    if module.skipped is not None:
        return f"{module.name:<24} nothing to run here: {module.skipped}"
    outcomes = collections.Counter(record.outcome for record in module.records)
    made = sum(record.loops for record in module.records)
    told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
    return f"{module.name:<24} {told}; {made} loops; {module.seconds:.1f} s"


def text(settings: Settings, verdict: Verdict, details: bool) -> str:
    """What went wrong, and the sums."""
    lines = []
    for record in verdict.records:
        if record.outcome in BAD or record.outcome == "baseline":
            lines.append(f"{record.outcome.upper()}: {record.name}")
            if details and record.outcome in BAD:
                lines += ["    " + line for line in record.detail.splitlines()]
        elif record.runs > 1:
            lines.append(f"PASSED ON ITS SECOND RUN: {record.name}")
    lines += [f"COMPLAINT: {complaint}" for complaint in verdict.complaints]
    told = counts(verdict)
    sums = ", ".join(f"{told[column]} {column}" for column in COLUMNS)
    lines.append(f"{title(settings, verdict)}: {sums}")
    lines.append(
        f"{told['on_its_loop']} of the passed made a loop of this kind, {told['loops_made']} loops"
        f" were made in all; {told['second_run']} passed on their second run"
    )
    return "\n".join(lines)


def title(settings: Settings, verdict: Verdict) -> str:
    """Which loop on which Python."""
    name = f"{settings.kind} {verdict.about['version']}".rstrip()
    provider = f" ({settings.provider})" if settings.provider else ""
    return f"{name}{provider}, CPython {verdict.about['python']}, {verdict.about['system']}"


def as_json(settings: Settings, verdict: Verdict) -> dict[str, Any]:
    """Everything."""
    return {
        "loop": settings.kind,
        "provider": settings.provider,
        **verdict.about,
        "counts": counts(verdict),
        "complaints": verdict.complaints,
        "skipped_modules": {m.name: m.skipped for m in verdict.modules if m.skipped is not None},
        "records": [dataclasses.asdict(record) for record in verdict.records],
    }
