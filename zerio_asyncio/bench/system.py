"""What the benchmark asks of the system it runs on: this module alone asks which one that is.

Each system answers in a module of its own, ``linux/asked.py`` or ``windows/asked.py``, by the same
names.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from zerio_asyncio.bench.windows import asked as own
else:
    from zerio_asyncio.bench.linux import asked as own

STANDARD, OTHERS, PATCHED, PROVIDERS = own.STANDARD, own.OTHERS, own.PATCHED, own.PROVIDERS
LIMIT, LIMIT_TITLE = own.LIMIT, own.LIMIT_TITLE
SHARES_PORTS, LISTENS_FIRST = own.SHARES_PORTS, own.LISTENS_FIRST
HAS_TLS_ROWS, WITHOUT_TLS = own.HAS_TLS_ROWS, own.WITHOUT_TLS
DIALS_AGAIN = own.DIALS_AGAIN

pin, pin_thread, cores = own.pin, own.pin_thread, own.cores
raise_descriptor_limit = own.raise_descriptor_limit
cpu_ns, cpu_split = own.cpu_ns, own.cpu_split
resident_bytes, load_average, processor = own.resident_bytes, own.load_average, own.processor
descriptor, interpreter, words_of = own.descriptor, own.interpreter, own.words_of
