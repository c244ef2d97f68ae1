"""Registered I/O for Python."""
