"""gunicorn's threaded worker, in which clients that are slow hold no threads.

A thread gets a connection when a whole request has come in. Until then the main loop collects it,
as much of it as there is room for.
"""

import errno
import re
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from selectors import EVENT_READ
from typing import Any, cast

from gunicorn.http.errors import InvalidHeader, InvalidHTTPVersion
from gunicorn.util import write_error
from gunicorn.workers.gthread import TConn, ThreadWorker

from gateway.errors import ErrorCode
from gateway.web.clients import BodyToAskFor, Client, RefusedBody, WaitingThreads

# Where another program reads such a number as octal, the two disagree where the body ends.
_PADDED = re.compile("0[0-9]")
# Of an answer, kept by the system for each client: more than any answer but those of the docs page.
_MOST_UNREAD = 256 * 1024
_NOTHING_LEFT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_NO_CONNECTION = {errno.EAGAIN, errno.ECONNABORTED, errno.EINTR}
_SECONDS_TO_CLOSE = 2.0
# Most requests arrive at once, and most clients close at once.
_SECONDS_UNDISTURBED = 0.5
_SECONDS_BETWEEN_LOOKS = 0.25

_NO_ROOM = "Too many requests with a body are arriving. Nothing was accepted; send it again."
_SEVERAL_KEYS = "There are several Idempotency-Key headers; send one."


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
        self._waiting = WaitingThreads(max(1, self.cfg.threads // 8))

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
        conn.sock = cast(socket.socket, Client(sock, self._waiting))
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
            req.body.reader = RefusedBody(ErrorCode.GATEWAY_BUSY, _NO_ROOM)
        elif sum(name == "IDEMPOTENCY-KEY" for name, _ in req.headers) > 1:
            # The application gets them joined, which is a key of its own.
            req.force_close()
            req._expected_100_continue = False
            req.body.reader = RefusedBody(ErrorCode.INVALID_REQUEST, _SEVERAL_KEYS)
        elif req._expected_100_continue:
            req.body.reader = BodyToAskFor(req, conn.sock)
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
