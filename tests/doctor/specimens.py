"""Steps that go wrong, for the tests of how they are run: one list for each argument."""

import os
import sys
import time

from zerio_asyncio.doctor.steps import Finding, Status, Step


def well():
    return "all is well"


def fail():
    raise ValueError("so it is")


def hang():
    time.sleep(600)


def crash():
    sys.stderr.write("its last words\n")
    sys.stderr.flush()
    os._exit(77)


def chatter():
    print("what a library prints")
    print('["and what looks", "like JSON"]')
    return "said"


def refuse():
    return Finding(Status.REFUSED, "not here")


def never():
    raise AssertionError("it was left out")


LISTS = {
    "bad": [well, fail, hang, crash, chatter],
    "last": [well, crash],
    "refused": [well, refuse, never],
    "none": [],
}


def steps(argument):
    return [Step(run.__name__, run) for run in LISTS[argument]]


def broken(argument):
    raise ImportError("no steps can be made")
