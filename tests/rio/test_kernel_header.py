"""Our description of io_uring is the kernel's, as far as this machine's own header goes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zerio_asyncio.rio import build

OURS = Path(build.__file__).parent / "linux" / "io_uring.h"
THEIRS = Path("/usr/include/linux/io_uring.h")
COMPILER = shutil.which("gcc") or shutil.which("cc")

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or COMPILER is None or not THEIRS.exists(),
    reason="needs a C compiler and <linux/io_uring.h>, which Linux has",
)


def expressions() -> dict[str, str]:
    """Every constant, size and offset of our header that the other can be asked for, as C."""
    text = re.sub(r"/\*.*?\*/", "", OURS.read_text(), flags=re.DOTALL)
    found = {}
    for name in re.findall(r"^#define (IORING_\w+)", text, re.MULTILINE):
        found[name] = f"#ifdef {name}\nP({name})\n#endif\n"  # the other may be older
    for name in re.findall(r"^    (IORING_\w+) = \d+", text, re.MULTILINE):
        found[name] = f"P({name})\n"
    flags = re.DOTALL | re.MULTILINE
    for structure, body in re.findall(r"^struct (\w+) \{\n(.*?)^\};", text, flags):
        kind = f"struct {structure}"
        found[kind] = f"P(sizeof({kind}))\n"
        member_list = r"^\s+(?:struct )?\w+ ([\w, ]+)(?:\[\d\])?;"
        for declaration in re.findall(member_list, body, re.MULTILINE):
            for member in declaration.split(", "):
                # Padding has other names there; what was padding before Linux 6.12, too.
                if not re.match(r"resv|rest|min_wait_usec", member):
                    found[f"{kind}.{member}"] = f"P(offsetof({kind}, {member}))\n"
    return found


def values(header: Path, folder: Path) -> dict[str, str]:
    body = "".join(expressions().values())
    source = folder / "values.c"
    source.write_text(
        f'#include "{header}"\n#include <stddef.h>\n#include <stdio.h>\n'
        '#define P(what) printf("%s\\t%llu\\n", #what, (unsigned long long)(what));\n'
        f"int main(void)\n{{\n{body}}}\n"
    )
    program = folder / "values"
    subprocess.run([COMPILER, str(source), "-o", str(program)], check=True)
    output = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    return dict(line.split("\t") for line in output.splitlines())


def test_it_is_the_kernels(tmp_path):
    ours, theirs = values(OURS, tmp_path), values(THEIRS, tmp_path)
    assert len(ours) > 70
    assert {name: ours[name] for name in theirs} == theirs
    # Of the newest constants alone may an older header know nothing.
    assert len(ours) - len(theirs) < 10


def test_a_mistake_is_found(tmp_path):
    wrong = tmp_path / "io_uring.h"
    text = OURS.read_text()
    wrong.write_text(text.replace("uint32_t len;", "uint64_t len;").replace("= 14,", "= 15,"))
    assert wrong.read_text() != text
    ours, theirs = values(wrong, tmp_path), values(THEIRS, tmp_path)
    different = {name for name in theirs if ours[name] != theirs[name]}
    assert "IORING_OP_ASYNC_CANCEL" in different
    assert any("io_uring_sqe" in name for name in different)
