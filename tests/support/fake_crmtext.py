"""A CRM Text for tests: the sandbox on a free port, whose answers a test can script."""

import os
import shutil
import ssl
import subprocess
from collections import deque
from pathlib import Path
from socket import socket

import pytest

from gateway.sandbox.calls import Call, Reply, xml
from gateway.sandbox.server import Sandbox

__all__ = ["Call", "FakeCrmText", "Reply", "xml"]  # so that tests import from one place


class FakeCrmText(Sandbox):
    """Behaves like the sandbox until a test says otherwise; every path and verb is scripted alike.

    With ``tls``, the files of a certificate and its key, ``url`` is https.
    """

    def __init__(self, port: int = 0, *, tls: tuple[Path, Path] | None = None) -> None:
        super().__init__(port=port)
        self._next: deque[Reply] = deque()
        self._always: Reply | None = None
        self._tls: ssl.SSLContext | None = None
        if tls is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*tls)
            self.url = self.url.replace("http:", "https:")

    def answer_with(self, reply: Reply | None) -> None:
        """Answer all calls from now on with the reply; None is the sandbox's behaviour again."""
        self._always = reply

    def answers(self, *replies: Reply) -> None:
        """Answer the next calls with these, in turn, before anything else."""
        self._next.extend(replies)

    def reply_to(self, call: Call) -> Reply:
        """The scripted reply if there is one."""
        try:
            return self._next.popleft()
        except IndexError:
            return super().reply_to(call) if self._always is None else self._always

    def finish_request(
        self, request: socket | tuple[bytes, socket], client_address: object
    ) -> None:
        """Shake hands, in the connection's own thread, so that a slow client delays nobody."""
        if self._tls is None or isinstance(request, tuple):
            super().finish_request(request, client_address)
            return
        with self._tls.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)


def self_signed(directory: Path) -> tuple[Path, Path]:
    """A new certificate for 127.0.0.1 and its key, in files; it is its own authority."""
    if shutil.which("openssl") is None and "CI" not in os.environ:
        pytest.skip("openssl is not installed")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command.split(), *subject, "-out", certificate, "-keyout", key],
        check=True,
        capture_output=True,
    )
    return certificate, key
