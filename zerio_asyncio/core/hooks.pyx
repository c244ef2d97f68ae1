"""What a loop class must define: the engine calls these names of a loop, and no others.

The engine is the first base of a loop class, the standard library's loop the second. Between the
two is what the port has for the loop and the engine does not handle itself. The engine also uses
what the standard library's loop has (``_process_events``, ``call_exception_handler`` …; the private
ones are listed in loop/private_names.py) and two of its attributes, which a loop class may have to
create: ``_selector``, whose ``select`` waits for the port (``Engine._select``), and
``_transports``, the transports by descriptor.
"""


cdef class LoopHooks(Scheduler):
    """Each of these runs in the loop's thread, in a turn; an exception leaves the turn."""

    def _port_ready(self, events):
        """Watched descriptors are ready: pairs with their masks, 1 reading, 2 writing."""
        raise NotImplementedError

    def _port_accepted(self, key, status, descriptor, peer):
        """A listener (``_accept`` had ``key``) has a connection: ``descriptor``, which is ours.

        ``peer`` is its address: a name, or bytes if it could not be named. If ``status``, a Winsock
        code, is not 0, there is no connection, and no more come until ``_accept`` is called.
        """
        raise NotImplementedError

    def _port_packet(self, status, count, key, address):
        """An operation of the loop's own has ended (Windows): the packet, by its OVERLAPPED."""
        raise NotImplementedError

    def _wake_waiters(self, descriptor):
        """A transport's socket is closed: whoever waits for its readiness (sendfile) must check."""
        raise NotImplementedError
