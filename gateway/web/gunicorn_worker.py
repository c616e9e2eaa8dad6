"""gunicorn's threaded worker, in which clients that are slow hold no threads.

A thread gets a connection when a whole request has come in. Until then the main loop collects it,
as much of it as there is room for.
"""

import errno
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from threading import Lock
from typing import Any, cast

from gunicorn.http.errors import InvalidHeader, InvalidHTTPVersion
from gunicorn.util import write_error
from gunicorn.workers.gthread import TConn, ThreadWorker

from gateway.errors import ErrorCode, GatewayError

# Where another program reads such a number as octal, the two disagree where the body ends.
_PADDED = re.compile("0[0-9]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_HAS_CHUNKS = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_WAITS_TO_BE_ASKED = re.compile(rb"\r\nexpect:", re.IGNORECASE)
_END_OF_HEAD = b"\r\n\r\n"
_AT_ONCE = 64 * 1024
_MOST_COLLECTED = 1024 * 1024 + _AT_ONCE  # the largest webhook message with its head
# Of an answer, kept by the system for each client: more than any answer but those of the docs page.
_MOST_UNREAD = 256 * 1024
_NOTHING_LEFT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_NO_CONNECTION = {errno.EAGAIN, errno.ECONNABORTED, errno.EINTR}
_SECONDS_TO_TAKE_AN_ANSWER = 15.0
_SECONDS_TO_CLOSE = 2.0
# Most requests arrive at once, and most clients close at once.
_SECONDS_UNDISTURBED = 0.5
_SECONDS_BETWEEN_LOOKS = 0.25


class DeadlineWorker(ThreadWorker):
    """Cuts connections whose request does not arrive in time, and makes room for new ones."""

    # For headers and body together. A client on a bad line sends 1 MiB in it.
    seconds_to_send_a_request = 15.0
    seconds_to_send_a_head = 10.0
    # Of requests that are collected or answered. While one is answered there are some copies of it.
    most_bytes_held = 16 * 1024 * 1024

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        # In the order in which they began.
        self._arriving: dict[TConn, None] = {}
        self._closing: dict[TConn, float] = {}
        self._bytes_held = 0
        self._looks_again_at = 0.0
        self._waiting = _WaitingThreads(max(1, self.cfg.threads // 8))

    def get_thread_pool(self) -> ThreadPoolExecutor:
        return _Threads(max_workers=self.cfg.threads)

    def accept(self, listener: socket.socket) -> None:
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno in _NOTHING_LEFT:
                self._make_room()
                time.sleep(0.05)  # the next connection waits in the backlog
            elif error.errno not in _NO_CONNECTION:
                raise
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_UNREAD)
        self.nr_conns += 1
        conn = TConn(self.cfg, sock, address, listener.getsockname())
        conn.sock = cast(socket.socket, _Client(sock, self._waiting))
        conn.data_ready = True  # nobody waits for it in a thread
        self._collect(conn)

    def on_client_socket_readable(self, conn: TConn, client: Any) -> None:
        if conn in self.keepalived_conns:  # else it was dropped after the poller saw it
            self.poller.unregister(client)
            self.keepalived_conns.remove(conn)
            self._collect(conn)

    def finish_request(self, conn: TConn, fs: "Future[Any]") -> None:
        client: Any = conn.sock
        self._bytes_held -= client.bytes_taken
        client.bytes_taken = 0
        if fs.cancelled() or fs.exception() or not fs.result():
            self._close(conn)
        elif client.has_more and not cast(Any, conn.parser).unreader.buf.getvalue():
            self._collect(conn)
        else:
            client.begin_request(self.seconds_to_send_a_head, self.seconds_to_send_a_request)
            super().finish_request(conn, fs)

    def enqueue_req(self, conn: TConn) -> None:
        try:
            super().enqueue_req(conn)
        except RuntimeError:  # not a single thread can be started
            self._end(conn)

    def wait_for_and_dispatch_events(self, timeout: Any) -> None:
        super().wait_for_and_dispatch_events(min(timeout, _SECONDS_BETWEEN_LOOKS))

    def murder_pending(self) -> None:
        """Called by the loop again and again: keeps room for one more, and cuts who is late."""
        if self.nr_conns >= self.worker_connections:
            self._make_room()
        now = time.monotonic()
        if now < self._looks_again_at:
            return
        self._looks_again_at = now + _SECONDS_BETWEEN_LOOKS
        for conn in list(self._arriving):
            client: Any = conn.sock
            is_idle = not self.alive and now > client.began_at + _SECONDS_TO_CLOSE
            if now > client.ends_at or (is_idle and not client.bytes_taken):
                self._drop(conn, self._arriving)
        for conn in [conn for conn, ends_at in self._closing.items() if now > ends_at]:
            self._drop(conn, self._closing)

    def handle_request(self, req: Any, conn: TConn) -> Any:
        if req.version not in ((1, 0), (1, 1)):
            raise InvalidHTTPVersion(req.version)
        if any(name == "CONTENT-LENGTH" and _PADDED.match(text) for name, text in req.headers):
            raise InvalidHeader("CONTENT-LENGTH", req=req)
        client: Any = conn.sock
        if client.has_no_room:
            req.force_close()
            req._expected_100_continue = False
            req.body.reader = _BodyWithoutRoom()
        elif req._expected_100_continue:
            req.body.reader = _BodyToAskFor(req, conn.sock)
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Like gunicorn's, but with the status that other versions of HTTP have."""
        if isinstance(exc, InvalidHTTPVersion) and isinstance(exc.version, tuple):
            write_error(client, 505, "HTTP Version Not Supported", "")
        else:
            super().handle_error(req, client, addr, exc)

    def _collect(self, conn: TConn) -> None:
        """Waits for a whole request without a thread."""
        client: Any = conn.sock
        client.begin_request(self.seconds_to_send_a_head, self.seconds_to_send_a_request)
        client.settimeout(0)
        self._arriving[conn] = None
        self.poller.register(client, EVENT_READ, partial(self._take, conn))
        self._take(conn, client)  # most requests are there already

    def _take(self, conn: TConn, client: Any) -> None:
        if conn not in self._arriving:  # it was dropped after the poller saw it
            return
        before = client.bytes_taken
        try:
            is_whole = client.take()
        except OSError:
            self._drop(conn, self._arriving)
            return
        self._bytes_held += client.bytes_taken - before
        while self._has_too_much(conn):
            self._refuse_the_oldest_body()
        if is_whole and conn in self._arriving:
            self._hand_over(conn)

    def _has_too_much(self, conn: TConn) -> bool:
        has_some = conn in self._arriving and cast(Any, conn.sock).bytes_taken > 0
        return has_some and self._bytes_held > self.most_bytes_held

    def _hand_over(self, conn: TConn) -> None:
        self.poller.unregister(conn.sock)
        del self._arriving[conn]
        self.enqueue_req(conn)

    def _refuse_the_oldest_body(self) -> None:
        """Answers gateway_busy to the request with a body that has been arriving for longest."""
        conn = next(conn for conn in self._arriving if cast(Any, conn.sock).bytes_taken)
        client: Any = conn.sock
        self._bytes_held -= client.give_up_body()
        if client.has_head:
            self._hand_over(conn)
        else:
            self._drop(conn, self._arriving)

    def _make_room(self) -> None:
        """Drops who has been sending or closing for longest, or else a kept connection."""
        long_ago = time.monotonic() - _SECONDS_UNDISTURBED
        arriving, closing = next(iter(self._arriving), None), next(iter(self._closing), None)
        if closing and self._closing[closing] < long_ago + _SECONDS_TO_CLOSE:
            self._drop(closing, self._closing)
        elif arriving and cast(Any, arriving.sock).began_at < long_ago:
            self._drop(arriving, self._arriving)
        elif self.keepalived_conns and not self._is_recent(self.keepalived_conns[0], long_ago):
            conn = self.keepalived_conns.popleft()
            self.poller.unregister(conn.sock)
            self._end(conn)

    def _is_recent(self, kept: TConn, long_ago: float) -> bool:
        return kept.timeout is not None and kept.timeout - self.cfg.keepalive > long_ago

    def _close(self, conn: TConn) -> None:
        """Waits, without a thread, until the client has read its answer and closes too."""
        client: Any = conn.sock
        try:
            client.shutdown(socket.SHUT_WR)
            client.settimeout(0)
        except OSError:
            self._end(conn)
        else:
            self._closing[conn] = time.monotonic() + _SECONDS_TO_CLOSE
            self.poller.register(client, EVENT_READ, partial(self._discard, conn))

    def _discard(self, conn: TConn, client: Any) -> None:
        if conn not in self._closing:  # it was dropped after the poller saw it
            return
        try:
            is_open = client.discard()
        except BlockingIOError:
            return
        except OSError:
            is_open = False
        if not is_open:
            self._drop(conn, self._closing)

    def _drop(self, conn: TConn, from_: dict[TConn, Any]) -> None:
        del from_[conn]
        self.poller.unregister(conn.sock)
        self._end(conn)

    def _end(self, conn: TConn) -> None:
        self._bytes_held -= cast(Any, conn.sock).bytes_taken
        self.nr_conns -= 1
        conn.close()


class _Threads(ThreadPoolExecutor):
    """Makes do with fewer threads where the system allows no more."""

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise


class _WaitingThreads:
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


class _Client:
    """A client's socket, with what was collected of its request before a thread reads it."""

    def __init__(self, sock: socket.socket, waiting: _WaitingThreads) -> None:
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
        size = self._end_of_head + (int(length[1]) if length else 0)
        return size if size <= _MOST_COLLECTED else self._end_of_head


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


class _BodyWithoutRoom:
    """A body that was forgotten because too many were held."""

    def read(self, _: int) -> bytes:
        what = "Too many requests with a body are arriving. Nothing was accepted; send it again."
        raise GatewayError(ErrorCode.GATEWAY_BUSY, what)
