"""``python -m zerio_asyncio``."""

import sys

from zerio_asyncio.cli import main

if __name__ == "__main__":
    sys.exit(main())
