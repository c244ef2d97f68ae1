#!/bin/sh
# Builds everything with the address and undefined-behaviour sanitizers, in a copy of the tree, and
# runs tests there: tests/rio and two minutes of tests/fuzz, or what the arguments tell pytest, or
# with `fuzz` as the first one, the fuzzer with the others. PYTHON chooses the interpreter, which is
# otherwise that of .venv, if there is one; it needs what `pip install .[test,dev]` brings.
#
#     tests/sanitize.sh
#     ZERIO_PROVIDER=epoll tests/sanitize.sh tests/rio/test_endings.py -x
#     tests/sanitize.sh fuzz --seeds 0:2000 --provider epoll --hostile
#
# The fuzzer runs as many seeds as it gets through. Python's own allocator would hide what happens
# to its objects, so it runs with the C library's; a report aborts, so that faulthandler tells where
# Python was.
#
# Leaks: CPython itself leaves memory behind at its end, so the leak sanitizer is off while pytest
# runs. Afterwards it watches the lives of tests/rio/test_leaks.py, and only what has a frame of the
# providers counts.
set -eu

cd "$(dirname "$0")/.."
python=python3
if [ -x .venv/bin/python ]; then python=$PWD/.venv/bin/python; fi
python=${PYTHON:-$python}
copy=build/sanitize
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard |
    tar --create --null --files-from=- --ignore-failed-read 2>/dev/null |
    tar --extract --directory="$copy"
cd "$copy"

ZERIO_SANITIZE=1 "$python" setup.py --quiet build_ext --inplace

preload=$(gcc -print-file-name=libasan.so)
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

fuzz() { # fuzz OPTION...: random programs
    LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:handle_segv=2:handle_abort=0 \
        PYTHONMALLOC=malloc "$python" -m tests.fuzz --limit 60 --batch 25 "$@"
}

if [ "${1:-}" = fuzz ]; then
    shift
    fuzz "$@"
    exit
fi
everything=$#
if [ $# -eq 0 ]; then
    set -- tests/rio
fi
LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0 "$python" -m pytest -p no:cacheprovider "$@"
if [ "$everything" -eq 0 ]; then
    for provider in uring epoll; do
        fuzz --provider $provider --seeds 0:20000 --seconds 30
        fuzz --provider $provider --seeds 20000:40000 --seconds 30 --hostile
    done
fi

report=$(mktemp)
trap 'rm -f "$report"' EXIT
LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=1:exitcode=0 PYTHONMALLOC=malloc \
    "$python" -c "from tests.rio.test_leaks import everything; everything()" 2>"$report" || {
    cat "$report"
    exit 1
}
if grep -E "fatal error|in (rio_|epoll_|uring_|ring_|linux_)" "$report"; then
    cat "$report"
    echo "the providers leaked" >&2
    exit 1
fi
echo "no leak in the providers"
