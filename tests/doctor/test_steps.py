"""One step cannot hurt the others: not by failing, hanging, crashing or printing."""

import pytest

from zerio_asyncio.doctor.steps import Group, Status, run


def outcomes(argument, function="steps", **limits):
    group = Group("specimens", f"tests.doctor.specimens:{function}", argument)
    found = list(run(group, **limits))
    assert group.outcomes == found
    return [(outcome.name, outcome.status) for outcome in found], found


def test_every_step_has_its_own_outcome():
    names, found = outcomes("bad", step_seconds=3)
    assert names == [
        ("well", Status.OK),
        ("fail", Status.FAILED),
        ("hang", Status.HUNG),
        ("crash", Status.CRASHED),
        ("chatter", Status.OK),
    ]
    told = [outcome.told for outcome in found]
    assert told[0] == "all is well"
    assert told[1] == "ValueError: so it is"
    assert "77" in told[3]
    assert "its last words" in told[3]
    assert all(outcome.ms >= 0 for outcome in found)


def test_a_crash_in_the_last_step_ends_it():
    names, _ = outcomes("last")
    assert names == [("well", Status.OK), ("crash", Status.CRASHED)]


def test_a_refusal_leaves_the_rest_out():
    names, _ = outcomes("refused")
    assert names == [("well", Status.OK), ("refuse", Status.REFUSED)]


def test_no_steps_have_no_outcomes():
    assert outcomes("none")[0] == []


@pytest.mark.parametrize("argument", ["bad"])
def test_steps_that_cannot_be_made_are_one_crash(argument):
    names, found = outcomes(argument, "broken")
    assert names == [("start of the process", Status.CRASHED)]
    assert "no steps can be made" in found[0].told


def test_a_process_that_does_not_start_is_not_waited_for():
    names, _ = outcomes("bad", start_seconds=0)
    assert names == [("start of the process", Status.HUNG)]
