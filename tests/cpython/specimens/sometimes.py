"""Fails when another test ran before it in the process."""

import asyncio
import unittest

ran = []


class Sometimes(unittest.TestCase):
    def test_1(self):
        asyncio.run(asyncio.sleep(0))
        ran.append(1)

    def test_2(self):
        assert ran == []
