"""The configuration: read once from the environment, complete, or refused with every fault."""

import hashlib
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from gateway.accounts import ApiKey, Store, read_api_keys, read_stores
from gateway.errors import ConfigurationError
from gateway.limits import capacity
from gateway.webhooks.config import read_webhook_sources
from gateway.webhooks.source import WebhookSource

# The key of the README's first request. It is public, so it works with a sandbox only.
DEMO_KEY_SHA256 = hashlib.sha256(b"demo-key-for-the-sandbox").digest()

# A name of labels, or an IP address; the call itself would only find out when it is made.
_HOST = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?|[0-9a-f.]*:[0-9a-f:.]*")

# On Heroku, where only its router reaches a dyno.
_EVERYWHERE = "0.0.0.0"  # noqa: S104  # nosec B104

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What an operator decides, and what follows from it. The first store is the default store."""

    stores: tuple[Store, ...]
    api_keys: tuple[ApiKey, ...]
    crmtext_url: str
    crmtext_timeout_seconds: int
    crmtext_calls_per_second: float
    database_url: URL = field(repr=False)  # its query can hold a password too
    delivery_days: float
    webhook_sources: Mapping[str, WebhookSource]
    public_url: str | None
    host: str
    port: int
    web_processes: int
    web_threads: int
    log_level: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Raises ConfigurationError with a line for each fault and warning; none shows a secret."""
        variables = _Variables(environ)
        read = variables.read
        variables.require(
            "CRMTEXT_AUTH_STRINGS", "Set it to one USERNAME:PASSWORD:KEYWORD for each store"
        )
        variables.require("GATEWAY_API_KEYS", "Create a key with 'python -m gateway make-key NAME'")
        stores = read("CRMTEXT_AUTH_STRINGS", read_stores, "")
        on_heroku = "DYNO" in environ
        keywords = [store.keyword for store in stores]
        public_url = read("PUBLIC_URL", _public_url, "")
        processes = read("WEB_CONCURRENCY", _whole_number(1, 64), "2")
        settings = cls(
            stores=stores,
            api_keys=read("GATEWAY_API_KEYS", lambda text: read_api_keys(text, keywords), ""),
            crmtext_url=read("CRMTEXT_URL", _crmtext_url, "https://restapi.crmtext.com/smapi/rest"),
            crmtext_timeout_seconds=read("CRMTEXT_TIMEOUT", _whole_number(1, 20), "6"),
            crmtext_calls_per_second=read("CRMTEXT_RATE", _calls_per_second, "30"),
            database_url=read("DATABASE_URL", _database_url, "sqlite:///gateway.db"),
            delivery_days=read("DELIVERY_DAYS", _days, "10"),
            webhook_sources=read(
                "WEBHOOK_SOURCES",
                lambda text: _webhook_sources(text, environ, keywords, public_url),
                "",
            ),
            public_url=public_url,
            host=read("HOST", _host, _EVERYWHERE if on_heroku else "127.0.0.1"),
            port=read("PORT", _whole_number(1, 65535), "8000"),
            web_processes=processes,
            web_threads=capacity(processes).threads,
            log_level=read("LOG_LEVEL", _log_level, "info"),
        )
        faults = variables.faults + settings._contradictions(on_heroku=on_heroku)
        if faults:
            raise ConfigurationError(faults, settings.warnings)
        return settings

    def store(self, keyword: str) -> Store | None:
        return next((store for store in self.stores if store.keyword == keyword), None)

    @property
    def base_url(self) -> str:
        """Where the gateway is found: PUBLIC_URL, or else on this machine."""
        host = {_EVERYWHERE: "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        host = f"[{host}]" if ":" in host else host
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def warnings(self) -> Sequence[str]:
        """What may be a mistake although it can be used: a line each, to be told at the start."""
        fused = [
            f"CRMTEXT_AUTH_STRINGS: the password of store {store.keyword} looks as if it contained "
            "another entry; are quotes missing around the value where it is set, or a space?"
            for store in self.stores
            if store.seems_fused
        ]
        odd_secrets = [
            f"WEBHOOK_SOURCES: [{source.name}] {warning}; is that part of the secret?"
            for source in self.webhook_sources.values()
            for warning in source.warnings
        ]
        return fused + odd_secrets

    def _contradictions(self, *, on_heroku: bool) -> list[str]:
        faults = []
        if on_heroku and self.database_url.get_backend_name() == "sqlite":
            faults.append(
                "DATABASE_URL: SQLite would lose every opt-out here, because a dyno's disk is not "
                "kept; add a Postgres database (heroku addons:create heroku-postgresql)"
            )
        demo = any(key.digest == DEMO_KEY_SHA256 for key in self.api_keys)
        if demo and not _is_loopback(urlsplit(self.crmtext_url)):
            faults.append(
                "GATEWAY_API_KEYS: the README's demo key is public, so it works with the sandbox "
                "only; create your own with 'python -m gateway make-key NAME'"
            )
        return faults


class _Variables:
    """Reads variables one by one and keeps what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.faults: list[str] = []

    def require(self, name: str, hint: str) -> None:
        if not self._environ.get(name, "").strip():
            self.faults.append(f"{name}: is not set. {hint}")

    def read(self, name: str, parse: Callable[[str], T], default: str) -> T:
        """The parsed variable; the default's value where it is unset, empty or faulty."""
        try:
            return parse(self._text(name) or default)
        except ConfigurationError as error:
            self.faults += [f"{name}: {fault}" for fault in error.faults]
            return parse(default)

    def _text(self, name: str) -> str:
        text = self._environ.get(name, "").strip()
        if re.search("[\ud800-\udfff]", text):  # how Python shows other bytes
            raise ConfigurationError(["is not UTF-8"])
        if re.fullmatch(r"""("[^"]*")|('[^']*')""", text):
            raise ConfigurationError(
                ["has quotes around it that became part of it (docker --env-file keeps them)"]
            )
        return text


def _crmtext_url(text: str) -> str:
    url = _http_url(text)
    if url.scheme != "https" and not _is_loopback(url):
        raise ConfigurationError(
            ["must be https, because passwords are sent there; http only for loopback addresses"]
        )
    return text


def _public_url(text: str) -> str | None:
    if not text:
        return None
    if _http_url(text).query:
        raise ConfigurationError(["must not have a query"])
    return text.rstrip("/")


def _http_url(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        is_valid = url.port != 0  # reading the port is what checks it
    except ValueError:
        is_valid = False
    if not is_valid or url.scheme not in ("http", "https") or not url.hostname or url.fragment:
        raise ConfigurationError(["must be an address like https://host/path"])
    if not re.fullmatch(r"[!-~]+", text):
        raise ConfigurationError(["must be ASCII without spaces"])
    if "@" in url.netloc:
        raise ConfigurationError(["must not contain a user name or password"])
    if not _HOST.fullmatch(url.hostname):
        raise ConfigurationError(["must have a valid host name"])
    return url


def _host(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if ":" in text or not _HOST.fullmatch(text.lower()):
            what = "must be an IP address or a host name, without a port"
            raise ConfigurationError([what]) from None
    return text


def _is_loopback(url: SplitResult) -> bool:
    host = url.hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _database_url(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigurationError(["must be like sqlite:///file.db or postgres://…"]) from None
    if url.drivername == "sqlite":
        if url.query:
            raise ConfigurationError(["must not have options after the file name"])
        if url.database in (None, "", ":memory:") or str(url.database).startswith("file:"):
            raise ConfigurationError(["must name a file, because all processes share it"])
        return url
    if url.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise ConfigurationError(["must begin with sqlite:///, postgres:// or postgresql://"])
    if "@" in (url.database or "") or not _HOST.fullmatch((url.host or "localhost").lower()):
        # Never show the host: part of the password got there.
        raise ConfigurationError(
            ["must have a valid host name; in the password write @ as %40, / as %2F and % as %25"]
        )
    return url.set(drivername="postgresql+psycopg")


def _webhook_sources(
    text: str, environ: Mapping[str, str], keywords: Sequence[str], public_url: str | None
) -> Mapping[str, WebhookSource]:
    if not text:
        return {}
    if "=" not in text and "\n" not in text:
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            # Whatever is not called like a TOML file may be a secret that got into the wrong place.
            taken = "is taken for the path of a file, because it has no '='; the file"
            name = text if text.endswith(".toml") else taken
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigurationError([f"{name} cannot be read: {why}"]) from None
    return read_webhook_sources(text, secrets=environ, stores=keywords, public_url=public_url)


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if re.fullmatch(r"[0-9]{1,9}", text) and least <= int(text) <= most:
            return int(text)
        raise ConfigurationError([f"must be a whole number from {least} to {most}"])

    return parse


def _calls_per_second(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text):
        return float(text)
    raise ConfigurationError(["must be a number of calls per second, or 0 for no limit"])


def _days(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", text) and float(text) > 0:
        return float(text)
    raise ConfigurationError(["must be a number of days greater than 0"])


def _log_level(text: str) -> str:
    if text.lower() in ("debug", "info", "warning", "error", "critical"):
        return text.lower()
    raise ConfigurationError(["must be debug, info, warning, error or critical"])
