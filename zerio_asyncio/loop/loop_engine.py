"""The engine as a loop class sees it: with the standard library's loop as its second parent.

For type checkers: this package uses the names below, which come from that parent, but its stubs
omit the private ones (private_names.py checks those at run time).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerio_asyncio.core.engine import Engine

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, MutableMapping
    from concurrent.futures import Executor
    from typing import Any

    from zerio_asyncio.loop.tls_engines import TLSChoice

    class LoopEngine(Engine):
        """The engine and what it shares with its loop class."""

        call_exception_handler: Callable[[dict[str, Any]], None]
        create_task: Callable[..., asyncio.Task[Any]]
        is_closed: Callable[[], bool]
        is_running: Callable[[], bool]
        _add_callback_signalsafe: Callable[[asyncio.Handle], None]
        _check_sendfile_params: Callable[[Any, Any, int, int | None], None]
        _accept_connection2: Callable[..., Coroutine[Any, Any, None]]
        _check_closed: Callable[[], None]
        _check_running: Callable[[], None]
        _default_executor: Executor | None
        _process_events: Callable[[Any], None]
        _selector: Any

        @property
        def _tls(self) -> TLSChoice: ...

        _transports: MutableMapping[int, Any]
else:
    LoopEngine = Engine
