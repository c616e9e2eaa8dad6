"""How the values of a webhook source's keys are read, one function a kind of value.

Each raises ValidationError that says what is wrong. It never repeats the value, since a secret may
have been written into the wrong place.
"""

import json
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from marshmallow import ValidationError, fields

from gateway.webhooks.expressions import Expression, InvalidExpression
from gateway.webhooks.recipes import read_recipes
from gateway.webhooks.signatures import HEADER_NAME

_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = "header:"
_MOST_SECONDS = 10**9

Table = Mapping[str, object]


def shown(key: str) -> str:
    """A key as TOML would write it, on one line whatever it holds."""
    return key if _SIMPLE_KEY.fullmatch(key) else json.dumps(key)


class Key(fields.Field[Any]):
    """One key of a table. ``read`` gives its value, or raises ValidationError."""

    def __init__(self, read: Callable[[object], object], **options: Any) -> None:
        super().__init__(error_messages={"required": "is missing"}, **options)
        self._read = read

    def _deserialize(self, value: object, *_: object, **__: object) -> object:
        return self._read(value)


def any_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValidationError("must be a string")
    return value


def text(value: object) -> str:
    if value == "":
        raise ValidationError("must not be empty")
    return any_text(value)


def header_name(value: object) -> str:
    if not HEADER_NAME.fullmatch(text(value)):
        raise ValidationError("is not the name of a header")
    return text(value)


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValidationError("must be true or false")
    return value


def seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValidationError("must be a positive number of seconds")
    if not 0 < value < _MOST_SECONDS:  # neither nan nor too large for arithmetic
        raise ValidationError("must be a positive number of seconds")
    return float(value)


def one_of(choices: type[StrEnum]) -> Callable[[object], StrEnum]:
    def read(value: object) -> StrEnum:
        if value not in list(choices):
            raise ValidationError(f"must be one of {', '.join(choices)}")
        return choices(str(value))

    return read


def expression(value: object) -> Expression:
    try:
        return Expression.compile(text(value))
    except InvalidExpression as error:
        raise ValidationError(str(error)) from None


def message_id(value: object) -> Expression | str:
    """The name of a header, or an expression."""
    if not (isinstance(value, str) and value.startswith(_HEADER)):
        return expression(value)
    name = value.removeprefix(_HEADER).strip()
    if not HEADER_NAME.fullmatch(name):
        raise ValidationError("must name a header after 'header:'")
    return name


def variable_names(value: object) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(name, str) and name for name in listed):
        raise ValidationError("must be the name of an environment variable, or a list of them")
    return tuple(listed)


def recipe_name(value: object) -> str:
    if not isinstance(value, str) or value not in read_recipes():
        raise ValidationError(f"must be one of {', '.join(read_recipes())}")
    return value


def keyword(value: object) -> str:
    given = text(value)
    return given.upper() if given.isascii() else given  # "ß".upper() is "SS", another store


def table(value: object) -> Table:
    if not isinstance(value, dict):
        raise ValidationError("must be a table")
    return value
