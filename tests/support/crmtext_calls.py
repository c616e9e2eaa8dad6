"""Calls to CRM Text over real sockets, and servers that answer them byte by byte."""

import base64
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from gateway.accounts import Store
from gateway.crmtext.client import CrmText
from tests.support.factories import BURGER, NUMBER, PIZZA

STORES = (Store("PIZZA", PIZZA), Store("BURGER", BURGER))
TIMEOUT = 0.4
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n"
UNREACHABLE = "crmtext_unreachable"
INVALID = "crmtext_invalid_response"


def connect(url: str, seconds: float = 5.0) -> CrmText:
    return CrmText(url, seconds, STORES)


def basic(auth_string: str) -> str:
    return "Basic " + base64.b64encode(auth_string.encode()).decode()


def timed(url: str, seconds: float = TIMEOUT) -> tuple[str, float]:
    """The name of one call's outcome, and how long it took."""
    call = connect(url, seconds)
    began = time.monotonic()
    outcome = call.opt_out(NUMBER, "PIZZA")
    return outcome.name, time.monotonic() - began


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads a request and then does what ``answer`` wants with the socket."""
    requests: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(5)
                requests.append(read_request(connection))
                answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/smapi/rest", requests
        listener.shutdown(socket.SHUT_RDWR)


def read_request(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(NUMBER.encode()):
        piece = connection.recv(65536)
        if not piece:
            break
        received += piece
    return received


def sends(*pieces: bytes, reset: bool = False) -> Callable[[socket.socket], None]:
    """Sends the pieces and closes the connection, or resets it."""

    def answer(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
        if reset:
            time.sleep(0.05)  # so that what was sent arrives before the reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return answer
