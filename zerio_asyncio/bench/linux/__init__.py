"""The benchmark's half for Linux."""
