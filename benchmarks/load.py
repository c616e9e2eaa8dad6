"""A load generator that costs little: ``python -m benchmarks.load JSON``.

One thread, raw sockets that are kept, N callers that each send the next request when they have
their answer. It stands in a process of its own, and tells what CPU it used itself.
"""

import json
import selectors
import socket
import ssl
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Load:
    """What to send: ``NUMBER`` in the body becomes another phone number each time."""

    url: str
    body: str
    headers: dict[str, str] = field(default_factory=dict)
    callers: int = 1
    seconds: float = 2.0
    requests: int = 0  # not 0: so many, however long that takes


@dataclass(frozen=True)
class Measured:
    """What came of it; latencies in milliseconds."""

    answers: dict[str, int]  # by HTTP status
    per_second: float
    p50: float
    p99: float
    cpu: float  # the generator's own, in ms for a request

    @property
    def count(self) -> int:
        return sum(self.answers.values())


class _Caller:
    def __init__(self, load: Load, tls: ssl.SSLContext | None) -> None:
        url = urlsplit(load.url)
        self._address = (url.hostname or "", url.port or 80)
        self._tls = tls
        headers = {"Host": url.netloc, "Content-Type": "application/json"} | load.headers
        lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
        self._head = f"POST {url.path} HTTP/1.1\r\n{lines}Content-Length: %d\r\n\r\n"
        self._body = load.body
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        made = socket.create_connection(self._address)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._tls.wrap_socket(made, server_hostname=self._address[0]) if self._tls else made

    def send(self, number: int) -> None:
        body = self._body.replace("NUMBER", str(number))
        self.started_at = time.perf_counter()
        self.received = b""
        if self.socket.fileno() < 0:  # as with servers that hang up after each answer
            self.socket = self._connect()
        self.socket.settimeout(None)
        self.socket.sendall((self._head % len(body) + body).encode())
        self.socket.settimeout(0)

    def receive(self) -> str | None:
        """The answer's HTTP status when all of it is here."""
        try:
            piece = self.socket.recv(65536)
        except (ssl.SSLWantReadError, BlockingIOError):
            return None
        except ConnectionError:
            piece = b""
        self.received += piece
        head, _, body = self.received.partition(b"\r\n\r\n")
        lower = head.lower()
        length = lower.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        if piece and not (length and len(body) >= int(length)):
            return None
        if not piece or b"connection: close" in lower:
            self.socket.close()
        return head[9:12].decode() or "cut"


def run(load: Load, first_number: int) -> Measured:
    tls = ssl.create_default_context() if load.url.startswith("https:") else None
    callers = [_Caller(load, tls) for _ in range(load.callers)]
    selector = selectors.DefaultSelector()
    number = first_number
    answers: Counter[str] = Counter()
    latencies: list[float] = []
    cpu, began_at = time.process_time(), time.perf_counter()
    last_number = number + load.requests if load.requests else float("inf")
    ends_at = float("inf") if load.requests else began_at + load.seconds

    def send(caller: _Caller) -> None:
        nonlocal number
        number += 1
        caller.send(number)
        selector.register(caller.socket, selectors.EVENT_READ, caller)

    for caller in callers:
        send(caller)
    while selector.get_map():
        for key, _ in selector.select():
            caller = key.data
            status = caller.receive()
            if status is None:
                continue
            ended_at = time.perf_counter()
            selector.unregister(key.fileobj)
            answers[status] += 1
            latencies.append((ended_at - caller.started_at) * 1000)
            if ended_at < ends_at and number < last_number:
                send(caller)
    seconds = time.perf_counter() - began_at
    latencies.sort()
    count = len(latencies)
    return Measured(
        answers=dict(answers),
        per_second=count / seconds,
        p50=latencies[count // 2],
        p99=latencies[min(count - 1, int(count * 0.99))],
        cpu=(time.process_time() - cpu) * 1000 / count,
    )


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(asdict(run(Load(**given), 2_000_000_000 + time.time_ns() // 1000 % 10**9))))
