"""For another platform."""

import unittest

raise unittest.SkipTest("on purpose")
