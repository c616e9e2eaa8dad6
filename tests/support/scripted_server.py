"""A server that says exactly what a test wants, byte by byte, plain or over TLS."""

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gateway.sandbox.calls import xml

Certificate = tuple[Path, Path]  # the files of a certificate and its key


class Peer:
    """The server's end of one connection. What it says has arrived when ``says`` returns."""

    def __init__(self, sock: socket.socket, server: "ScriptedServer", number: int) -> None:
        self._socket = sock
        self._server = server
        self.number = number  # of the connection, from 1

    def hears(self) -> str:
        """Waits for a whole request; its phone number, or "" if the client hangs up instead."""
        received = b""
        while len(received.partition(b"phone_number=")[2]) < len("9995551234"):
            piece = self._socket.recv(65536)
            if not piece:
                return ""
            received += piece
        self._server.requests.append(received)
        phone_number = received[-10:].decode()
        self._server.heard.append((self.number, phone_number))
        return phone_number

    def says(self, *pieces: bytes) -> None:
        for piece in pieces:
            if piece:
                self._socket.sendall(piece)

    def says_beneath_tls(self, data: bytes) -> None:
        os.write(self._socket.fileno(), data)

    def hangs_up(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)

    def resets(self) -> None:
        """Makes the end of the script a reset instead of a closed connection."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Script = Callable[[Peer], None]


@dataclass
class ScriptedServer:
    """``requests`` so far, and in ``heard`` the connection's and the phone number of each."""

    url: str
    requests: list[bytes] = field(default_factory=list)
    heard: list[tuple[int, str]] = field(default_factory=list)


@contextmanager
def scripted_server(script: Script, tls: Certificate | None = None) -> Iterator[ScriptedServer]:
    """Plays the script on each connection, in a thread of its own; then it is closed."""
    listener = socket.create_server(("127.0.0.1", 0))
    scheme, context = ("https", server_context(tls)) if tls else ("http", None)
    server = ScriptedServer(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/smapi/rest")

    def play(connection: socket.socket, number: int) -> None:
        with suppress(OSError):
            connection.settimeout(10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context:
                connection = context.wrap_socket(connection, server_side=True)
            with connection:
                script(Peer(connection, server, number))

    def accept() -> None:
        number = 0
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                number += 1
                threading.Thread(target=play, args=[connection, number], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def server_context(tls: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    return context


def http(status: int, body: bytes, *headers: str) -> bytes:
    """An answer of known length."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes) -> bytes:
    """An answer whose body comes in chunks of seven bytes."""
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


def confirms(phone_number: str) -> bytes:
    """XML that opts out and names no number where the gateway looks for it, but in the name."""
    return xml(custName=f"owner of {phone_number}")


def refuses(phone_number: str) -> bytes:
    return xml("404", "not found", custName=f"owner of {phone_number}")
