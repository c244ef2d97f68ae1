"""Passes, skips and is excluded; on the loop under judgement."""

import asyncio
import unittest


class Good(unittest.TestCase):
    def test_passes(self):
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        assert loop.run_until_complete(asyncio.sleep(0, "slept")) == "slept"

    def test_by_class_and_selector(self):
        import selectors

        loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        self.addCleanup(loop.close)
        assert type(loop) is type(asyncio.DefaultEventLoopPolicy().new_event_loop())

    def test_skips(self):
        self.skipTest("on purpose")

    @unittest.expectedFailure
    def test_fails_as_expected(self):
        self.fail("on purpose")


class EPollEventLoopTests(unittest.TestCase):
    def test_repeats_another_class(self):
        self.fail("must not be run")
