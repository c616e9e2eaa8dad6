"""HTTP to a server that may be slow, or say more than it was asked.

One deadline covers a whole call, and nobody hears the answer to another call: interim answers are
passed over, and a connection is closed after each call unless whoever judged the answer trusts it.
"""

import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from gateway.deadline_http.connections import Connection, Deadline
from gateway.deadline_http.exchange import Exchange, HttpAnswer
from gateway.deadline_http.route import Route


class DeadlineHttp:
    """Posts to one address, over kept connections that all threads share."""

    def __init__(self, url: str, seconds: float) -> None:
        """``seconds`` is for a whole call. Proxies and CA files come from the environment."""
        self._route = Route(url)
        self._seconds = seconds
        self._idle: deque[Connection] = deque()
        weakref.finalize(self, _close, self._idle).atexit = False

    @contextmanager
    def post(self, headers: Mapping[str, str], body: bytes) -> Iterator[HttpAnswer]:
        """The answer, a redirect too; its connection is closed after the block unless trusted.

        Raises TimeoutError without a complete answer in time, another OSError without a connection
        or if it is lost before a byte of the answer, and NotHttp.
        """
        exchange, answer = self._ask(headers, body)
        try:
            yield answer
        finally:
            if answer.is_trusted and exchange.is_complete:
                self._idle.append(exchange.connection)
            else:
                exchange.connection.close()

    def _ask(self, headers: Mapping[str, str], body: bytes) -> tuple[Exchange, HttpAnswer]:
        """Once more on a new connection where a kept one turns out to be closed."""
        deadline = Deadline(self._seconds)
        request = self._route.request(headers, body)
        kept = self._take_idle()
        if kept:
            exchange = Exchange(kept, deadline)
            try:
                return exchange, exchange.answer_to(request, body)
            except TimeoutError:
                raise
            except OSError:  # raised only before a byte of the answer
                kept.close()
        exchange = Exchange(self._route.connect(deadline), deadline)
        return exchange, exchange.answer_to(request, body)

    def _take_idle(self) -> Connection | None:
        """A kept connection in which nothing unasked has arrived.

        What arrives between this look and the request cannot be told from its answer, whatever one
        does. So the look comes last, and only after a trusted answer is a connection kept at all.
        """
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.is_silent():
                return connection
            connection.close()


def _close(connections: Iterable[Connection]) -> None:
    for connection in connections:
        connection.close()
