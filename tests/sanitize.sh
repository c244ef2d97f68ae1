#!/bin/sh
# Builds everything with the address and undefined-behaviour sanitizers, in a copy of the tree, and
# runs tests there: tests/rio and two minutes of tests/fuzz, or what the arguments tell pytest, or
# with `fuzz` as the first one, the fuzzer with the others. PYTHON chooses the interpreter, which is
# otherwise that of .venv, if there is one; it needs what `pip install .[test,dev]` brings.
#
#     tests/sanitize.sh
#     ZERIO_PROVIDER=epoll tests/sanitize.sh tests/rio/test_endings.py -x
#     tests/sanitize.sh fuzz --seeds 0:2000 --provider epoll --hostile
#     PYTHON=python3.13t SANITIZED=/path/to/python3.13t tests/sanitize.sh threads
#
# The fuzzer runs as many seeds as it gets through. Python's own allocator would hide what happens
# to its objects, so it runs with the C library's; a report aborts, so that faulthandler tells where
# Python was.
#
# Leaks: CPython itself leaves memory behind at its end, so the leak sanitizer is off while pytest
# runs. Afterwards it watches the lives of tests/rio/test_leaks.py, and only what has a frame of the
# providers counts.
#
# With `threads` as the first argument it is the thread sanitizer instead, and the tests that use
# several threads, or those that the others name. It sees what orders the interpreter's threads only
# in an interpreter that is built with it (--disable-gil --with-thread-sanitizer): SANITIZED, which
# runs the tests with the packages of PYTHON, of the same version. What it tells of others than us
# is passed over by tests/threads.supp; any other report fails.
set -eu

cd "$(dirname "$0")/.."
python=python3
if [ -x .venv/bin/python ]; then python=$PWD/.venv/bin/python; fi
python=${PYTHON:-$python}
copy=build/sanitize
[ "${1:-}" != threads ] || copy=build/sanitize-threads
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard |
    tar --create --null --files-from=- --ignore-failed-read 2>/dev/null |
    tar --extract --directory="$copy"
cd "$copy"

threads() { # threads ARGUMENT...: what the arguments tell pytest, or what uses several threads
    ZERIO_SANITIZE=threads "$python" setup.py --quiet build_ext --inplace
    [ $# -gt 0 ] || set -- tests/core/test_free_threads.py tests/loop/test_run_threads.py
    reports=$PWD/build/reports
    rm -rf "$reports"
    mkdir -p "$reports"
    fixed= # where addresses are too random for the sanitizer
    ! setarch -R true 2>/dev/null || fixed="setarch -R"
    packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
    status=0
    PYTHONPATH=$packages PYTHON_GIL=0 ZERIO_STD=no \
        TSAN_OPTIONS="suppressions=$PWD/tests/threads.supp log_path=$reports/race" \
        $fixed "$SANITIZED" -m pytest -p no:cacheprovider "$@" || status=$?
    if cat "$reports"/race.* 2>/dev/null; then
        echo "threads race" >&2
        status=1
    fi
    return $status
}

if [ "${1:-}" = threads ]; then
    shift
    threads "$@"
    exit
fi

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
