"""A proxy in front of PostgreSQL that loses connections at the worst moment."""

import socket
import threading
from contextlib import suppress
from typing import Literal, Self

_COMMIT = b"COMMIT\x00"

# Whether the COMMIT still reaches the server, and whether one can connect again afterwards.
Mode = Literal["before", "after", "after and away"]


class CommitLosingProxy:
    """Forwards to a server, but cuts the connection of the next COMMIT when it is told to."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self._next: Mode | None = None
        self._is_away = False

    def __enter__(self) -> Self:
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()

    def lose_next(self, mode: Mode) -> None:
        self._next = mode

    def _accept(self) -> None:
        threads: list[threading.Thread] = []
        with suppress(OSError):  # shut down
            while True:
                client, _ = self._listener.accept()
                if self._is_away:
                    client.close()
                    continue
                threads.append(threading.Thread(target=self._serve, args=[client]))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
            answering = threading.Thread(target=_forward, args=[server, client])
            answering.start()
            with suppress(OSError):
                self._ask(client, server)
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            answering.join()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        while data := client.recv(65536):
            if _COMMIT in data and self._next:
                self.cuts += 1
                self._is_away = self._next == "after and away"
                if self._next != "before":
                    server.sendall(data)
                self._next = None
                return
            server.sendall(data)


def _forward(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
