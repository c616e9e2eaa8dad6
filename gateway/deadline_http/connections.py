"""Connections whose every step has a deadline: name look-up, connecting, TLS, sending, receiving.

A socket's own timeout is for each step, so a server that sends a byte a second is never late.
"""

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from urllib3.util.ssltransport import SSLTransport

# More than a TLS record holds: none is left half read, where poll does not see it.
_PIECE = 64 * 1024
# A connection that a firewall has forgotten would swallow the next call: notice it while it idles.
_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
)

T = TypeVar("T")
_Addresses = Sequence[tuple[int, int, int, str, tuple[object, ...]]]


class Deadline:
    """The moment at which a call has to have ended."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then, more than none; raises TimeoutError when it has passed."""
        seconds = self._ends_at - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the deadline has passed")
        return seconds


class Connection:
    """An open connection; what is sent and received on it raises OSError, late TimeoutError.

    Its socket does not block, and is waited for only where that is needed: each step that a
    blocking socket with a timeout takes besides gives the interpreter's lock away once more.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self._socket: socket.socket | SSLTransport = sock

    def encrypt(self, tls: ssl.SSLContext, host: str, deadline: Deadline) -> None:
        """Shake hands; inside the TLS of a proxy, if need be."""
        self._socket.settimeout(deadline.left())
        if isinstance(self._socket, ssl.SSLSocket):
            self._socket = SSLTransport(self._socket, tls, host)  # knows nothing but blocking
        elif isinstance(self._socket, socket.socket):
            self._socket = tls.wrap_socket(self._socket, server_hostname=host)
            self._socket.settimeout(0)

    def send(self, data: bytes, deadline: Deadline) -> None:
        while data:
            try:
                data = data[self._socket.send(data) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT, deadline)

    def receive(self, deadline: Deadline) -> bytes:
        """What has come, at least a byte; none once the other side has closed the connection."""
        while True:
            self._wait(select.POLLIN, deadline)
            try:
                return bytes(self._socket.recv(_PIECE))
            except (BlockingIOError, ssl.SSLWantReadError):
                pass  # a part of a TLS record, say

    def is_silent(self) -> bool:
        """Whether it is still open and nothing unasked has come. Of TLS in TLS one cannot know."""
        return isinstance(self._socket, socket.socket) and not self._is_ready(select.POLLIN, 0)

    def close(self) -> None:
        self._socket.close()

    def _wait(self, event: int, deadline: Deadline) -> None:
        if isinstance(self._socket, SSLTransport):
            self._socket.settimeout(deadline.left())
        elif not self._is_ready(event, deadline.left()):
            raise TimeoutError("the deadline has passed")

    def _is_ready(self, event: int, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, event)
        return bool(poll.poll(seconds * 1000))


class Host:
    """A host and port that connections are opened to."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self._port = port
        self._lock = threading.Lock()
        self._look_up: Future[_Addresses] | None = None

    def connect(self, deadline: Deadline) -> Connection:
        """Try one address after the other, so that a dead one leaves time for the rest."""
        addresses = self._addresses(deadline)
        for untried in range(len(addresses), 0, -1):
            family, kind, protocol, _, address = addresses[-untried]
            sock = socket.socket(family, kind, protocol)
            try:
                for option in _OPTIONS:
                    sock.setsockopt(*option)
                sock.settimeout(deadline.left() / untried)
                sock.connect(address)
            except OSError:
                sock.close()
                if untried == 1:
                    raise
            else:
                return Connection(sock)
        raise OSError(f"{self.name} has no address")

    def _addresses(self, deadline: Deadline) -> _Addresses:
        """The system's resolver has no time limit: it runs in a thread, one for all who wait."""
        with self._lock:
            if self._look_up is None or self._look_up.done():
                self._look_up = _in_a_thread(self._resolve)
            look_up = self._look_up
        return look_up.result(deadline.left())

    def _resolve(self) -> _Addresses:
        try:
            return socket.getaddrinfo(self.name, self._port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise OSError(f"{self.name} is not a host name") from None


def _in_a_thread(function: Callable[[], T]) -> "Future[T]":
    """Not an executor's thread, for which the process would wait at its end."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except OSError as error:
            future.set_exception(error)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError as error:
        raise OSError("no more threads") from error
    return future
