"""Clients that take their time, under a real gunicorn: they hold no threads, and not all memory."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.support.factories import API_KEY, Served, make_environment, serve
from tests.support.fake_crmtext import FakeCrmText

SMALL = """
from gateway.web.gunicorn_worker import DeadlineWorker
class worker_class(DeadlineWorker):
    most_bytes_held = 100_000
threads = 4
worker_connections = 20
"""
HEAD = (
    "POST /v1/opt-outs HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
    f"Authorization: Bearer {API_KEY}\r\n"
).encode()
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n"


@pytest.fixture(scope="module")
def served(empty_ledger: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    ledger = directory / "gateway.db"
    ledger.write_bytes(empty_ledger.read_bytes())
    with FakeCrmText() as crmtext:
        environment = make_environment(
            CRMTEXT_URL=crmtext.url, DATABASE_URL=f"sqlite:///{ledger}", WEB_CONCURRENCY="1"
        )
        with serve(environment, directory, configuration=SMALL) as running:
            yield running


def connect(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=10)


def answer_on(connection: socket.socket) -> HTTPResponse:
    response = HTTPResponse(connection)
    response.begin()
    return response


def seconds_until_healthy(served: Served) -> float:
    began = time.monotonic()
    with connect(served) as connection:
        connection.sendall(HEALTH)
        assert answer_on(connection).status == 200
    return time.monotonic() - began


BEGINNINGS = {
    "nothing": b"",
    "half a head": HEAD,
    "half a body": HEAD + b"Content-Length: 30\r\n\r\n{",
    "half of the chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "a question": HEAD + b"Content-Length: 30\r\nExpect: 100-continue\r\n\r\n",
    "a request, and nothing after it": HEALTH,
}


@pytest.mark.slow
@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS)
def test_more_slow_clients_than_threads_and_connections_delay_nobody(
    served: Served, beginning: bytes
) -> None:
    with ExitStack() as stack:
        for _ in range(60):
            client = stack.enter_context(connect(served))
            client.sendall(beginning)

        assert seconds_until_healthy(served) < 2


def test_the_body_that_has_been_arriving_for_longest_makes_room_for_another(
    served: Served,
) -> None:
    with connect(served) as oldest, connect(served) as newest:
        for connection in (oldest, newest):
            connection.sendall(HEAD + b"Content-Length: 60000\r\n\r\n" + b" " * 59_000)
            time.sleep(0.2)
        refused = answer_on(oldest)
        problem = json.loads(refused.read())
        newest.sendall(b'{"phone_number": "9995550001"}'.rjust(1000))
        accepted = answer_on(newest)

    assert (refused.status, problem["code"]) == (503, "gateway_busy")
    assert (refused.getheader("Retry-After"), refused.getheader("Connection")) == ("1", "close")
    assert problem["request_id"] == refused.getheader("X-Request-ID")
    assert accepted.status == 200


def test_requests_that_come_together_are_answered_in_order(served: Served) -> None:
    bodies = [json.dumps({"phone_number": f"999555010{n}"}).encode() for n in range(3)]
    requests = [HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body) for body in bodies]
    with connect(served) as connection:
        connection.sendall(b"".join(requests) + HEALTH)
        answers = connection.makefile("rb")
        numbers = []
        for _ in bodies:
            head = iter(answers.readline, b"\r\n")
            (length,) = [line for line in head if line.lower().startswith(b"content-length")]
            numbers.append(json.loads(answers.read(int(length.split()[1])))["phone_number"])
        last = answers.readline()

    assert numbers == ["9995550100", "9995550101", "9995550102"]
    assert last == b"HTTP/1.1 200 OK\r\n"


def test_a_client_that_sends_nothing_does_not_delay_the_end(
    empty_ledger: Path, tmp_path: Path
) -> None:
    ledger = tmp_path / "gateway.db"
    ledger.write_bytes(empty_ledger.read_bytes())
    environment = make_environment(DATABASE_URL=f"sqlite:///{ledger}", WEB_CONCURRENCY="1")
    with serve(environment, tmp_path) as served, connect(served):
        began = time.monotonic()
        code = served.stop()

    assert (code, time.monotonic() - began < 8) == (0, True)


@pytest.mark.parametrize("path", [b"/v1/opt-outs", b"/v1/webhooks/nobody"])
@pytest.mark.parametrize("sent", [0, 60_000])
def test_a_body_that_is_too_large_is_refused_soon_though_its_client_stops_sending(
    served: Served, path: bytes, sent: int
) -> None:
    head = HEAD.replace(b"/v1/opt-outs", path) + b"Content-Length: 1100000\r\n\r\n"
    began = time.monotonic()
    with connect(served) as connection:
        connection.sendall(head + b" " * sent)
        answer = answer_on(connection)

    assert answer.status == (413 if path == b"/v1/opt-outs" else 404)
    assert time.monotonic() - began < 5
