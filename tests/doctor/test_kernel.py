"""What is concluded from a kernel's settings: cause and cure, for kernels that are not here."""

import errno
import os

import pytest

from tests.rio.marks import with_seccomp
from zerio_asyncio.doctor import kernel
from zerio_asyncio.doctor.kernel import Kernel, explain

NEW = {"release": "6.12.1-generic", "uring_disabled": "0", "seccomp": 0}


def told(refusal=None, **facts):
    notes = explain(Kernel(**{**NEW, **facts}), refusal)
    return {note.about: note for note in notes}


def refusal(code):
    return f"io_uring_setup failed ({os.strerror(code)}): whatever."


def cause(code, **facts):
    note = told(refusal(code), **facts)["io_uring"]
    assert note.warns
    return note.told


def test_a_new_kernel_has_everything():
    notes = told()
    assert "everything" in notes["kernel 6.12.1-generic"].told
    assert not any(note.warns for note in notes.values())
    assert "io_uring" not in notes


@pytest.mark.parametrize(
    ("release", "word", "warns"),
    [
        ("5.10.0-30-amd64", "older than 5.19", True),
        ("5.19.0", "interrupted", False),
        ("6.1.0", "6.6", False),
        ("6.6.1", "everything", False),
        ("10.0", "everything", False),
        ("mainline", "not understood", False),
    ],
)
def test_versions(release, word, warns):
    note = told(release=release)[f"kernel {release}"]
    assert word in note.told
    assert note.warns is warns


@pytest.mark.parametrize(
    ("facts", "code", "words"),
    [
        ({"uring_disabled": "2"}, errno.EPERM, "kernel.io_uring_disabled is 2"),
        ({"uring_disabled": "1", "uring_group": "7"}, errno.EPERM, "group 7"),
        ({"seccomp": 2, "seccomp_filters": 1}, errno.EPERM, "seccomp filter"),
        ({"seccomp": 2}, errno.ENOSYS, "seccomp filter"),
        ({"seccomp": 2}, errno.ENOMEM, "ulimit -l"),
        ({}, errno.ENOSYS, "CONFIG_IO_URING"),
        ({"release": "4.19.0"}, errno.ENOSYS, "older than 5.19"),
        ({}, errno.EIO, "probe told"),
    ],
)
def test_the_likeliest_cause_of_a_refusal(facts, code, words):
    assert words in cause(code, **facts)


@pytest.mark.parametrize(
    ("value", "word", "warns"),
    [
        ("0", "everybody", False),
        ("1", "group", True),
        ("2", "nobody", True),
        (None, "no such", False),
    ],
)
def test_the_setting(value, word, warns):
    found = told(refusal(errno.EPERM), uring_disabled=value)["kernel.io_uring_disabled"]
    assert word in found.told
    assert found.warns is warns


def test_locked_memory_matters_where_rings_are_counted_against_it():
    about = "locked memory (ulimit -l)"
    low = {"locked": (65536, 65536)}
    assert not told(**low)[about].warns
    assert told(release="5.10.0", **low)[about].warns
    assert not told(release="5.10.0", locked=(1 << 30, None))[about].warns
    assert told(locked=(None, None))[about].told == "unlimited"


def test_descriptors_bound_connections():
    about = "descriptors (ulimit -n)"
    few = told(descriptors=(1024, 524288))[about]
    assert few.warns
    assert "raise" in few.told
    assert "raise" not in told(descriptors=(1024, 1024))[about].told
    assert not told(descriptors=(65536, 524288))[about].warns
    assert told(descriptors=(None, None))[about].told == "unlimited"


def test_where_there_is_no_such_kernel_little_is_said(tmp_path):
    assert explain(Kernel()) == []
    found = kernel.read(tmp_path)
    assert found.uring_disabled is None
    assert found.seccomp is None


def test_what_stands_in_proc_is_read(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t3\n")
    settings = tmp_path / "sys" / "kernel"
    settings.mkdir(parents=True)
    (settings / "io_uring_disabled").write_text("1\n")
    (settings / "io_uring_group").write_text("-1\n")
    found = kernel.read(tmp_path)
    assert (found.seccomp, found.seccomp_filters) == (2, 3)
    assert (found.uring_disabled, found.uring_group) == ("1", "-1")


@with_seccomp
def test_this_kernel_is_read():
    found = kernel.read()
    assert found.version > (2, 6)
    assert found.seccomp is not None
    assert found.descriptors is not None
