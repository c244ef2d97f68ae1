"""Cannot set a class up."""

import asyncio
import unittest


class Unready(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise RuntimeError("on purpose")

    def test_never(self):
        pass


class Ready(unittest.TestCase):
    def test_passes(self):
        asyncio.run(asyncio.sleep(0))
