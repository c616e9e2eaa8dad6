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

from gateway.accounts import KEY_NAME, STORE_KEYWORD, ApiKey, Store
from gateway.errors import ConfigurationError
from gateway.webhooks.config import read_webhook_sources
from gateway.webhooks.source import WebhookSource

# The key of the README's first request. It is public, so it works with a sandbox only.
DEMO_KEY_SHA256 = hashlib.sha256(b"demo-key-for-the-sandbox").digest()

# A name of labels, or an IP address; the call itself would only find out when it is made.
_HOST = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?|[0-9a-f.]*:[0-9a-f:.]*")

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """Everything that an operator decides. The first store is the default store."""

    stores: tuple[Store, ...]
    api_keys: tuple[ApiKey, ...]
    crmtext_url: str
    crmtext_timeout_seconds: int
    crmtext_calls_per_second: float
    database_url: URL = field(repr=False)  # its query can hold a password too
    delivery_days: float
    webhook_sources: Mapping[str, WebhookSource]
    public_url: str | None
    port: int
    web_processes: int
    log_level: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Raises ConfigurationError with one line for each fault; none of them shows a secret."""
        variables = _Variables(environ)
        read = variables.read
        variables.require("CRMTEXT_AUTH_STRINGS", "one USERNAME:PASSWORD:KEYWORD for each store")
        variables.require("GATEWAY_API_KEYS", "'python -m gateway make-key NAME' makes one")
        stores = read("CRMTEXT_AUTH_STRINGS", _stores, "")
        keywords = [store.keyword for store in stores]
        public_url = read("PUBLIC_URL", _public_url, "")
        settings = cls(
            stores=stores,
            api_keys=read("GATEWAY_API_KEYS", lambda text: _api_keys(text, keywords), ""),
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
            port=read("PORT", _whole_number(1, 65535), "8000"),
            web_processes=read("WEB_CONCURRENCY", _whole_number(1, 64), "2"),
            log_level=read("LOG_LEVEL", _log_level, "info"),
        )
        faults = variables.faults + settings._contradictions(on_heroku="DYNO" in environ)
        if faults:
            raise ConfigurationError(faults)
        return settings

    def store(self, keyword: str) -> Store | None:
        return next((store for store in self.stores if store.keyword == keyword), None)

    def _contradictions(self, *, on_heroku: bool) -> list[str]:
        faults = []
        if on_heroku and self.database_url.get_backend_name() == "sqlite":
            faults.append(
                "DATABASE_URL: SQLite loses every opt-out here, since a dyno's disk does not last; "
                "add a Postgres database (heroku addons:create heroku-postgresql)"
            )
        demo = any(key.digest == DEMO_KEY_SHA256 for key in self.api_keys)
        if demo and not _is_loopback(urlsplit(self.crmtext_url)):
            faults.append(
                "GATEWAY_API_KEYS: the README's demo key is public, so it is for the sandbox only; "
                "make a key of your own with 'python -m gateway make-key NAME'"
            )
        return faults


class _Variables:
    """Reads variables one by one and keeps what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.faults: list[str] = []

    def require(self, name: str, hint: str) -> None:
        if not self._environ.get(name, "").strip():
            self.faults.append(f"{name}: is not set; it needs {hint}")

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
        return text


def _stores(text: str) -> tuple[Store, ...]:
    stores: dict[str, Store] = {}
    faults = []
    for position, auth_string in enumerate(text.split(), 1):
        username, _, rest = auth_string.partition(":")
        password, _, keyword = rest.rpartition(":")
        keyword = keyword.upper()
        if not (username and password and keyword):
            faults.append(f"entry {position} is not USERNAME:PASSWORD:KEYWORD")
        elif not STORE_KEYWORD.fullmatch(keyword):
            faults.append(
                f"the keyword of entry {position} must have 4 to 19 characters of ASCII, "
                "none of them a comma, and not only digits"
            )
        elif keyword in stores:
            faults.append(f"entry {position} has the keyword of an entry before it")
        else:
            stores[keyword] = Store(keyword, auth_string)
    if faults:
        raise ConfigurationError(faults)
    return tuple(stores.values())


def _api_keys(text: str, keywords: Sequence[str]) -> tuple[ApiKey, ...]:
    keys: dict[bytes, ApiKey] = {}
    faults = []
    for position, entry in enumerate(text.split(), 1):
        name, digest, *bound = entry.split(":")[:4] if entry.count(":") in (1, 2) else ("", "")
        stores = frozenset(bound[0].upper().split(",")) if bound else None
        if not KEY_NAME.fullmatch(name) or not re.fullmatch(r"[0-9A-Fa-f]{64}", digest):
            faults.append(
                f"entry {position} is not NAME:SHA256HEX or NAME:SHA256HEX:STORE,STORE, with a "
                "name of letters, digits and . _ - and the 64 hex digits of the key's SHA-256"
            )
        elif stores is not None and keywords and not stores <= set(keywords):
            faults.append(f"entry {position} names a store that CRMTEXT_AUTH_STRINGS does not have")
        elif bytes.fromhex(digest) in keys:
            faults.append(f"entry {position} has the same key as an entry before it")
        else:
            key = ApiKey(name, bytes.fromhex(digest), stores)
            keys[key.digest] = key
    if faults:
        raise ConfigurationError(faults)
    return tuple(keys.values())


def _crmtext_url(text: str) -> str:
    url = _http_url(text)
    if url.scheme != "https" and not _is_loopback(url):
        raise ConfigurationError(
            ["must be https, since it carries passwords; http is for loopback"]
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
        sound = url.port != 0  # reading the port is what checks it
    except ValueError:
        sound = False
    if not sound or url.scheme not in ("http", "https") or not url.hostname or url.fragment:
        raise ConfigurationError(["must be an address like https://host/path"])
    if not re.fullmatch(r"[!-~]+", text):
        raise ConfigurationError(["must be ASCII without spaces"])
    if "@" in url.netloc:
        raise ConfigurationError(["must not carry a user name or password"])
    if not _HOST.fullmatch(url.hostname):
        raise ConfigurationError(["must have a sound host name"])
    return url


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
            raise ConfigurationError(["must not have options behind the file's name"])
        if url.database in (None, "", ":memory:") or str(url.database).startswith("file:"):
            raise ConfigurationError(["must name a file: all processes share the ledger"])
        return url
    if url.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    raise ConfigurationError(["must begin with sqlite:///, postgres:// or postgresql://"])


def _webhook_sources(
    text: str, environ: Mapping[str, str], keywords: Sequence[str], public_url: str | None
) -> Mapping[str, WebhookSource]:
    if not text:
        return {}
    if "=" not in text and "\n" not in text:
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            fault = f"the file cannot be read ({type(error).__name__})"
            raise ConfigurationError([fault]) from None
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
    raise ConfigurationError(["must be a number of calls a second, or 0 for no limit"])


def _days(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", text) and float(text) > 0:
        return float(text)
    raise ConfigurationError(["must be a number of days above 0"])


def _log_level(text: str) -> str:
    if text.lower() in ("debug", "info", "warning", "error", "critical"):
        return text.lower()
    raise ConfigurationError(["must be debug, info, warning, error or critical"])
