"""CPython's own tests of asyncio, run against our loop; see README.md."""
