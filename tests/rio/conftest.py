"""Every test that asks for ``provider`` runs on each one that this machine has."""

import os

import pytest

from tests.rio.bare import Bare
from zerio_asyncio.rio import CompletionPort, known


def pytest_generate_tests(metafunc):
    if "provider" not in metafunc.fixturenames:
        return
    only = os.environ.get("ZERIO_PROVIDER")
    found = [provider for provider in known() if only in {None, "", provider.name}]
    if not found:
        raise pytest.UsageError(f"ZERIO_PROVIDER={only}: no such provider")
    metafunc.parametrize("provider", found, ids=lambda provider: provider.name, scope="session")


@pytest.fixture(autouse=True)
def _refused(request):
    """A provider that the machine refuses is reported with its reason, not passed over."""
    if "provider" in request.fixturenames:
        provider = request.getfixturevalue("provider")
        refusal = provider.probe()
        if refusal is not None:
            pytest.skip(f"provider {provider.name} is refused here: {refusal.strerror}")


@pytest.fixture
def bare(provider):
    made = Bare(provider)
    yield made
    made.close()


@pytest.fixture
def port(provider):
    with CompletionPort(provider) as made:
        yield made
