"""Fails, hangs and crashes, each with tests after it."""

import asyncio
import os
import signal
import time
import unittest


class Bad(unittest.TestCase):
    def test_1_fails(self):
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        assert not isinstance(self.loop, loop_classes()), "fails on zerio alone"

    def test_2_fails_everywhere(self):
        self.fail("fails on every loop")

    def test_3_fails_in_a_subtest(self):
        for number in range(3):
            with self.subTest(number=number):
                assert number != 1

    def test_4_crashes(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def test_5_hangs(self):
        time.sleep(1000)

    def test_6_passes(self):
        pass


def loop_classes():
    import zerio_asyncio

    return zerio_asyncio.RioEventLoop
