"""Random programs over all public calls, with every byte compared: README.md."""
