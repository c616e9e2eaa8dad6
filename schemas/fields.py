"""The fields that requests are made of, stricter than marshmallow's own: nothing is coerced."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from marshmallow import Schema, ValidationError, fields, validates

from gateway.errors import ErrorCode, FieldError
from gateway.phone_number import PhoneNumber, mask_phone_numbers, read_phone_number
from gateway.timestamps import read_rfc3339

_MOST_ERRORS = 100
_LONGEST_NAME = 100
# Strict readers of JSON refuse what holds one.
_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")


class Fault(str):
    """What is wrong with a field: the rest of a sentence that begins with its name, and a code."""

    __slots__ = ("code",)
    code: str

    def __new__(cls, words: str, code: str = "invalid") -> "Fault":
        fault = super().__new__(cls, words)
        fault.code = code
        return fault

    def format(self, *_: object, **__: object) -> "Fault":
        """Itself; marshmallow formats its messages, which would lose the code."""
        return self


_REQUIRED = Fault("is required", "required")


class StrictSchema(Schema):
    """A request: unknown fields are refused, so that a typo is never silently ignored."""

    error_messages = {  # noqa: RUF012, as marshmallow declares it
        "unknown": Fault("is not a field of this request", "unknown_field")
    }


class UsPhoneNumber(fields.Field[PhoneNumber]):
    """A usable US number, as text in any usual spelling or as an integer."""

    default_error_messages = {  # noqa: RUF012, as marshmallow declares it
        "required": _REQUIRED,
        "null": _REQUIRED,
    }

    def _deserialize(self, value: object, *_: object, **__: object) -> PhoneNumber:
        number = read_phone_number(value)
        if number.flaw is not None:
            raise ValidationError(Fault(number.flaw, ErrorCode.INVALID_PHONE_NUMBER))
        return number


class Text(fields.String):
    """A text of at most ``longest`` characters that every database can keep unchanged."""

    def __init__(self, *, longest: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.longest = longest

    def _deserialize(self, value: object, *_: object, **__: object) -> str:
        if not isinstance(value, str):
            raise ValidationError("must be a string")
        if len(value) > self.longest:
            raise ValidationError(f"is longer than {self.longest} characters")
        if re.search("[\0\ud800-\udfff]", value):
            raise ValidationError("contains NUL or half of a surrogate pair")
        return value


class Choice(fields.String):
    """A member of an enum, by its value. The OpenAPI document has one component for each enum.

    ``among`` limits what it loads. Dumps any other text as it is: a newer version of the gateway
    may have written it.
    """

    def __init__(
        self, enum: type[StrEnum], *, among: Sequence[StrEnum] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.enum = enum
        self.among = among

    def _deserialize(self, value: object, *_: object, **__: object) -> str:
        choices = self.among or list(self.enum)
        if not isinstance(value, str) or value not in choices:
            raise ValidationError(f"must be one of {', '.join(choices)}")
        return value


class StoreName(fields.String):
    """The primary keyword of a store, in any case; loads in upper case."""

    def _deserialize(self, value: object, *_: object, **__: object) -> str:
        if not isinstance(value, str):
            raise ValidationError("must be a string")
        # Other scripts have letters that become ASCII in upper case: they name no store.
        return value.upper() if value.isascii() else value


class StoreSchema(StrictSchema):
    """A request that may name one of the ``stores`` that are configured."""

    store = StoreName(
        load_default=None,
        metadata={"description": "primary keyword of a store, in any case", "example": "PIZZA"},
    )

    def __init__(self, stores: Collection[str]) -> None:
        super().__init__()
        self._stores = stores

    @validates("store")
    def _is_configured(self, store: str | None, **_: object) -> None:
        if store is not None and store not in self._stores:
            words = "is not the primary keyword of a configured store"
            raise ValidationError(Fault(words, "unknown_store"))


class Time(fields.DateTime):
    """A moment in RFC 3339 with an offset; loads aware and in UTC, dumps with Z."""

    def _deserialize(self, value: object, *_: object, **__: object) -> datetime:
        # A space in place of the T is for people; some senders of webhooks use it all the same.
        moment = read_rfc3339(value) if isinstance(value, str) and " " not in value else None
        if moment is None:
            raise ValidationError("must be a time like 2026-11-22T20:00:00Z (RFC 3339)")
        return moment

    def _serialize(self, value: datetime | None, *_: object, **__: object) -> str | None:
        return None if value is None else value.isoformat().replace("+00:00", "Z")


class WholeNumber(fields.Integer):
    """A JSON integer from ``least`` to ``most``."""

    def __init__(self, *, least: int, most: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.least, self.most = least, most

    def _deserialize(self, value: object, *_: object, **__: object) -> int:
        if type(value) is not int or not self.least <= value <= self.most:
            raise ValidationError(f"must be a whole number from {self.least} to {self.most}")
        return value


def field_errors(error: ValidationError) -> Sequence[FieldError]:
    """What is wrong with each field that a load refused; names that a caller made up are cut."""
    messages = error.messages
    if not isinstance(messages, Mapping):
        raise TypeError("a schema's messages are kept by field")
    errors = []
    for name, faults in list(messages.items())[:_MOST_ERRORS]:
        code = faults[0].code if isinstance(faults[0], Fault) else "invalid"
        readable = _HALF_OF_A_PAIR.sub("\N{REPLACEMENT CHARACTER}", name)
        shown = mask_phone_numbers(readable)[:_LONGEST_NAME]
        pointer = "/" + shown.replace("~", "~0").replace("/", "~1")
        errors.append(FieldError(pointer, code, f"{shown} {faults[0]}."))
    return errors
