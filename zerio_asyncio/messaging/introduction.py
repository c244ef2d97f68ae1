r"""The first message of either side: who the client is, and what two of ours agree on.

A client sends its peer id and the server sends it back: that is all that C# Zerio knows. A client
of ours that is told so adds a question, and a server of ours answers it::

    client   trader-7 \0 zerio/1
    server   trader-7 \0 zerio/1 agreed            from here on the extensions may be used
             \0 zerio/1 refused duplicate the peer id is taken

A server that does not know the question, as C#'s, takes it for a part of the id and sends it all
back unchanged. A client in C# never asks, so it is never answered with more than its id.
"""

from __future__ import annotations

from zerio_asyncio.messaging.errors import DisconnectCause, HandshakeError

PEER_ID_LENGTH_MAX = 255
"""Bytes of a peer id: enough for a host name (RFC 1035)."""

QUESTION = "\0zerio/1"
AGREED = QUESTION + " agreed"
REFUSED = QUESTION + " refused "

INTRODUCTION_MAX = PEER_ID_LENGTH_MAX + len(QUESTION)
"""The limit of a client's first message; what more it sends is not read."""

ANSWER_MAX = PEER_ID_LENGTH_MAX + 256
"""The limit of the server's, which may have a reason in it."""

LOOKS_LIKE = ((b"\x16\x03", "TLS"), (b"\x15\x03", "TLS"), (b"GET ", "HTTP"), (b"HTTP", "HTTP"))
"""How what is not a message begins, read as its length."""


def check_peer_id(peer_id: str) -> str:
    """The peer id; ``ValueError`` if it cannot be sent."""
    if not isinstance(peer_id, str):
        raise TypeError(f"a peer id is a str, not {peer_id!r}")
    if not peer_id or len(peer_id) > PEER_ID_LENGTH_MAX or not peer_id.isascii():
        raise ValueError(
            f"a peer id has 1 to {PEER_ID_LENGTH_MAX} ASCII characters, unlike {peer_id[:300]!r}"
        )
    if QUESTION in peer_id:
        raise ValueError(f"a peer id does not have {QUESTION!r} in it, unlike {peer_id!r}")
    return peer_id


def check_address(host: object, port: object, least: int) -> None:
    """``TypeError`` if there can be no such host and port."""
    if not isinstance(host, str) or type(port) is not int or not least <= port <= 65535:
        raise TypeError(
            f"an address is a host and a port, such as ('127.0.0.1', 7070), not {(host, port)!r}"
        )


def check_pair(address: object) -> tuple[str, int]:
    """The same for both in one."""
    if not isinstance(address, (tuple, list)) or len(address) != 2:
        raise TypeError(
            f"an address is a host and a port, such as ('127.0.0.1', 7070), not {address!r}"
        )
    host, port = address
    check_address(host, port, 1)
    return host, port


def question(peer_id: str, extensions: bool) -> bytes:
    """A client's first message."""
    return (peer_id + QUESTION if extensions else peer_id).encode("ascii")


def read_question(message: bytes) -> tuple[str, bool]:
    """The peer id, and whether the client asks for extensions; ``ValueError`` says what is wrong.

    Every byte of ASCII may be in an id, as in C#. Of other bytes C# makes question marks, so that
    different ids become one: they are refused.
    """
    if not message.isascii():
        raise ValueError("the peer id is not ASCII")
    text = message.decode("ascii")
    peer_id = text.removesuffix(QUESTION)
    if not peer_id:
        raise ValueError("the peer id is empty")
    if len(peer_id) > PEER_ID_LENGTH_MAX:
        raise ValueError(f"a peer id of {len(peer_id)} bytes: the limit is {PEER_ID_LENGTH_MAX}")
    return peer_id, peer_id != text


def agreement(peer_id: str, extensions: bool) -> bytes:
    """The server's first message."""
    return (peer_id + AGREED if extensions else peer_id).encode("ascii")


def refusal(cause: DisconnectCause, text: str) -> bytes:
    """The server's only message to a client that asked for extensions and is refused."""
    plain = text.encode("ascii", "replace")[: ANSWER_MAX - 64]
    return REFUSED.encode("ascii") + cause.value.encode("ascii") + b" " + plain


def check_answer(peer_id: str, extensions: bool, message: bytes) -> None:
    """``HandshakeError`` if the server's first message is not what it should be."""
    if not message.isascii():
        raise HandshakeError("the server answered what is not ASCII")
    text = message.decode("ascii")
    if text == (peer_id + AGREED if extensions else peer_id):
        return
    if extensions and text == peer_id + QUESTION:
        raise HandshakeError(
            "the server does not know extensions, and took the question for a part of the peer id: "
            "connect without extensions=True"
        )
    if text.startswith(REFUSED):
        cause, _, why = text[len(REFUSED) :].partition(" ")
        known = {cause.value for cause in DisconnectCause}
        raise HandshakeError(
            f"the server refused the connection: {why}",
            DisconnectCause(cause) if cause in known else DisconnectCause.HANDSHAKE,
        )
    if not text:
        raise HandshakeError("the server answered with an empty peer id")
    raise HandshakeError(f"the server answered {text!r} to the peer id {peer_id!r}")


def guess(header: bytes) -> str:
    """What the other side seems to speak instead, to be added to an error; empty if unknown."""
    for beginning, name in LOOKS_LIKE:
        if header.startswith(beginning):
            return f"; this looks like {name}"
    return ""
