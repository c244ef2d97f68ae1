"""Every fact of Windows is asked on every system, and no question hurts.

Where tests/wine/fake_rio.c takes the place of Windows' Registered I/O, that is what is asked.
"""

import sys

import pytest

from tests.rio.isolated import FAKE
from zerio_asyncio.doctor import windows_facts
from zerio_asyncio.doctor.raw_winsock import Winsock
from zerio_asyncio.doctor.steps import Status
from zerio_asyncio.rio import known

ON_FAKE = FAKE in sys.modules
NAMES = [step.name for step in windows_facts.steps("")]
OF_THE_TABLE = NAMES.index("Registered I/O is there")


@pytest.fixture(autouse=True)
def _fake():
    if not ON_FAKE:
        yield
        return
    from tests.wine import doctor

    doctor.install()
    yield
    Winsock.replaced = {}
    # What is refused can only be seen by asking for it.
    for broken in sys.modules[FAKE].violations():
        assert broken == "RIORegisterBuffer: nothing to register" or "for Registered I/O" in broken


def run(name):
    return windows_facts.steps("")[NAMES.index(name)].run()


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_can_be_asked(name):
    found = run(name)
    assert found.status in {
        Status.OK, Status.AGREES, Status.DIFFERS, Status.UNTRIED, Status.REFUSED,
    }  # fmt: skip
    assert found.told or found.status is Status.OK
    if ON_FAKE and NAMES.index(name) >= OF_THE_TABLE:
        assert found.status not in {Status.UNTRIED, Status.REFUSED}


@pytest.mark.skipif(not ON_FAKE, reason="asks the table of tests/wine/fake_rio.c")
@pytest.mark.parametrize(
    "name",
    # Wine ends the sending side of what it closes: no peer sees the reset.
    [
        name
        for name in NAMES[OF_THE_TABLE + 1 :]
        if name != "a close may reset before the answer is read"
    ],
)
def test_what_the_fake_does_as_windows_is_seen(name):
    assert run(name).status is Status.AGREES


@pytest.mark.skipif(
    any(provider.name == "winsock" for provider in known()), reason="there is a Winsock here"
)
def test_without_winsock_nothing_can_be_tried():
    found = [run(name) for name in NAMES]
    assert {finding.status for finding in found} == {Status.UNTRIED}
    assert {finding.told for finding in found} == {"this system has no Winsock"}
