"""What the fuzzer runs, run here with inputs of no guidance, and proof that it finds faults."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from . import fuzz_framing


@given(st.binary(max_size=600))
@settings(deadline=None, max_examples=400)
def test_the_framer_and_the_model_agree(data):
    fuzz_framing.compare(data)


FRAMED = bytes([0, 4, 3, 2, 9, 1, 0, 2, 10, 3]) + b"abc" + bytes([10, 2]) + b"de"


@pytest.mark.parametrize("fault", ["loses", "doubles", "damages", "accepts"])
def test_a_framer_with_a_fault_is_found(monkeypatch, fault):
    class Faulty(fuzz_framing.MessageFramer):
        def __init__(self, handler, limit):
            super().__init__(self._hand_over, 1 << 30 if fault == "accepts" else limit)
            self._handler = handler

        def _hand_over(self, view):
            for _ in range({"loses": 0, "doubles": 2}.get(fault, 1)):
                self._handler(memoryview(bytes(view)[1:]) if fault == "damages" else view)

    monkeypatch.setattr(fuzz_framing, "MessageFramer", Faulty)
    data = FRAMED if fault != "accepts" else bytes([0, 0, 1]) + b"\xff\xff\x00\x00"
    with pytest.raises(AssertionError):
        fuzz_framing.compare(data)
    monkeypatch.undo()
    fuzz_framing.compare(data)
