"""A CRM Text to try everything against, over real HTTP: ``python -m gateway.sandbox``.

It keeps its customers in memory, sends no message to anybody, and takes every auth string whose
password is not ``wrong``. A number that it has not heard of is an opted-in customer. Some numbers
make trouble on purpose.
"""

import base64
import json
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from html import escape
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import FileIO
from itertools import count
from math import inf
from typing import Self
from urllib.parse import parse_qsl
from zlib import crc32
from zoneinfo import ZoneInfo

PATH = "/smapi/rest"
_KEYWORD = re.compile(r"(?![0-9]+$)\S{4,19}")
_NOT_FOR_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_HTML = {"Content-Type": "text/html"}


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


def _says(status: str, message: str, http_status: int = 200) -> Reply:
    return Reply(http_status, xml(status, message))


@dataclass(frozen=True)
class MagicNumber:
    """What opting out a number meets, the first ``times`` or always; then it is a usual one.

    If it ``acts``, the customer is opted out, and a reply without body gets the usual one.
    """

    explanation: str
    reply: Reply
    acts: bool = False
    times: float = inf


_DOCUMENTED = b"""<response op= "optoutcustomer" status= "200" message= "ok">
<timestamp>2014-08-11 14:23:36</timestamp>
<custName>John Queue</custName>
</response>"""
_UNAUTHORIZED = Reply(401, xml("401", "Unauthorized"), {"WWW-Authenticate": "Basic"})
_TOO_MANY = Reply(429, xml("429", "Too many requests"), {"Retry-After": "3"})
_OPTED_IN = Reply(body=xml(optinStatus="3", custMobile="9995550203"))
_SOMEBODY_ELSE = Reply(body=xml(optinStatus="5", custMobile="9995551234"))
_HTML_503 = Reply(503, b"<html><h1>Service Unavailable</h1></html>", _HTML)
_REPEATS_NUMBER = _says("422", "9995550422 cannot receive messages")

# 02xx to 05xx are answers with such a status, 06xx are slow, 07xx are broken.
MAGIC_NUMBERS: Mapping[str, MagicNumber] = {
    "9995550200": MagicNumber("opted out, in the flat shape", Reply(body=_DOCUMENTED), acts=True),
    "9995550201": MagicNumber("opted out, chunked", Reply(chunked=True), acts=True),
    "9995550203": MagicNumber("200, but the customer is opted in", _OPTED_IN),
    "9995550205": MagicNumber("200, but for another number", _SOMEBODY_ELSE),
    "9995550302": MagicNumber("redirected", Reply(302, headers={"Location": "/elsewhere"})),
    "9995550400": MagicNumber("opted out already", _says("400", "Customer is Opted-Out")),
    "9995550401": MagicNumber("bad credentials", _UNAUTHORIZED),
    "9995550404": MagicNumber("no such customer", _says("404", "Customer not found")),
    "9995550422": MagicNumber("refused, with the number in the message", _REPEATS_NUMBER),
    "9995550429": MagicNumber("too many calls, try again after 3 s", _TOO_MANY),
    "9995550500": MagicNumber("server error under HTTP 200", _says("500", "Internal error")),
    "9995550502": MagicNumber(
        "server error twice, then opted out", _says("500", "Try again", 500), times=2
    ),
    "9995550503": MagicNumber("a proxy's HTML page", _HTML_503),
    "9995550602": MagicNumber("opted out, after 2 s", Reply(delay=2.0), acts=True),
    "9995550610": MagicNumber("opted out, body drips", Reply(drip=0.2), acts=True),
    "9995550611": MagicNumber("opted out, headers drip", Reply(drip_headers=0.2), acts=True),
    "9995550630": MagicNumber("no answer, closed after 30 s", Reply(delay=30.0, cut=0)),
    "9995550700": MagicNumber("HTTP 200, but no XML", Reply(body=b"OK, done.")),
    "9995550701": MagicNumber("opted out, answer cut short", Reply(cut=-40), acts=True),
    "9995550702": MagicNumber("connection reset", Reply(reset=True)),
}


@dataclass(frozen=True)
class _Customer:
    name: str = "John Queue"
    status: str = "3"
    changed: str = "2014-08-11 14:23:36"


class Sandbox(ThreadingHTTPServer):
    """CRM Text at ``url``: bound when made, served from start() to stop(), or in a with block.

    ``log`` gets a line of JSON for each call, with the number masked.
    """

    request_queue_size = 1024
    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1", port: int = 0, log: FileIO | None = None) -> None:
        super().__init__((host, port), _Connection)
        self.url = f"http://{host}:{self.server_port}{PATH}"
        self.connections = 0  # accepted so far
        self.stopping = threading.Event()
        self._numbers = count(1)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._log = log
        self._calls: deque[Call] = deque(maxlen=100_000)
        self._customers: dict[tuple[str, str], _Customer] = {}
        self._troubles: Counter[tuple[str, str]] = Counter()

    @property
    def calls(self) -> Sequence[Call]:
        """The last 100,000 calls so far, oldest first, as a copy."""
        return list(self._calls)

    def start(self) -> None:
        """Serve from now on, in a thread that keeps no process alive."""
        # stop() takes as long as this polls
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Close the port and all connections, in the middle of an answer too."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection, and count it."""
        accepted = super().get_request()
        self.connections += 1
        return accepted

    def opened(self, connection: socket.socket) -> int:
        """Keep the connection until closed(), for stop(); a number for it."""
        with self._lock:
            self._open.add(connection)
            return next(self._numbers)

    def closed(self, connection: socket.socket) -> None:
        """Forget the connection."""
        with self._lock:
            self._open.discard(connection)

    def handle_error(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        """Print a traceback of bugs only: clients that hang up are everyday life."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def answer(self, call: Call) -> Reply:
        """Put the call on record and do what it wants."""
        self._calls.append(call)
        reply = self.reply_to(call)
        if self._log is not None:
            self._log.write(_log_line(call, reply))
        return reply

    def reply_to(self, call: Call) -> Reply:
        """What CRM Text answers; the customer is changed when this returns."""
        if call.path.partition("?")[0] != PATH:
            return Reply(404, b"<html><h1>Not Found</h1></html>", _HTML)
        if call.verb != "POST":
            return Reply(405, b"<html><h1>Use POST</h1></html>", {"Allow": "POST", **_HTML})
        if not call.store:
            return replace(_UNAUTHORIZED, body=xml("401", "Unauthorized", call.method))
        if call.method not in _METHODS:
            return Reply(body=xml("400", "Unknown method", call.method))
        if not re.fullmatch("[0-9]{10}", call.phone_number):
            return Reply(body=xml("400", "Invalid phone_number", call.method))
        with self._lock:
            return _METHODS[call.method](self, call)

    def _opt_out(self, call: Call) -> Reply:
        key = (call.store, call.phone_number)
        magic = MAGIC_NUMBERS.get(call.phone_number)
        if magic is None or self._troubles[key] >= magic.times:
            return self._usual_opt_out(call)
        self._troubles[key] += 1
        body = self._usual_opt_out(call).body if magic.acts else b""
        return replace(magic.reply, body=magic.reply.body or body)

    def _usual_opt_out(self, call: Call) -> Reply:
        key = (call.store, call.phone_number)
        customer = self._customers.get(key, _Customer())
        if customer.status == "5":
            return _says("400", "Customer is Opted-Out")
        self._customers[key] = replace(customer, status="5", changed=_now())
        return self._look_up(call)

    def _opt_in(self, call: Call) -> Reply:
        name = f"{call.form.get('firstname', '')} {call.form.get('lastname', '')}".strip()
        self._customers[(call.store, call.phone_number)] = _Customer(name, "3", _now())
        self._troubles.pop((call.store, call.phone_number), None)
        return self._look_up(call)

    def _look_up(self, call: Call) -> Reply:
        customer = self._customers.get((call.store, call.phone_number), _Customer())
        fields = {
            "custId": str(10**12 + crc32(call.phone_number.encode())),
            "subacct": str(100 + crc32(call.store.encode()) % 900),
            "timestamp": customer.changed,
            "optinStatus": customer.status,
            "custName": customer.name,
            "custMobile": call.phone_number,
        }
        if call.method == "getcustomerinfo":
            fields["totalMsg"] = "0"
        return Reply(body=xml(op=call.method, **fields))


_METHODS: Mapping[str, Callable[[Sandbox, Call], Reply]] = {
    "optoutcustomer": Sandbox._opt_out,
    "optincustomer": Sandbox._opt_in,
    "getcustomerinfo": Sandbox._look_up,
}


def _now() -> str:
    return datetime.now(ZoneInfo("America/Los_Angeles")).strftime("%Y-%m-%d %H:%M:%S")


def _log_line(call: Call, reply: Reply) -> bytes:
    status = re.search(rb'status= ?"(\d+)"', reply.body)
    line = {
        "method": call.method if call.method in _METHODS else None,
        "store": call.store,
        "phone_number": "******" + call.phone_number[-4:],
        "http_status": None if reply.reset or reply.cut == 0 else reply.status,
        "status": status and status[1].decode(),
    }
    return json.dumps(line).encode() + b"\n"


def _store(authorization: str) -> str:
    """The store that a Basic header is for, in upper case; "" if the login is no good."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        auth_string = base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        return ""
    login, _, keyword = auth_string.rpartition(":")
    known = re.fullmatch("[^:]+:(?!wrong$).+", login)
    good = scheme.lower() == "basic" and known and _KEYWORD.fullmatch(keyword)
    return keyword.upper() if good else ""


class _Connection(BaseHTTPRequestHandler):
    """One connection: reads calls, and writes the replies byte for byte."""

    server: Sandbox
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.number = self.server.opened(self.connection)

    def finish(self) -> None:
        self.server.closed(self.connection)
        super().finish()

    def do_POST(self) -> None:
        self._send(self.server.answer(self._call()))

    do_GET = do_POST  # noqa: N815 - the name that http.server looks for

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: http.server would write the path to standard error."""

    def _call(self) -> Call:
        length = self.headers.get("Content-Length", "")
        body = self.rfile.read(int(length) if length.isdecimal() else 0)
        form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        authorization = self.headers.get("Authorization", "")
        return Call(
            received_at=time.monotonic(),
            connection=self.number,
            verb=self.command,
            path=self.path,
            authorization=authorization,
            store=_store(authorization),
            method=form.get("method", ""),
            phone_number=form.get("phone_number", ""),
            form=form,
        )

    def _send(self, reply: Reply) -> None:
        self.close_connection |= reply.reset or reply.cut is not None
        for seconds, piece in reply.pieces():
            if self.server.stopping.wait(seconds):
                self.close_connection = True
                return
            self.wfile.write(piece)
        if reply.reset:
            self._reset()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # closed here, since http.server would say goodbye first; the file keeps the socket open
        self.rfile.close()
        self.connection.close()
