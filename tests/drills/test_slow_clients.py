"""Crowds of clients that take the gateway's time: honest callers must not notice."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

from tests.drills.load import Report
from tests.support.factories import API_KEY, BEARER, Served, make_environment, serve
from tests.support.fake_crmtext import FakeCrmText

pytestmark = [pytest.mark.drill, pytest.mark.xdist_group("drills 2")]

HEAD = b"POST /v1/opt-outs HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
WITH_KEY = HEAD + f"Authorization: Bearer {API_KEY}\r\n".encode()
HOOK = HEAD.replace(b"/v1/opt-outs", b"/v1/webhooks/desk")
LONG_ANSWER = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: gateway\r\n\r\n"
MIB = 1024 * 1024
SOURCE = """
[desk]
secret_env = "DESK_SECRET"
opt_out = "event == 'stop'"
phone_numbers = "phone"
signature = {scheme = "token", header = "X-Token"}
"""


class Crowd:
    """Clients that send ``first`` and then a byte of ``then`` each half second, and never read.

    Who is thrown out comes again.
    """

    def __init__(self, port: int, size: int, first: bytes = b"", then: bytes = b"") -> None:
        self._port, self._first, self._then = port, first, then
        self._clients = [self._connect() for _ in range(size)]
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._go_on)
        self._thread.start()

    def _connect(self) -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0)
        with suppress(BlockingIOError):
            client.connect(("127.0.0.1", self._port))
        if self._first:
            with suppress(OSError):
                client.settimeout(0.2)
                client.sendall(self._first)
            client.settimeout(0)
        return client

    def _go_on(self) -> None:
        place = 0
        while not self._ends.wait(0.5):
            byte = self._then[place % len(self._then) :][:1] if self._then else b""
            place += 1
            for number, client in enumerate(self._clients):
                if self._is_out(client, byte):
                    client.close()
                    self._clients[number] = self._connect()

    @staticmethod
    def _is_out(client: socket.socket, byte: bytes) -> bool:
        try:
            if byte:
                client.send(byte)
            return client.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def end(self) -> None:
        self._ends.set()
        self._thread.join()
        for client in self._clients:
            client.close()


@contextmanager
def crowd(port: int, size: int, first: bytes = b"", then: bytes = b"") -> Iterator[None]:
    clients = Crowd(port, size, first, then)
    try:
        yield
    finally:
        clients.end()


@pytest.fixture
def served(crmtext: FakeCrmText, database_url: str, tmp_path: Path) -> Iterator[Served]:
    environment = make_environment(
        CRMTEXT_URL=crmtext.url,
        CRMTEXT_RATE="0",
        DATABASE_URL=database_url,
        WEBHOOK_SOURCES=SOURCE,
        DESK_SECRET="a-token",
    )
    with serve(environment, tmp_path) as running:
        yield running


def ask(served: Served, seconds: float) -> list[tuple[float, int]]:
    """An honest caller's requests, one after the other: how long each took, and its answer."""
    found: list[tuple[float, int]] = []
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        began = time.monotonic()
        fields = {"phone_number": f"9994441{len(found) % 1000:03}"}
        try:
            status = requests.post(
                f"{served.url}/v1/opt-outs", json=fields, headers=BEARER, timeout=20
            ).status_code
        except requests.RequestException:
            status = 0
        found.append((time.monotonic() - began, status))
        time.sleep(0.05)
    return found


def memory_mib(served: Served) -> int:
    """What all processes of the gateway use together (PSS)."""
    master = served.process.pid
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    lines = [
        line
        for pid in [str(master), *children]
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    ]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) // 1024


@pytest.mark.parametrize(
    ("size", "first", "then"),
    [
        pytest.param(2500, b"", b"", id="silent"),
        pytest.param(600, WITH_KEY + b"X-Padding: ", b"x", id="slow heads"),
        pytest.param(600, WITH_KEY + b"Content-Length: 2000\r\n\r\n", b" ", id="slow bodies"),
        pytest.param(
            600, WITH_KEY + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", id="slow chunks"
        ),
        pytest.param(
            600,
            WITH_KEY + b"Content-Length: 2000\r\nExpect: 100-continue\r\n\r\n",
            b" ",
            id="asked for bodies",
        ),
        pytest.param(600, LONG_ANSWER * 5, b"", id="unread answers"),
        pytest.param(
            500, HOOK + b"Content-Length: %d\r\n\r\n" % MIB + b" " * (MIB - 9), b"", id="bodies"
        ),
    ],
)
def test_a_crowd_delays_nobody_else(
    served: Served, report: Report, size: int, first: bytes, then: bytes
) -> None:
    ask(served, 1)
    with crowd(served.port, size, first, then):
        time.sleep(1)
        answers = ask(served, 12)
        memory = memory_mib(served)
    seconds = sorted(taken for taken, _ in answers)
    statuses = {status for _, status in answers}

    report(
        json.dumps(
            {
                "requests": len(answers),
                "median s": round(seconds[len(seconds) // 2], 3),
                "longest s": round(seconds[-1], 3),
                "answers": sorted(statuses),
                "MiB": memory,
            }
        )
    )
    assert statuses <= {200, 202}
    assert seconds[-1] < 2
    assert memory < 250
