"""Who may act on what: the stores of the CRM Text account, and the callers' API keys.

Both are written in the environment as entries separated by white space; they are read here.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.errors import ConfigurationError

KEY_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
# CRM Text's rule for keywords; a colon or a comma would end it in an entry of the environment.
STORE_KEYWORD = re.compile(r"(?![0-9]+$)[!-+\--9;-~]{4,19}")

# What an entry or a request names to mean every store.
ALL_STORES = "*"
_KEY_ENTRY = re.compile(
    rf"(?P<name>{KEY_NAME.pattern}):(?P<digest>[0-9A-Fa-f]{{64}})"
    r"(?::(?P<stores>[^:]+)(?::(?P<rights>[^:]+))?)?"
)


@dataclass(frozen=True)
class Store:
    """A store of the CRM Text account: its primary keyword in upper case, and what opens it."""

    keyword: str
    auth_string: str = field(repr=False)

    @property
    def username(self) -> str:
        return self.auth_string.partition(":")[0]

    @property
    def password(self) -> str:
        return self.auth_string.partition(":")[2].rpartition(":")[0]

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown, should CRM Text repeat it."""
        # A username of a few letters is part of many words, and gives nothing away.
        long_username = [self.username] if len(self.username) > 3 else []
        return (self.auth_string, self.password, *long_username)

    @property
    def seems_fused(self) -> bool:
        """Whether these may be two auth strings without white space between: a:b:PIZZAc:d:TACO.

        The password is then b:PIZZAc:d, with a keyword (4 characters or more) and the beginning
        of a user name between two colons.
        """
        return any(len(part) > 4 for part in self.password.split(":")[1:-1])


class Right(StrEnum):
    """What a key may do only if its entry says so."""

    OPT_IN = "opt-in"
    DESK = "desk"


@dataclass(frozen=True)
class ApiKey:
    """A caller's key: only its SHA-256 is known. ``stores`` is None where it is bound to none."""

    name: str
    digest: bytes = field(repr=False)
    stores: frozenset[str] | None
    rights: frozenset[Right] = frozenset()

    @property
    def entry(self) -> str:
        """The key as GATEWAY_API_KEYS has it."""
        stores = ALL_STORES if self.stores is None else ",".join(sorted(self.stores))
        whole = f"{self.name}:{self.digest.hex()}:{stores}:{','.join(sorted(self.rights))}"
        return whole.removesuffix(":").removesuffix(f":{ALL_STORES}")

    def may_act_on(self, store: str) -> bool:
        return self.stores is None or store in self.stores


def read_stores(text: str) -> tuple[Store, ...]:
    """The stores of CRMTEXT_AUTH_STRINGS. Raises ConfigurationError, which shows no secret."""
    stores: dict[str, Store] = {}
    faults = []
    for position, auth_string in enumerate(text.split(), 1):
        store = Store(auth_string.rpartition(":")[2].upper(), auth_string)
        if not (store.username and store.password and store.keyword):
            faults.append(f"entry {position} is not USERNAME:PASSWORD:KEYWORD")
        elif not STORE_KEYWORD.fullmatch(store.keyword):
            faults.append(
                f"the keyword of entry {position} must be 4 to 19 ASCII characters, not only "
                "digits, and without a comma"
            )
        elif store.keyword in stores:
            faults.append(f"entry {position} has the keyword {store.keyword}, like an earlier one")
        else:
            stores[store.keyword] = store
    if faults:
        raise ConfigurationError(faults)
    return tuple(stores.values())


def read_api_keys(text: str, keywords: Collection[str]) -> tuple[ApiKey, ...]:
    """The keys of GATEWAY_API_KEYS, for stores with these keywords (none: any will do).

    A NAME may come twice: while its caller changes from one key to the next. Raises
    ConfigurationError.
    """
    keys: dict[bytes, ApiKey] = {}
    faults = []
    for position, entry in enumerate(text.split(), 1):
        try:
            key = _read_api_key(entry, keywords)
        except ConfigurationError as error:
            faults += [f"entry {position} {fault}" for fault in error.faults]
            continue
        if key.digest in keys:
            faults.append(f"entry {position} ({key.name}) has the same key as an earlier one")
        keys.setdefault(key.digest, key)
    if faults:
        raise ConfigurationError(faults)
    return tuple(keys.values())


def _read_api_key(entry: str, keywords: Collection[str]) -> ApiKey:
    match = _KEY_ENTRY.fullmatch(entry)
    if match is None:
        raise ConfigurationError(
            [
                "is not NAME:SHA256HEX[:STORES[:RIGHTS]] with a NAME of up to 64 letters, digits "
                "and . _ - and the 64 hex digits of the key's SHA-256"
            ]
        )
    bound = match["stores"] not in (None, ALL_STORES)
    stores = frozenset(match["stores"].upper().split(",")) if bound else None
    rights = frozenset([] if match["rights"] is None else match["rights"].split(","))
    faults = []
    if stores and keywords and not stores <= set(keywords):
        # What is not like a keyword may be a key that got into the wrong place.
        named = ", ".join(sorted(filter(STORE_KEYWORD.fullmatch, stores - set(keywords))))
        what = f"the store {named}" if named else "a store"
        faults.append(f"({match['name']}) names {what}, which CRMTEXT_AUTH_STRINGS does not have")
    if not rights <= set(Right):
        faults.append(f"({match['name']}) has an unknown right; the rights are {', '.join(Right)}")
    if faults:
        raise ConfigurationError(faults)
    digest = bytes.fromhex(match["digest"])
    return ApiKey(match["name"], digest, stores, frozenset(map(Right, rights)))
