"""gunicorn's threaded worker, with a bound on the time that a client may take for its request."""

import errno
import socket
import time
from typing import Any, cast

from gunicorn.workers.gthread import TConn, ThreadWorker

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
