"""The benchmark's half for Windows."""
