"""Documents link to what exists, names have a description, and comments hold no dead code."""

from __future__ import annotations

import ast
import importlib
import re

import pytest

from zerio_asyncio.bench import build as bench
from zerio_asyncio.rio import build

from .sources import PACKAGE, ROOT, files, imports, module_of, named, with_suffix

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("path", with_suffix(".md"), ids=named)
def test_links_lead_somewhere(path):
    dead = []
    for target in LINK.findall(without_code(path.read_text(encoding="utf-8"))):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, heading = target.partition("#")
        goal = (path.parent / name).resolve() if name else path
        missing = heading and goal.is_file() and heading not in headings(goal)
        if missing or not goal.exists():
            dead.append(target)
    assert dead == []


def headings(path) -> set[str]:
    """Anchors as the usual renderers make them."""
    found = set()
    for title in re.findall(r"^#+ +(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE):
        kept = re.sub(r"[^\w\- ]", "", title.lower())
        found.add(kept.strip().replace(" ", "-"))
    return found


def test_files_that_documents_name_exist():
    """Paths in code font, such as `tests/rio`, are promises as links are."""
    tops = ("zerio_asyncio/", "tests/", "docs/", "examples/")
    dead = []
    for path in with_suffix(".md"):
        for name in re.findall(r"`([\w./-]+)`", path.read_text(encoding="utf-8")):
            if name.startswith(tops) and not (ROOT / name).exists():
                dead.append(f"{named(path)}: {name}")
    assert dead == []


def test_every_document_can_be_reached_from_the_readme():
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            goal = (page.parent / target.partition("#")[0]).resolve()
            if "://" not in target and goal.suffix == ".md" and goal.exists():
                waiting.append(goal)
    lost = [p for p in with_suffix(".md") if p not in seen and named(p).startswith("docs/")]
    assert [named(path) for path in lost] == []


def entry_points() -> set[str]:
    text = (ROOT / "setup.py").read_text() + (ROOT / "pyproject.toml").read_text()
    found = set(re.findall(r'"([\w./]+\.py)', text))
    return {"setup.py", "zerio_asyncio/__init__.py", *found}


def test_every_module_is_used():
    """Imported by another, an entry point, or a ``__main__``."""
    sources = with_suffix(".py", ".pyx", ".pxd", ".pyi", under="zerio_asyncio/")
    used = set()
    for path in sources:
        used |= {module for module in imports(path) if module != module_of(path)}
    text = (ROOT / "pyproject.toml").read_text()
    used |= set(re.findall(r'"(zerio_asyncio[\w.]*):', text))
    dead = [
        named(path)
        for path in sources
        if path.suffix in (".py", ".pyx")
        and path.name not in ("__init__.py", "__main__.py")
        and module_of(path) not in used
        and named(path) not in entry_points()
        and '__name__ == "__main__"' not in path.read_text()
    ]
    assert dead == []


def test_every_c_file_is_compiled_or_included():
    sources = with_suffix(".c", ".h", under="zerio_asyncio/")
    texts = "".join(p.read_text() for p in with_suffix(".c", ".h", ".pyx", ".pxd"))
    included = set(re.findall(r'(?:#include|from) "(?:[\w./]*/)?(\w+\.[ch])"', texts))
    compiled = {
        f"zerio_asyncio/{part}/{name}"
        for part, builder in (("rio", build), ("bench", bench))
        for names in builder.SOURCES.values()
        for name in names
    }
    dead = [
        named(path) for path in sources if named(path) not in compiled and path.name not in included
    ]
    assert dead == []


@pytest.mark.parametrize("path", with_suffix(".pyx"), ids=named)
def test_every_cython_module_has_its_map_and_its_stub(path):
    assert path.with_suffix(".pxd").exists(), "the .pxd is the map of the module"
    stub = path.with_suffix(".pyi")
    assert stub.exists(), "the .pyi is what type checkers and editors read"
    ast.parse(stub.read_text())


@pytest.mark.parametrize(
    "package", ["zerio_asyncio", "zerio_asyncio.messaging", "zerio_asyncio.rio"]
)
def test_every_public_name_is_documented(package):
    module = importlib.import_module(package)
    pages = "".join(path.read_text(encoding="utf-8") for path in with_suffix(".md"))
    for name in module.__all__:
        thing = getattr(module, name)
        if callable(thing):
            assert (thing.__doc__ or "").strip(), f"{package}.{name} has no docstring"
        assert re.search(rf"\b{name}\b", pages), f"no page of the documentation names {name}"


def test_notes_to_self_have_an_issue():
    wrong = []
    for path in with_suffix(".py", ".pyx", ".pxd", ".c", ".h", ".md"):
        if path.parent.name == "tidy":
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(r"\b(TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))", line):
                wrong.append(f"{named(path)}:{number}")
    assert wrong == []


def looks_like_python(comment: str) -> bool:
    """A statement that does something, not prose that happens to parse."""
    try:
        tree = ast.parse(comment)
    except SyntaxError:
        return False
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.Return, ast.Import, ast.ImportFrom)):
            return True
        call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if call and comment.endswith(")"):
            return True
    return False


def test_comments_of_python_and_cython_hold_no_code():
    wrong = []
    for path in with_suffix(".py", ".pyx", ".pxd"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            comment = re.match(r"\s*# ?(\S.*)$", line)
            if comment and looks_like_python(comment[1]) and "noqa" not in line:
                wrong.append(f"{named(path)}:{number}: {line.strip()}")
    assert wrong == []


def test_comments_of_c_hold_no_code():
    wrong = []
    for path in with_suffix(".c", ".h"):
        text = path.read_text(encoding="utf-8")
        comments = re.findall(r"/\*.*?\*/|//[^\n]*", text, re.DOTALL)
        for comment in comments:
            if re.search(r"(\)|\w) *;\s*(\*/|\n\s*\*? *\}|$)", comment) or "#if 0" in comment:
                wrong.append(f"{named(path)}: {comment[:60]}")
        if "#if 0" in text:
            wrong.append(f"{named(path)}: #if 0")
    assert wrong == []


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed") in files()
