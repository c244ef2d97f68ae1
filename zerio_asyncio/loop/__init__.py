"""The event loops: the standard library's, with our engine, port and transports."""
