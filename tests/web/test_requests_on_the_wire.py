"""What clients send, byte by byte: bodies that are too large or end early, odd headers, no HTTP."""

import json
import socket
import time
from http.client import HTTPResponse

import pytest

from tests.support.factories import (
    API_KEY,
    Served,
)
from tests.support.fake_crmtext import FakeCrmText
from tests.support.wire import BODY, HEAD, answer_on, connect


@pytest.mark.parametrize("size", [70_000, 300_000, 3_000_000])
@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
def test_a_client_that_first_sends_all_of_a_too_large_body_reads_the_refusal(
    served: Served, size: int, close: bytes
) -> None:
    with connect(served) as connection:
        connection.sendall(HEAD + close + b"Content-Length: %d\r\n\r\n" % size)
        connection.sendall(b" " * size)
        status, body = answer_on(connection)

    assert (status, json.loads(body)["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("size", [70_000, 300_000])
@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
def test_a_too_large_body_without_a_length_is_refused_too(
    served: Served, size: int, close: bytes
) -> None:
    body = BODY + b" " * (size - len(BODY))
    with connect(served) as connection:
        connection.sendall(HEAD + close + b"Transfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        status, answer = answer_on(connection)

    assert (status, json.loads(answer)["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD + b"Content-Length: 65537\r\n", 413),
        (HEAD + b"Content-Length: 70000\r\n", 413),
        (HEAD.replace(b"application/json", b"text/csv") + b"Content-Length: 7\r\n", 415),
        (HEAD.replace(API_KEY.encode(), b"unknown") + b"Content-Length: 7\r\n", 401),
        (HEAD.replace(b"/v1/opt-outs", b"/nowhere") + b"Content-Length: 7\r\n", 404),
    ],
)
def test_a_client_that_asks_first_is_refused_at_once(
    served: Served, head: bytes, status: int
) -> None:
    with connect(served) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
        response = HTTPResponse(connection)
        response.begin()
        response.read()
        connection.shutdown(socket.SHUT_WR)
        rest = connection.recv(1)

    assert (response.status, response.getheader("Connection"), rest) == (status, "close", b"")


def test_a_client_that_asks_first_is_told_to_go_on_and_its_connection_is_kept(
    served: Served,
) -> None:
    body = b'{"phone_number": "9995550006"}'
    with connect(served) as connection:
        for _ in range(2):
            connection.sendall(HEAD + b"Content-Length: %d\r\n" % len(body))
            connection.sendall(b"Expect: 100-continue\r\n\r\n")
            assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body)
            assert answer_on(connection)[0] == 200


@pytest.mark.parametrize("keys", [("aa", "bb"), ("aa", "aa")])
def test_several_idempotency_keys_are_refused(
    served: Served, upstream: FakeCrmText, keys: tuple[str, str]
) -> None:
    calls = len(upstream.calls)
    headers = "".join(f"Idempotency-Key: {key}\r\n" for key in keys).encode()
    with connect(served) as connection:
        connection.sendall(HEAD + headers + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        status, answer = answer_on(connection)

    problem = json.loads(answer)
    assert (status, problem["code"]) == (400, "invalid_request")
    assert problem["detail"] == "There are several Idempotency-Key headers; send one."
    assert len(upstream.calls) == calls


@pytest.mark.parametrize("header", ["SCRIPT_NAME: /v1/webhooks", "PATH_INFO: /metrics"])
def test_a_header_does_not_change_the_address(served: Served, header: str) -> None:
    with connect(served) as connection:
        connection.sendall(
            f"GET /v1/webhooks/metrics HTTP/1.1\r\nHost: gateway\r\n{header}\r\n\r\n".encode()
        )
        status, body = answer_on(connection)

    assert (status, json.loads(body)["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("1.0", 200),
        ("1.1", 200),
        ("1.2", 505),
        ("1.9", 505),
        ("2.0", 505),
        ("0.9", 505),
        ("x", 400),
    ],
)
def test_only_two_versions_of_http_are_served(served: Served, version: str, status: int) -> None:
    with connect(served) as connection:
        connection.sendall(f"GET /healthz HTTP/{version}\r\nHost: gateway\r\n\r\n".encode())

        assert answer_on(connection)[0] == status


@pytest.mark.parametrize(
    "length", ["030", "0x1e", "+30", "-30", "3_0", "30.0", "30, 30", "", "\xb2"]
)
def test_a_length_is_written_in_one_way_only(
    served: Served, upstream: FakeCrmText, length: str
) -> None:
    calls = len(upstream.calls)
    with connect(served) as connection:
        connection.sendall(HEAD + f"Content-Length: {length}\r\n\r\n".encode("latin-1"))
        connection.sendall(b'{"phone_number": "9995550007"}')

        assert answer_on(connection)[0] == 400
    assert len(upstream.calls) == calls


def test_the_rest_of_a_too_large_body_is_not_read_as_a_request(
    served: Served, upstream: FakeCrmText
) -> None:
    inner = json.dumps({"phone_number": "9995550005"}).encode()
    smuggled = HEAD + b"Content-Length: %d\r\n\r\n" % len(inner) + inner
    size = 70_000
    with connect(served) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % size)
        connection.sendall(b" " * (size - len(smuggled)) + smuggled)
        status, _ = answer_on(connection)
    time.sleep(0.1)

    assert status == 413
    assert "9995550005" not in [call.phone_number for call in upstream.calls]


def test_an_unauthorized_client_with_a_large_body_reads_its_answer(served: Served) -> None:
    head = HEAD.replace(API_KEY.encode(), b"unknown")
    with connect(served) as connection:
        connection.sendall(head + b"Content-Length: 300000\r\n\r\n" + b" " * 300_000)
        status, _ = answer_on(connection)

    assert status == 401


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 60\r\n", BODY),
        (b"Transfer-Encoding: chunked\r\n", b"zz\r\n" + BODY),
        (b"Transfer-Encoding: chunked\r\n", b"2\r\nabXX0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"%x\r\n%b" % (len(BODY), BODY)),
    ],
    ids=["a length that is not reached", "no size", "no end of a chunk", "no end of the body"],
)
def test_a_body_that_ends_early_or_is_not_http_is_refused_and_nothing_is_sent(
    served: Served, upstream: FakeCrmText, framing: bytes, body: bytes
) -> None:
    calls = len(upstream.calls)
    with connect(served) as connection:
        connection.sendall(HEAD + framing + b"\r\n" + body)
        connection.shutdown(socket.SHUT_WR)
        status, answer = answer_on(connection)
    assert (status, json.loads(answer)["code"]) == (400, "invalid_request")
    assert len(upstream.calls) == calls
