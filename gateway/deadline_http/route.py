"""The way to an address: straight, or through the proxy that the environment names."""

import os
import ssl
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit

import certifi
import h11
from requests import Session
from requests.utils import select_proxy

from gateway.deadline_http.connections import Connection, Deadline, Host
from gateway.deadline_http.exchange import Exchange, NotHttp
from gateway.errors import ConfigurationError

_PORTS = {"http": 80, "https": 443}


class Route:
    """How requests to an address are written, and how its connections are opened.

    What the environment says of proxies and CA files is read as ``requests`` reads it.
    """

    def __init__(self, url: str) -> None:
        environment = Session().merge_environment_settings(
            url, proxies={}, stream=False, verify=None, cert=None
        )
        proxy = select_proxy(url, environment["proxies"])
        self._url = urlsplit(url)
        variable = f"{self._url.scheme.upper()}_PROXY"
        self._proxy = _proxy_url(proxy, variable) if proxy else None
        self._nearest = Host(*_name_and_port(self._proxy or self._url))
        self._tls = _tls_context(environment["verify"])
        if self._proxy and self._url.scheme == "http":
            self._target = url
            self._headers = {"Host": self._url.netloc, **_credentials(self._proxy)}
        else:
            self._target = self._url._replace(scheme="", netloc="").geturl() or "/"
            self._headers = {"Host": self._url.netloc}

    def request(self, headers: Mapping[str, str], body: bytes) -> h11.Request:
        headers = {**self._headers, **headers, "Content-Length": str(len(body))}
        return h11.Request(method="POST", target=self._target, headers=list(headers.items()))

    def connect(self, deadline: Deadline) -> Connection:
        connection = self._nearest.connect(deadline)
        try:
            if self._proxy and self._proxy.scheme == "https":
                connection.encrypt(self._tls, self._nearest.name, deadline)
            if self._url.scheme == "https":
                name, port = _name_and_port(self._url)
                if self._proxy:
                    _open_tunnel(connection, self._proxy, name, port, deadline)
                connection.encrypt(self._tls, name, deadline)
        except BaseException:
            connection.close()
            raise
        return connection


def _open_tunnel(
    connection: Connection, proxy: SplitResult, name: str, port: int, deadline: Deadline
) -> None:
    target = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    headers = {"Host": target, **_credentials(proxy)}
    request = h11.Request(method="CONNECT", target=target, headers=list(headers.items()))
    try:
        status = Exchange(connection, deadline).head_for(request).status_code
    except NotHttp:
        raise ConnectionError("the proxy's answer is not HTTP") from None
    if not 200 <= status < 300:
        raise ConnectionError(f"the proxy refused with status {status}")


def _proxy_url(text: str, variable: str) -> SplitResult:
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        is_usable = url.port != 0 and url.scheme in _PORTS and url.hostname
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigurationError([f"{variable}: must be an address like http://host:port"])
    return url


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"}


def _name_and_port(url: SplitResult) -> tuple[str, int]:
    return url.hostname or "", url.port or _PORTS[url.scheme]


def _tls_context(ca_bundle: object) -> ssl.SSLContext:
    """Trusts the file or folder that REQUESTS_CA_BUNDLE names, else certifi's bundle.

    Loading it takes 20 to 30 ms of CPU, so all connections share it.
    """
    path = ca_bundle if isinstance(ca_bundle, str) else certifi.where()
    try:
        if os.path.isdir(path):
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError:  # ssl.SSLError is one
        raise ConfigurationError([f"REQUESTS_CA_BUNDLE: cannot be read: {path}"]) from None
