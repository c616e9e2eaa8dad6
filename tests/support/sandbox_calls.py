"""Calls to a sandbox over HTTP, and what a client sees of the answers."""

import base64
import socket
import time
from http.client import HTTPConnection
from typing import NamedTuple
from urllib.parse import urlencode

import xmltodict

from gateway.sandbox.server import PATH, Sandbox
from tests.support.factories import NUMBER


class Answer(NamedTuple):
    """What a client sees of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes


def basic(auth_string: str = "user:pass:word:Pizza") -> str:
    return "Basic " + base64.b64encode(auth_string.encode()).decode()


def ask(
    connection: HTTPConnection,
    method: str = "optoutcustomer",
    phone_number: str = NUMBER,
    *,
    authorization: str = basic(),
    path: str = PATH,
    verb: str = "POST",
    **fields: str,
) -> Answer:
    form = urlencode({"method": method, "phone_number": phone_number, **fields})
    connection.request(verb, path, form, {"Authorization": authorization})
    response = connection.getresponse()
    return Answer(response.status, dict(response.getheaders()), response.read())


def connect(sandbox: Sandbox) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", sandbox.server_port, timeout=5)


def customer(answer: Answer) -> dict[str, str]:
    fields = xmltodict.parse(answer.body)["response"]["customer"]
    return {name: text or "" for name, text in fields.items()}


def status_of(client: HTTPConnection, phone_number: str = NUMBER, store: str = "PIZZA") -> str:
    info = ask(client, "getcustomerinfo", phone_number, authorization=basic(f"u:p:{store}"))
    return customer(info)["optinStatus"]


def exchange(sandbox: Sandbox, phone_number: str, patience: float = 0.3) -> tuple[str, str]:
    """All that comes over the wire for an opt-out, and whether it ended closed, reset or open."""
    form = f"method=optoutcustomer&phone_number={phone_number}"
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {basic()}\r\n"
    wire = f"{head}Content-Length: {len(form)}\r\n\r\n{form}".encode()
    received = b""
    end = time.monotonic() + patience
    with socket.create_connection(("127.0.0.1", sandbox.server_port)) as client:
        client.sendall(wire)
        while (left := end - time.monotonic()) > 0:
            client.settimeout(left)
            try:
                piece = client.recv(65536)
            except TimeoutError:
                break
            except ConnectionResetError:
                return received.decode(), "reset"
            if not piece:
                return received.decode(), "closed"
            received += piece
    return received.decode(), "open"
