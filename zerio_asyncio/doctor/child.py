"""The process in which steps run: ``child.py MODULE:FUNCTION ARGUMENT FIRST``.

It calls the function, and runs the steps that it returns from number FIRST on. Each line of its
output is JSON: a step begins, a step has ended, all have ended.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from zerio_asyncio.doctor.steps import Finding, Status, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

_NS_PER_MS = 1_000_000


def main(arguments: Sequence[str]) -> None:
    """Run the steps; a refusal leaves out those behind it."""
    steps, argument, first = arguments
    module, _, function = steps.partition(":")
    made: list[Step] = getattr(importlib.import_module(module), function)(argument)
    for step in made[int(first) :]:
        _say(begin=step.name)
        began = time.perf_counter_ns()
        finding = _try(step)
        ms = (time.perf_counter_ns() - began) / _NS_PER_MS
        _say(status=finding.status.value, told=finding.told, ms=round(ms, 3))
        if finding.status is Status.REFUSED:
            break
    _say(end=True)


def _try(step: Step) -> Finding:
    try:
        found = step.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what became of the step
        told = str(error) or repr(error)
        return Finding(Status.FAILED, f"{type(error).__name__}: {told}")
    return found if isinstance(found, Finding) else Finding(Status.OK, found)


def _say(**said: Any) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
