"""gunicorn's threaded worker, with a bound on the time that a client may take for its request."""

import errno
import re
import socket
import time
from typing import Any, cast

from gunicorn.http.errors import InvalidHeader, InvalidHTTPVersion
from gunicorn.util import write_error
from gunicorn.workers.gthread import TConn, ThreadWorker

# Where another program reads such a number as octal, the two disagree where the body ends.
_PADDED = re.compile("0[0-9]")
_SECONDS_TO_TAKE_AN_ANSWER = 15.0


class DeadlineWorker(ThreadWorker):
    """Cuts connections whose request does not arrive in time."""

    # For headers and body together. A client on a bad line sends 1 MiB in it; one that sends a byte
    # at a time would otherwise hold its thread forever.
    seconds_to_send_a_request = 15.0

    def handle(self, conn: TConn) -> Any:
        sock: Any = conn.sock
        if isinstance(sock, _DeadlineSocket):
            sock.begin_request()
        else:
            conn.sock = cast(socket.socket, _DeadlineSocket(sock, self.seconds_to_send_a_request))
        return super().handle(conn)

    def handle_request(self, req: Any, conn: TConn) -> Any:
        if req.version not in ((1, 0), (1, 1)):
            raise InvalidHTTPVersion(req.version)
        if any(name == "CONTENT-LENGTH" and _PADDED.match(text) for name, text in req.headers):
            raise InvalidHeader("CONTENT-LENGTH", req=req)
        if req._expected_100_continue:
            req.body.reader = _BodyToAskFor(req, conn.sock)
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Like gunicorn's, but with the status that other versions of HTTP have."""
        if isinstance(exc, InvalidHTTPVersion) and isinstance(exc.version, tuple):
            write_error(client, 505, "HTTP Version Not Supported", "")
        else:
            super().handle_error(req, client, addr, exc)


class _BodyToAskFor:
    """The body of a client that waits until it is told to send it (``Expect: 100-continue``).

    gunicorn tells it so at once. Here it is told when the application begins to read, so that a
    request that is refused by its head never sends a body. Nobody knows then whether the client
    will, so the connection is closed.
    """

    def __init__(self, req: Any, sock: socket.socket) -> None:
        self._req, self._sock, self._reader = req, sock, req.body.reader
        self._must_close = req.must_close
        req._expected_100_continue = False
        req.must_close = True

    def read(self, size: int) -> Any:
        if self._req.body.reader is self:
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._req.must_close = self._must_close
            self._req.body.reader = self._reader
        return self._reader.read(size)


class _DeadlineSocket:
    """A client's socket that is reset when the time for its request is used up."""

    def __init__(self, sock: socket.socket, seconds_to_send_a_request: float) -> None:
        self._sock = sock
        self._seconds = seconds_to_send_a_request
        self.begin_request()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def begin_request(self) -> None:
        self._ends_at = time.monotonic() + self._seconds

    def recv(self, *arguments: int) -> bytes:
        remaining = self._ends_at - time.monotonic()
        if remaining <= 0:
            raise _too_slow()
        self._sock.settimeout(remaining)
        try:
            return self._sock.recv(*arguments)
        except TimeoutError as error:
            raise _too_slow() from error

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(_SECONDS_TO_TAKE_AN_ANSWER)
        try:
            self._sock.sendall(data)
        except TimeoutError as error:
            raise _too_slow() from error


def _too_slow() -> ConnectionResetError:
    # gunicorn takes a reset for what it is and logs no traceback for it
    return ConnectionResetError(errno.ECONNRESET, "the client was too slow")
