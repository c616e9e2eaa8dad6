"""Who may act on what: the stores of the CRM Text account, and the callers' API keys."""

import re
from dataclasses import dataclass, field

KEY_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
# CRM Text's rule for keywords; a colon or a comma would end it in an entry of the environment.
STORE_KEYWORD = re.compile(r"(?![0-9]+$)[!-+\--9;-~]{4,19}")


@dataclass(frozen=True)
class Store:
    """A store of the CRM Text account: its primary keyword in upper case, and what opens it."""

    keyword: str
    auth_string: str = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown, should CRM Text repeat it."""
        username, _, rest = self.auth_string.partition(":")
        password = rest.rpartition(":")[0]
        # A username of a few letters is part of many words, and gives nothing away.
        return (self.auth_string, password, *([username] if len(username) > 3 else []))


@dataclass(frozen=True)
class ApiKey:
    """A caller's key: only its SHA-256 is known. ``stores`` is None where it is bound to none."""

    name: str
    digest: bytes = field(repr=False)
    stores: frozenset[str] | None

    def may_act_on(self, store: str) -> bool:
        return self.stores is None or store in self.stores
