"""The test-suite with Windows CPython under Wine; see README.md."""
