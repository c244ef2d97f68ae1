"""The files that the tidy tests look at: what git knows or would add, nothing that was built."""

from __future__ import annotations

import functools
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "zerio_asyncio"


@functools.cache
def files() -> tuple[pathlib.Path, ...]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
        names = [name for name in listed.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if is_source(p)]
    return tuple(sorted({ROOT / name for name in names if (ROOT / name).is_file()}))


def is_source(path: pathlib.Path) -> bool:
    parts = path.relative_to(ROOT).parts
    hidden = any(part.startswith(".") or part == "build" for part in parts[:-1])
    return path.is_file() and not hidden and path.suffix not in (".so", ".pyc")


def named(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


def with_suffix(*suffixes: str, under: str = "") -> list[pathlib.Path]:
    return [p for p in files() if p.suffix in suffixes and named(p).startswith(under)]


def module_of(path: pathlib.Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+c?import[ \t]+(\([^)]*\)|.*)|c?import[ \t]+(.+))$",
    re.MULTILINE,
)


FOR_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)+", re.MULTILINE)


def imports(path: pathlib.Path, types: bool = True) -> set[str]:
    """Modules that a Python or Cython file imports, and for ``from x import y`` also ``x.y``.

    Without ``types``, only what is imported when the program runs.
    """
    found = set()
    text = re.sub(r'"""(?:.|\n)*?"""', "", path.read_text(encoding="utf-8"))
    if not types:
        text = "" if path.suffix == ".pyi" else FOR_TYPES.sub("", text)
    for source, names, plain in IMPORT.findall(text):
        if plain:
            found |= {part.split(" as ")[0].strip() for part in plain.split("#")[0].split(",")}
            continue
        package = source
        if source.startswith("."):
            dots = len(source) - len(source.lstrip("."))
            parents = module_of(path).split(".")
            if path.stem != "__init__":
                parents = parents[:-1]
            parents = parents[: len(parents) - dots + 1]
            package = ".".join([*parents, source.lstrip(".")]).rstrip(".")
        found.add(package)
        bare = re.sub(r"#.*", "", names).strip("() \n")
        found |= {f"{package}.{name.split(' as ')[0].strip()}" for name in bare.split(",") if name}
    return found
