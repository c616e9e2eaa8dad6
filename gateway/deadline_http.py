"""HTTP to a server that may be slow on purpose: one deadline for a whole call, TLS set up once.

``requests`` has a timeout for each read, which a server that sends a byte a second never meets, in
its headers or in its body. Here the socket itself counts down: connecting, the TLS handshake,
sending, headers and body share one budget.
"""

import http.client
import io
import os
import socket
import ssl
import time
from typing import Any

import certifi
from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import Timeout

from gateway.errors import ConfigurationError

# A connection that a firewall has forgotten would swallow the next call: notice it while it idles.
_KEEPALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
]
# Idle connections kept for reuse: more than a process has threads, so that none is thrown away.
_CONNECTIONS = 1024
# Of one answer, head and framing included; a chunk of a negative size would be read without end.
_MOST_BYTES = 8 * 1024 * 1024


class DeadlineHttp:
    """Sends prepared requests to one address, over kept connections, following no redirect."""

    def __init__(self, url: str, seconds: float) -> None:
        """``seconds`` is the budget of one call. Proxies and CA files come from the environment."""
        environment = Session().merge_environment_settings(
            url, proxies={}, stream=True, verify=None, cert=None
        )
        self._proxies = environment["proxies"]
        self._timeout = Timeout(total=seconds)
        self._adapter = _Adapter(_tls_context(environment["verify"]))

    def send(self, request: PreparedRequest) -> Response:
        """The answer's head, its body unread in ``raw``.

        Raises requests.RequestException. Reading ``raw`` raises urllib3.exceptions.HTTPError, and
        ends at the same deadline. A connection that breaks after the first byte reads as its end.
        """
        return self._adapter.send(
            request,
            stream=True,
            timeout=self._timeout,  # type: ignore[arg-type]  # taken, but not in its annotation
            proxies=self._proxies,
        )


class _Adapter(HTTPAdapter):
    """An adapter whose connections share one SSLContext.

    The stock one loads the CA file again for each connection: 20 to 30 ms of CPU.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        super().__init__(pool_connections=4, pool_maxsize=_CONNECTIONS)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **kwargs: Any
    ) -> None:
        kwargs |= self._connection_options()
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs, **self._connection_options())
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leaves verification to the shared context, which demands it."""

    def _connection_options(self) -> dict[str, Any]:
        return {"ssl_context": self._tls, "socket_options": _KEEPALIVE}


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until the budget it was given with its last timeout is used up."""

    def __init__(self, sock: socket.socket) -> None:
        # makefile() keeps the socket open until this is closed, which http.client relies on.
        self._raw = sock.makefile("rb", buffering=0)
        self._sock = sock
        self._ends_at = time.monotonic() + (sock.gettimeout() or 0)
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._ends_at - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the deadline of the call has passed")
        if self._count > _MOST_BYTES:
            return 0
        self._sock.settimeout(remaining)
        try:
            count = self._raw.readinto(buffer)
        except ConnectionError:
            if self._count:
                return 0
            raise
        self._count += count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_DeadlineReader(sock))


class _HttpConnection(HTTPConnection):
    response_class = _DeadlineResponse


class _HttpsConnection(HTTPSConnection):
    response_class = _DeadlineResponse

    def _new_conn(self) -> socket.socket:
        """Connects; what is left of the budget is the TLS handshake's."""
        began_at = time.monotonic()
        sock = super()._new_conn()
        left = (sock.gettimeout() or 0) - (time.monotonic() - began_at)
        sock.settimeout(max(left, 0.001))
        return sock


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


_POOLS = {"http": _HttpPool, "https": _HttpsPool}


def _tls_context(ca_bundle: object) -> ssl.SSLContext:
    """Trusts the file or folder that REQUESTS_CA_BUNDLE names, else certifi's bundle."""
    path = ca_bundle if isinstance(ca_bundle, str) else certifi.where()
    try:
        if os.path.isdir(path):
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError:  # ssl.SSLError is one
        raise ConfigurationError([f"REQUESTS_CA_BUNDLE: cannot be read: {path}"]) from None
