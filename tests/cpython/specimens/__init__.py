"""Small test modules that go wrong in every way that the runner must survive."""
