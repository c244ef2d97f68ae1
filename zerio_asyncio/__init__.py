"""An asyncio event loop on Registered I/O."""
