"""A call to the sandbox, and its reply: bytes, and how they are sent."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from http.client import responses

_NOT_FOR_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Call:
    """An HTTP request as it came in; ``received_at`` is of time.monotonic()."""

    received_at: float
    connection: int  # the same number for all calls over one connection
    verb: str
    path: str
    authorization: str = field(repr=False)
    store: str  # the keyword in upper case; "" if the authorization is no good
    method: str
    phone_number: str
    form: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Reply:
    """The bytes of an answer, and how they are sent. ``headers`` go over those made up for it.

    ``delay``, ``drip_headers`` and ``drip`` are seconds: before the first byte, before each byte
    of the head, before each byte of the body. ``cut`` is an index into the whole answer: only
    ``[:cut]`` is sent, then the connection closed. ``reset`` resets it instead of an answer.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float | None = None
    drip_headers: float | None = None
    cut: int | None = None
    reset: bool = False
    chunked: bool = False

    def pieces(self) -> list[tuple[float, bytes]]:
        """What to write, each with the seconds to wait before it; one piece if nothing drips."""
        body, framing = self.body, {"Content-Length": str(len(self.body))}
        if self.chunked:
            chunks = (body, b"") if body else (b"",)
            body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
            framing = {"Transfer-Encoding": "chunked"}
        headers = {"Content-Type": "text/xml; charset=utf-8", **framing, **self.headers}
        lines = [f"HTTP/1.1 {self.status} {responses.get(self.status, 'Unknown')}"]
        lines += [f"{name}: {text}" for name, text in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        wire = b"" if self.reset else (head + body)[: self.cut]
        if self.drip is None and self.drip_headers is None:
            return [(self.delay, wire)]
        slow_head = _drops(wire[: len(head)], self.drip_headers)
        return [(self.delay, b""), *slow_head, *_drops(wire[len(head) :], self.drip)]


def _drops(wire: bytes, pause: float | None) -> list[tuple[float, bytes]]:
    return [(0.0, wire)] if pause is None else [(pause, bytes([byte])) for byte in wire]


def xml(
    status: str = "200", message: str = "ok", op: str = "optoutcustomer", **fields: str
) -> bytes:
    """CRM Text's answer in the shape that its clients parse; ``fields`` are its customer's."""
    inner = "".join(f"<{name}>{_escaped(text)}</{name}>" for name, text in fields.items())
    attributes = f'op="{_escaped(op)}" status="{_escaped(status)}" message="{_escaped(message)}"'
    customer = f"<customer>{inner}</customer>" if fields else ""
    return f'<response {attributes} version="1.0">{customer}</response>'.encode()


def _escaped(text: str) -> str:
    return escape(_NOT_FOR_XML.sub("", text))


HTML = {"Content-Type": "text/html"}
UNAUTHORIZED = Reply(401, xml("401", "Unauthorized"), {"WWW-Authenticate": "Basic"})
