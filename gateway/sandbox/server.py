"""A CRM Text to try everything against, over real HTTP; ``python -m gateway.sandbox --help``."""

import base64
import json
import re
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import FileIO
from itertools import count
from typing import Self
from urllib.parse import parse_qsl

from gateway.sandbox.calls import HTML, UNAUTHORIZED, Call, Reply, xml
from gateway.sandbox.customers import METHODS, Customers

PATH = "/smapi/rest"
_KEYWORD = re.compile(r"(?![0-9]+$)\S{4,19}")


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
        self._customers = Customers()

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
        path = call.path.partition("?")[0]
        if (call.verb, path) == ("POST", "/reset"):
            self._customers.forget()
            path = "/customers"
        if path == "/customers":
            held = json.dumps({"items": self._customers.changed()}, indent=2) + "\n"
            return Reply(body=held.encode(), headers={"Content-Type": "application/json"})
        if path != PATH:
            return Reply(404, b"<html><h1>Not Found</h1></html>", HTML)
        if call.verb != "POST":
            return Reply(405, b"<html><h1>Use POST</h1></html>", {"Allow": "POST", **HTML})
        if not call.store:
            return replace(UNAUTHORIZED, body=xml("401", "Unauthorized", call.method))
        return self._customers.answer(call)


def _log_line(call: Call, reply: Reply) -> bytes:
    status = re.search(rb'status= ?"(\d+)"', reply.body)
    line = {
        "method": call.method if call.method in METHODS else None,
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
