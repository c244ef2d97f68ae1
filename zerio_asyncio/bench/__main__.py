"""``python -m zerio_asyncio.bench``."""

import sys

from zerio_asyncio.bench.command import main

if __name__ == "__main__":
    sys.exit(main())
