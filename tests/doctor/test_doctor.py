"""The whole visit, as users start it, and what is said where something is wrong."""

import errno
import json
import subprocess
import sys

import pytest

from tests.rio.isolated import isolated
from tests.rio.marks import with_seccomp
from tests.rio.seccomp import IO_URING_SETUP, forbid
from zerio_asyncio import cli
from zerio_asyncio.core import openssl, tls_direct
from zerio_asyncio.doctor import provider_steps, report, tls_steps
from zerio_asyncio.doctor.steps import Group, Outcome, Status
from zerio_asyncio.rio import known

NAMES = [provider.name for provider in known()]


def finish(*arguments):
    """Run the doctor as users do: exit status, output, errors."""
    command = [sys.executable, "-m", "zerio_asyncio", "doctor", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(autouse=True)
def _no_choice_from_outside(monkeypatch):
    monkeypatch.delenv("ZERIO_PROVIDER", raising=False)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", range(12))
def test_every_step_holds_on_every_provider(name, number):
    steps = provider_steps.steps(name)
    assert len(steps) == 12
    if steps[0].run().status is Status.REFUSED:
        pytest.skip(f"{name} is refused here")
    found = steps[number].run()
    assert isinstance(found, str) or found.status is Status.OK


def test_a_table_for_people_and_a_file_for_a_report(tmp_path):
    file = tmp_path / "doctor.json"
    status, out, err = finish("--json", str(file))
    assert (status, err) == (report.WELL, "")
    whole = json.loads(file.read_text(encoding="utf-8"))
    assert whole["status"] == status
    assert whole["verdict"] in out
    facts = ["facts"] if "overlapped" in NAMES else []  # Windows has some
    groups = [group["name"] for group in whole["groups"]]
    engines = ["TLS engine direct", "TLS engine portable"]
    assert groups[1:] == [
        "choice of TLS",
        *(f"provider {name}" for name in NAMES),
        *engines,
        *facts,
    ]
    for group in whole["groups"]:
        for step in group["steps"]:
            assert step["status"] in {"ok", "refused", "agrees", "differs", "untried"}
            assert step["name"] in out
            assert step["ms"] >= 0
    assert whole["machine"]["packages"]["cffi"]
    assert all(note["told"] in out for note in whole["notes"])


def test_the_whole_report_can_be_printed():
    status, out, err = finish("--json", "-")
    assert (status, err) == (report.WELL, "")
    assert json.loads(out)["format"] == report.FORMAT


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    status, out, err = finish("--json", str(tmp_path / "nowhere" / "x"))
    assert status == report.ILL
    assert "Proved: " in out
    assert err.startswith("doctor: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("engine", ["direct", "portable"])
def test_every_step_of_a_tls_engine(engine):
    for step in tls_steps.steps(engine):
        found = step.run()
        assert found == "" or found.status in {Status.REFUSED, Status.UNTRIED}
        if found:
            assert tls_direct.prove() == found.told
            break


def test_where_openssl_lacks_a_function_the_engines_say_so(monkeypatch):
    """It is no failure: the other engine is taken."""
    monkeypatch.setattr(openssl, "SSL_FUNCTIONS", ("SSL_of_no_version",))
    found = tls_steps.steps("direct")[0].run()
    assert found.status is Status.REFUSED
    assert "SSL_of_no_version" in found.told
    monkeypatch.setattr("zerio_asyncio.loop.tls_engines.direct_refusal", lambda: "of a test")
    (choice,) = tls_steps.choice()
    monkeypatch.delenv("ZERIO_TLS", raising=False)
    assert choice.run().startswith("portable: direct does not work here: of a test (")
    monkeypatch.setenv("ZERIO_TLS", "standard")
    assert choice.run().startswith("standard: requested by ZERIO_TLS; direct does not work here")


def test_information_tells_of_the_engine_that_is_not_taken(monkeypatch):
    def told():
        return [line for line in cli.describe(cli.gather()) if "direct" in line]

    monkeypatch.setenv("ZERIO_TLS", "portable")
    refusal = tls_direct.prove()
    assert told() == [f"  direct: {'refused: ' + refusal if refusal else 'works here'}"]
    monkeypatch.setattr("zerio_asyncio.loop.tls_engines.direct_refusal", lambda: "of a test")
    assert told() == ["  direct: refused: of a test"]
    monkeypatch.delenv("ZERIO_TLS")
    assert told() == [
        "tls: portable (direct does not work here: of a test)",
        "  direct: refused: of a test",
    ]


@with_seccomp
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
def test_where_io_uring_is_forbidden_the_cause_is_told(error):
    out = isolated(forbidden, error)
    assert "epoll: the best that works here" in out
    assert "seccomp filter" in out
    assert "Proved: epoll." in out


def forbidden(error):
    forbid(IO_URING_SETUP, error)
    assert cli.main(["doctor"]) == report.WELL


@with_seccomp
def test_where_io_uring_is_forbidden_and_asked_for_the_choice_fails(monkeypatch):
    monkeypatch.setenv("ZERIO_PROVIDER", "uring")
    out = isolated(forbidden_choice)
    assert "ZERIO_PROVIDER" in out
    assert "Failed: choice" in out


def forbidden_choice():
    forbid(IO_URING_SETUP, errno.EPERM)
    assert cli.main(["doctor"]) == report.ILL


def group(argument, *statuses):
    outcomes = [Outcome(f"step {n}", status, "", 0.0) for n, status in enumerate(statuses)]
    return Group(
        f"provider {argument}", "zerio_asyncio.doctor.provider_steps:steps", argument, outcomes
    )


@pytest.mark.parametrize(
    ("made", "status", "words"),
    [
        ([group("a", Status.OK), group("b", Status.OK)], report.WELL, "Proved: a, b."),
        ([group("a", Status.REFUSED), group("b", Status.OK)], report.WELL, "Proved: b."),
        (
            [group("a", Status.OK, Status.HUNG), group("b", Status.OK)],
            report.ILL,
            "a: step 1 (hung)",
        ),
        ([group("a", Status.REFUSED), group("b", Status.CRASHED)], report.NONE, "No provider"),
        ([group("a")], report.NONE, "No provider"),
    ],
)
def test_the_verdict(made, status, words):
    found, verdict = report.judge(made)
    assert found == status
    assert words in verdict


def test_a_visit_outlives_its_steps(monkeypatch, capsys):
    bad = Group("provider bad", "tests.doctor.specimens:steps", "last")
    monkeypatch.setattr(report, "groups", lambda: [bad, group("none")])
    options = cli.parser().parse_args(["doctor", "--json", "-"])
    assert report.visit(options, {}) == report.NONE
    whole = json.loads(capsys.readouterr().out)
    assert [step["status"] for step in whole["groups"][0]["steps"]] == ["ok", "crashed"]
