"""What every test expects of whoever has started it."""

from __future__ import annotations

import signal

# A script's jobs in the background ignore it, and whatever they start does.
signal.signal(signal.SIGINT, signal.default_int_handler)
