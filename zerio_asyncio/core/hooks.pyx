"""What a loop class defines for the engine: the engine calls these, and no other names of a loop's.

The engine is the first base of a loop class, the standard library's loop the second. Between them
stands what the port has for the loop and the engine does not deal with itself. Besides, the engine
uses what the standard library's loop has (``_process_events``, ``call_exception_handler`` …; the
private ones are listed in loop/private_names.py) and two of its attributes, which a loop class may
have to make: ``_selector``, whose ``select`` waits for the port (``Engine._select``), and
``_transports``, the transports by their descriptors.
"""


cdef class LoopHooks(Scheduler):
    """Each of these runs in the loop's thread, in a turn; what it raises leaves the turn."""

    def _port_ready(self, events):
        """Descriptors that are watched are ready: pairs with their masks, 1 reading, 2 writing."""
        raise NotImplementedError

    def _port_accepted(self, key, status, descriptor, peer):
        """A listener (``_accept`` had ``key``) has a connection: ``descriptor``, which is ours.

        ``peer`` is its address: a name, or bytes for who can name it. With a ``status`` that is not
        0, a Winsock code, there is no connection, and no more comes until ``_accept`` is called.
        """
        raise NotImplementedError

    def _port_packet(self, status, count, key, address):
        """An operation of the loop's own has ended (Windows): the packet, by its OVERLAPPED."""
        raise NotImplementedError

    def _wake_waiters(self, descriptor):
        """A transport's socket is closed: whoever waits for its readiness (sendfile) is to look."""
        raise NotImplementedError
