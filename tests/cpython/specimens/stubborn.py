"""Passes, and then its process does not end well."""

import asyncio
import atexit
import os
import unittest


class Stubborn(unittest.TestCase):
    def test_passes(self):
        asyncio.run(asyncio.sleep(0))
        atexit.register(os.abort)
