"""TOML tables that are read completely: every fault in them named, not just the first.

A reading method reports what is wrong and then answers with a stand-in of the right type, so that
everything else is checked too; whoever reads looks at the faults before using anything. Values are
never repeated in a fault, since a secret may have been written into the wrong place.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from gateway.errors import ConfigurationError
from gateway.webhooks.expressions import Expression, InvalidExpression

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_MOST_SECONDS = 10**9

Choice = TypeVar("Choice", bound=StrEnum)


class Table:
    """One table being read; ``place`` leads each fault, what was never asked for is unknown."""

    def __init__(self, entries: Mapping[str, object], place: str, faults: list[str]) -> None:
        self._entries = entries
        self._place = place
        self._faults = faults
        self._asked: set[str] = set()

    def fault(self, key: str, what: str) -> None:
        self._faults.append(f"{self._place}{shown(key)}: {what}")

    def get(self, key: str) -> object:
        """The value as TOML has it, None if it is not there."""
        self._asked.add(key)
        return self._entries.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not empty; without a default the key is required."""
        text = self.any_text(key)
        if text is None and default is None:
            self.fault(key, "is missing")
        elif text == "":
            self.fault(key, "must not be empty")
        return text or default or ""

    def any_text(self, key: str) -> str | None:
        """A text, be it empty; None if the key is not there."""
        value = self.get(key)
        if value is None or isinstance(value, str):
            return value
        self.fault(key, "must be a text")
        return ""

    def header(self, key: str, default: str | None = None) -> str:
        name = self.text(key, default)
        if name and not HEADER_NAME.fullmatch(name):
            self.fault(key, "is not the name of a header")
        return name

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            self.fault(key, "must be true or false")
        return value if isinstance(value, bool) else default

    def seconds(self, key: str, default: float) -> float:
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool) and _is_duration(value):
            return float(value)
        self.fault(key, "must be a positive number of seconds")
        return default

    def choice(self, key: str, choices: type[Choice], default: Choice | None = None) -> Choice:
        """One of the enum's values; without a default the key is required."""
        members = list(choices)
        value = self.get(key)
        if value is None and default is None:
            self.fault(key, "is missing")
        elif value is not None and value not in members:
            self.fault(key, f"must be one of {', '.join(members)}")
        return next((member for member in members if member == value), default or members[0])

    def expression(self, key: str) -> Expression | None:
        """None if the key is not there."""
        text = self.text(key, "")
        return self._compile(key, text) if text else None

    def required_expression(self, key: str) -> Expression:
        text = self.text(key)
        return self._compile(key, text) if text else Expression.compile("@")

    def _compile(self, key: str, text: str) -> Expression:
        try:
            return Expression.compile(text)
        except InvalidExpression as error:
            self.fault(key, f"is no JMESPath: {error}")
            return Expression.compile("@")

    def table(self, key: str, *, required: bool = True) -> "Table | None":
        value = self.get(key)
        if isinstance(value, dict):
            return Table(value, f"{self._place}{key}.", self._faults)
        if value is not None:
            self.fault(key, "must be a table")
        elif required:
            self.fault(key, "is missing")
        return None

    def refuse_unknown_keys(self) -> None:
        for key in self._entries:
            if key not in self._asked:
                self.fault(key, f"unknown key; known here: {', '.join(sorted(self._asked))}")


def _is_duration(seconds: float) -> bool:
    return 0 < seconds < _MOST_SECONDS  # neither nan nor too large for arithmetic


def shown(key: str) -> str:
    """A key as TOML would write it, on one line whatever it holds."""
    return key if _SIMPLE_KEY.fullmatch(key) else json.dumps(key)


def read_toml(text: str) -> Mapping[str, object]:
    """Raises ConfigurationError if it is none."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError([f"is not TOML: {' '.join(str(error).split())}"]) from None
