"""One request and its answer on a connection. HTTP is read by h11, which is strict about framing
and knows what is left over behind an answer.
"""

import zlib

import h11

from gateway.deadline_http.connections import Connection, Deadline

_LARGEST_BODY = 1024 * 1024


class NotHttp(Exception):
    """What came back is not HTTP, or was cut short before the end of its head."""


class HttpAnswer:
    """An answer; its ``body`` is whole unless there is a ``flaw``, which completes a sentence."""

    def __init__(self, head: h11.Response) -> None:
        self.status = head.status_code
        self.headers = {name.decode(): text.decode("latin-1") for name, text in head.headers}
        self.body = b""
        self.flaw: str | None = None
        self.is_trusted = False

    def trust(self) -> None:
        """Say that it is the answer to what was asked, so that its connection may be kept."""
        self.is_trusted = True


class Exchange:
    """A connection with a request on its way; closed by whatever is raised."""

    def __init__(self, connection: Connection, deadline: Deadline) -> None:
        self.connection = connection
        self._deadline = deadline
        self._http = h11.Connection(h11.CLIENT)
        self._has_begun = False

    @property
    def is_complete(self) -> bool:
        """Whether the answer was read to its end, nothing came after it, and nobody hangs up."""
        is_done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        return is_done and self._http.trailing_data == (b"", False)

    def answer_to(self, request: h11.Request, body: bytes) -> HttpAnswer:
        """Raises TimeoutError or NotHttp, and another OSError only before a byte of the answer."""
        try:
            answer = HttpAnswer(self.head_for(request, body))
            self._read_body(answer)
        except BaseException:
            self.connection.close()
            raise
        return answer

    def head_for(self, request: h11.Request, body: bytes = b"") -> h11.Response:
        events = (request, h11.Data(body), h11.EndOfMessage())
        sent = b"".join(self._http.send(event) or b"" for event in events)
        self.connection.send(sent, self._deadline)
        try:
            head = self._next_event()
        except h11.RemoteProtocolError as error:
            raise NotHttp from error
        if not isinstance(head, h11.Response) or head.http_version not in (b"1.0", b"1.1"):
            raise NotHttp
        return head

    def _read_body(self, answer: HttpAnswer) -> None:
        try:
            body = self._body()
            answer.body = _unpacked(body, answer.headers.get("content-encoding", ""))
        except (h11.RemoteProtocolError, zlib.error):
            answer.flaw = "was cut short or is garbled"
        if len(answer.body) > _LARGEST_BODY:
            answer.flaw = "is larger than 1 MiB"

    def _body(self) -> bytes:
        """The whole body, or so much of it that it is too large."""
        body = bytearray()
        while len(body) <= _LARGEST_BODY and isinstance(event := self._next_event(), h11.Data):
            body += event.data
        return bytes(body)

    def _next_event(self) -> object:
        """Passes over interim answers; 101 is not one, and h11 refuses it."""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(self._receive())
            elif not isinstance(event, h11.InformationalResponse):
                return event

    def _receive(self) -> bytes:
        """Once the answer has begun, a lost connection is its end; its length or XML tells more."""
        try:
            received = self.connection.receive(self._deadline)
        except TimeoutError:
            raise
        except OSError:
            if not self._has_begun:
                raise
            return b""
        if not received and not self._has_begun:
            raise ConnectionError("closed without an answer")
        self._has_begun = True
        return received


def _unpacked(body: bytes, encoding: str) -> bytes:
    """Compression was not asked for, but some proxies compress all the same."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return body
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)  # tells gzip from zlib by itself
    unpacked = unpacking.decompress(body, _LARGEST_BODY + 1)
    if not unpacking.eof and len(unpacked) <= _LARGEST_BODY:
        raise zlib.error("cut short")
    return unpacked
