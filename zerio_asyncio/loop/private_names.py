"""The private parts of the standard library that the loop overrides or calls, in one table.

They are not stable: a Python that changed one would fail with a ``TypeError`` in the middle of a
connection. So each is listed with the parameters it has had, and since which Python, and is
compared when a loop class is made. Public ways are better; the names listed here have none.

Checked against CPython 3.10 to 3.15. Attributes of instances cannot be looked up before an instance
exists; they are at the end of the table, and tests look for them.
"""

from __future__ import annotations

import importlib
import inspect
import platform
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import asyncio

Version = tuple[int, int]

ANY: Version = (3, 10)


class PrivateName(NamedTuple):
    """One function: its place, and its parameters by the first Python that has them."""

    path: str
    """``module:name`` or ``module:Class.name``, below ``asyncio``; ``loop:name`` for the class."""
    parameters: dict[Version, str]


def _private(path: str, parameters: str = "", **later: str) -> PrivateName:
    """``later``: ``py315="…"`` for its parameters from that version on."""
    since = {(3, int(name.removeprefix("py3"))): text for name, text in later.items()}
    return PrivateName(path, {ANY: parameters, **since})


_SERVING = "protocol_factory sock sslcontext server backlog ssl_handshake_timeout"
_ACCEPTING = "protocol_factory conn extra sslcontext server ssl_handshake_timeout"
_SSL = (
    "rawsock protocol sslcontext waiter server_side server_hostname extra server "
    "ssl_handshake_timeout"
)
_SSL_LAYER = (
    "loop app_protocol sslcontext waiter server_side server_hostname call_connection_made "
    "ssl_handshake_timeout"
)
_CHILD = "protocol args shell stdin stdout stderr bufsize extra **kwargs"
_LATER = "ssl_shutdown_timeout"

OVERRIDDEN = (
    _private("loop:_run_once"),
    _private("loop:_add_callback", "handle"),
    _private("loop:_add_callback_signalsafe", "handle"),
    _private("loop:_call_soon", "callback args context"),
    _private("loop:_write_to_self"),
    _private("loop:_timer_handle_cancelled", "handle"),
    _private("loop:_do_shutdown", "future"),
    _private("loop:_connect_sock", "exceptions addr_info local_addr_infos"),
    _private(
        "loop:_make_socket_transport",
        "sock protocol waiter extra server",
        py315="sock protocol waiter extra server context",
    ),
    _private(
        "loop:_make_ssl_transport",
        _SSL,
        py311=f"{_SSL} {_LATER}",
        py315=f"{_SSL} {_LATER} context",
    ),
    _private("loop:_make_datagram_transport", "sock protocol address waiter extra"),
    _private("loop:_make_subprocess_transport", _CHILD),
    _private(
        "loop:_start_serving",
        _SERVING,
        py311=f"{_SERVING} {_LATER}",
        py315=f"{_SERVING} {_LATER} context",
    ),
    _private("loop:_stop_serving", "sock"),
    _private("loop:_sendfile_native", "transp file offset count"),
    _private("loop:_sock_sendfile_native", "sock file offset count"),
    _private("events:Handle._run"),
)

CALLED = (
    _private("loop:_check_closed"),
    _private("loop:_check_running"),
    _private("loop:_check_thread"),
    _private("loop:_check_callback", "callback method"),
    _private("loop:_check_sendfile_params", "sock file offset count"),
    _private("loop:_ensure_resolved", "address family type proto flags loop"),
    _private("loop:_process_events", "event_list"),
    _private("base_events:Server._start_serving"),
    _private("base_events:Server._attach", py313="transport"),
    _private("base_events:Server._detach", py313="transport"),
    _private("base_subprocess:BaseSubprocessTransport._process_exited", "returncode"),
    _private("base_subprocess:BaseSubprocessTransport._wait"),
    _private(
        "base_subprocess:BaseSubprocessTransport.__init__",
        "loop protocol args shell stdin stdout stderr bufsize waiter extra **kwargs",
    ),
    _private("sslproto:SSLProtocol.__init__", _SSL_LAYER, py311=f"{_SSL_LAYER} {_LATER}"),
    _private("subprocess:Process._read_stream", "fd"),
    _private("base_events:_check_ssl_socket", "sock"),
    _private("base_events:_format_handle", "handle"),
    _private("base_events:_set_nodelay", "sock"),
    _private("format_helpers:_format_callback_source", "func args", py313="func args debug"),
    _private("protocols:_feed_data_to_buffered_proto", "proto data"),
)

ON_SELECTORS = (
    _private(
        "loop:_accept_connection2",
        _ACCEPTING,
        py311=f"{_ACCEPTING} {_LATER}",
        py315=f"{_ACCEPTING} {_LATER} context",
    ),
    _private("loop:_ensure_fd_no_transport", "fd"),
    _private("loop:_add_reader", "fd callback *args", py315="fd callback *args context"),
    _private("loop:_remove_reader", "fd"),
    _private("loop:_make_self_pipe"),
    _private("loop:_close_self_pipe"),
    _private("loop:_process_self_data", "data"),
    _private("loop:_handle_signal", "sig"),
)

ON_PROACTORS = (
    _private("loop:_make_read_pipe_transport", "sock protocol waiter extra"),
    _private("loop:_make_write_pipe_transport", "sock protocol waiter extra"),
    _private("loop:_make_duplex_pipe_transport", "sock protocol waiter extra"),
    _private("loop:_loop_self_reading", "f"),
    _private("windows_events:IocpProactor._register_with_iocp", "obj"),
    _private("windows_events:IocpProactor._unregister", "ov"),
    _private("windows_events:IocpProactor._poll", "timeout"),
    _private("windows_events:IocpProactor._check_closed"),
)


ATTRIBUTES = {
    "loop": "_closed _csock _debug _default_executor _selector _ssock _stopping _thread_id",
    "base_events:Server": "_backlog _sockets",
    "base_subprocess:BaseSubprocessTransport": "_loop _pipes _proc",
    "sslproto:SSLProtocol": "_app_transport",
    "streams:StreamReader": "_buffer _limit",
    "streams:StreamReaderProtocol": "_stream_reader",
}

SELECTORS_ATTRIBUTES = {"loop": "_signal_handlers _transports"}

PROACTORS_ATTRIBUTES = {
    "loop": "_proactor _self_reading_future",
    "proactor_events:_ProactorBasePipeTransport": "_sock",
    "windows_events:IocpProactor": (
        "_cache _iocp _loop _registered _results _stopped_serving _unregistered"
    ),
    "windows_events:_OverlappedFuture": "_ov",
}


def parameters_of(function: Any) -> str:
    """The names of a function's parameters except ``self``, with the stars of variadic ones."""
    stars: dict[Any, str] = {
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.VAR_KEYWORD: "**",
    }
    names = inspect.signature(function).parameters.values()
    return " ".join(stars.get(each.kind, "") + each.name for each in names if each.name != "self")


def fault_of(private: PrivateName, loop: type) -> str | None:
    """What is wrong with a name if ``loop`` is the standard library's loop; None if nothing is."""
    module, _, name = private.path.partition(":")
    try:
        found: Any = loop if module == "loop" else importlib.import_module(f"asyncio.{module}")
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return "is missing"
    has = parameters_of(found)
    if has in private.parameters.values():  # also another version's: such changes are backported
        return None
    expected = private.parameters[max(v for v in private.parameters if v <= sys.version_info[:2])]
    return f"takes ({', '.join(has.split())}), not ({', '.join(expected.split())})"


def check(names: tuple[PrivateName, ...], loop: type[asyncio.AbstractEventLoop]) -> None:
    """Raise ``ImportError`` that names this Python and each name that differs from the table.

    ``loop``: the standard library's loop class that ours derives from.
    """
    faults = []
    for private in names:
        fault = fault_of(private, loop)
        if fault is not None:
            name = private.path.replace("loop:", f"{loop.__name__}.").replace(":", ".")
            faults.append(f"{name} {fault}")
    if faults:
        from importlib import metadata  # noqa: PLC0415  # slow, and not needed otherwise

        raise ImportError(
            f"zerio_asyncio {metadata.version('zerio-asyncio')} does not fit "
            f"Python {platform.python_version()}, whose asyncio has changed: {'; '.join(faults)}"
        )
