"""Clients as the server sees them: what they have sent so far, and who waits for them."""

import errno
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any, cast

from gateway.bodies import LARGEST_REQUEST, LARGEST_WEBHOOK
from gateway.errors import ErrorCode, GatewayError

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_HAS_CHUNKS = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_WAITS_TO_BE_ASKED = re.compile(rb"\r\nexpect:", re.IGNORECASE)
_IS_WEBHOOK = re.compile(rb"[A-Z]+ /v1/webhooks/")
_END_OF_HEAD = b"\r\n\r\n"
_AT_ONCE = 64 * 1024
_MOST_COLLECTED = 1024 * 1024 + _AT_ONCE  # the largest webhook message with its head
_SECONDS_TO_TAKE_AN_ANSWER = 15.0


class WaitingThreads:
    """The threads that wait for a client. Where there are too many, the first does not go on.

    They are few in normal operation: those of clients that are told to send their body, of bodies
    over 1 MiB, and of answers that do not fit into the system's buffers.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._clients: dict[socket.socket, None] = {}
        self._lock = Lock()

    def wait(self, sock: socket.socket, seconds: float, call: Callable[[], Any]) -> Any:
        with self._lock:
            if len(self._clients) >= self._most:
                oldest = next(iter(self._clients))
                del self._clients[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
            self._clients[sock] = None
        try:
            sock.settimeout(max(seconds, 0.001))
            return call()
        except TimeoutError as error:
            # gunicorn takes a reset for what it is and logs no traceback for it
            raise ConnectionResetError(errno.ECONNRESET, "the client was too slow") from error
        finally:
            with self._lock:
                self._clients.pop(sock, None)


class Client:
    """A client's socket, with what was collected of its request before a thread reads it."""

    def __init__(self, sock: socket.socket, waiting: WaitingThreads) -> None:
        self._sock = sock
        self._waiting = waiting
        self._collected = bytearray()
        self._is_at_end = False
        self._discarded = 0
        self.bytes_taken = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def begin_request(self, seconds_for_head: float, seconds: float) -> None:
        self.began_at = time.monotonic()
        self._ends_at = self.began_at + seconds
        self._head_ends_at = min(self.began_at + seconds_for_head, self._ends_at)
        self._size: int | None = None  # of head and body, as far as they are waited for
        self._end_of_head = 0
        self.has_no_room = False

    @property
    def ends_at(self) -> float:
        return self._ends_at if self.has_head else self._head_ends_at

    @property
    def has_head(self) -> bool:
        return self._end_of_head > 0

    @property
    def has_more(self) -> bool:
        """Whether the next request has begun already."""
        return bool(self._collected)

    def take(self) -> bool:
        """Takes what has come, without waiting. Whether a thread should read the request now."""
        try:
            data = self._sock.recv(_AT_ONCE)
        except BlockingIOError:
            data = None
        if data:
            self._collected += data
            self.bytes_taken += len(data)
        elif data == b"":
            if not self._collected:
                raise ConnectionResetError(errno.ECONNRESET, "the client closed the connection")
            self._is_at_end = True
        return self._is_at_end or self._is_whole()

    def hurry(self, seconds: float) -> None:
        """Waits no longer than that for the rest of the request."""
        self._ends_at = min(self._ends_at, time.monotonic() + seconds)

    def give_up_body(self) -> int:
        """Forgets the body; how many bytes that are."""
        forgotten = len(self._collected) - self._end_of_head
        del self._collected[self._end_of_head :]
        self.bytes_taken -= forgotten
        self.has_no_room = True
        return forgotten

    def discard(self) -> bool:
        """Forgets what still comes; whether there may be more."""
        data = self._sock.recv(_AT_ONCE)
        self._discarded += len(data)
        return bool(data) and self._discarded < _MOST_COLLECTED

    def recv(self, size: int) -> bytes:
        size = min(size, _AT_ONCE)  # gunicorn asks for 1 MiB, and keeps what nobody reads of it
        if self._collected:
            data = bytes(self._collected[:size])
            del self._collected[:size]
            return data
        if self._is_at_end:
            return b""
        self._sock.settimeout(0)
        try:
            return self._sock.recv(size)
        except BlockingIOError:
            seconds = self._ends_at - time.monotonic()
            data = self._waiting.wait(self._sock, seconds, lambda: self._sock.recv(size))
            return cast(bytes, data)

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(0)
        sent = 0
        with suppress(BlockingIOError):
            sent = self._sock.send(data)
        if sent < len(data):
            rest = memoryview(data)[sent:]
            seconds = _SECONDS_TO_TAKE_AN_ANSWER
            self._waiting.wait(self._sock, seconds, lambda: self._sock.sendall(rest))

    def _is_whole(self) -> bool:
        collected = self._collected
        if not self._end_of_head:
            end = collected.find(_END_OF_HEAD)
            if end < 0:
                # A line that ends in another way is refused by gunicorn.
                is_wrong = collected.count(b"\n") != collected.count(b"\r\n")
                return is_wrong or len(collected) > _AT_ONCE
            self._end_of_head = end + len(_END_OF_HEAD)
            self._size = self._size_to_collect(bytes(collected[: self._end_of_head]))
        if self._size is None:  # the last chunk, or something that looks like it
            return (
                collected.find(_END_OF_HEAD, self._end_of_head) >= 0
                or len(collected) > _MOST_COLLECTED
            )
        return len(collected) >= self._size

    def _size_to_collect(self, head: bytes) -> int | None:
        """None: it is not known where the body ends."""
        if _WAITS_TO_BE_ASKED.search(head):
            return self._end_of_head
        if _HAS_CHUNKS.search(head):
            return None
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        # What is too large is refused at once, without its body.
        most = LARGEST_WEBHOOK if _IS_WEBHOOK.match(head) else LARGEST_REQUEST
        return self._end_of_head + (size if size <= most else 0)


class BodyToAskFor:
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


class RefusedBody:
    """The body of a request that the application refuses as soon as it reads it."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        self._code, self._detail = code, detail

    def read(self, _: int) -> bytes:
        raise GatewayError(self._code, self._detail)
