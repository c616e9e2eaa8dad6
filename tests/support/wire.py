"""A client of a served gateway that says what it wants, and when."""

import json
import socket
import time
from http.client import HTTPResponse

from tests.support.factories import API_KEY, NUMBER, Served
from tests.support.ledgers import wait_until

SECONDS = 0.6
QUICK = f"""
from gateway.web.gunicorn_worker import DeadlineWorker
class worker_class(DeadlineWorker):
    seconds_to_send_a_request = {SECONDS}
"""
BODY = json.dumps({"phone_number": NUMBER}).encode()
HEAD = (
    "POST /v1/opt-outs HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
    f"Authorization: Bearer {API_KEY}\r\n"
).encode()


def connect(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=10)


def answer_on(connection: socket.socket) -> tuple[int, bytes]:
    response = HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


def drip(connection: socket.socket, text: bytes) -> tuple[bytes, float]:
    """Sends a byte at a time until the other side ends it; what came back, and the seconds."""
    began = time.monotonic()
    connection.settimeout(0.02)
    received = b""
    for place in range(len(text)):
        try:
            connection.sendall(text[place : place + 1])
            piece = connection.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            break
        if not piece:
            break
        received += piece
    return received, time.monotonic() - began


def lines_of(served: Served) -> list[dict[str, object]]:
    return [json.loads(line) for line in served.stdout.read_text().splitlines()]


def lines_until(served: Served, request_id: str) -> list[dict[str, object]]:
    """The lines once that request's last one is there: a thread of its own writes them."""

    def is_there() -> bool:
        return any(
            (line["request_id"], line["message"]) == (request_id, "request answered")
            for line in lines_of(served)
        )

    wait_until(is_there, 5, "its line is written")
    return lines_of(served)
