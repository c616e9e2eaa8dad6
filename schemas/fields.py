"""The fields that requests are made of, stricter than marshmallow's own: nothing is coerced."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, ValidationError, fields

from gateway.errors import ErrorCode, FieldError
from gateway.phone_number import mask_phone_numbers, read_phone_number

_MOST_ERRORS = 100
_LONGEST_NAME = 100
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_REQUIRED = "is required"
_UNKNOWN_FIELD = "is not a field of this request"
_UNKNOWN_STORE = "is not the primary keyword of a configured store"
_CODES = {
    _REQUIRED: "required",
    _UNKNOWN_FIELD: "unknown_field",
    _UNKNOWN_STORE: "unknown_store",
}


class StrictSchema(Schema):
    """A request: unknown fields are refused, so that a typo is never silently ignored."""

    error_messages = {"unknown": _UNKNOWN_FIELD}  # noqa: RUF012, as marshmallow declares it


class PhoneNumber(fields.Field[str]):
    """A US number as text in any usual spelling or as an integer; loads as 10 digits."""

    error_code = ErrorCode.INVALID_PHONE_NUMBER.value
    default_error_messages = {  # noqa: RUF012, as marshmallow declares it
        "required": _REQUIRED,
        "null": _REQUIRED,
    }

    def _deserialize(self, value: object, *_: object, **__: object) -> str:
        number = read_phone_number(value)
        if number.digits is None:
            raise ValidationError(str(number.fault))
        return number.digits


class Text(fields.String):
    """A text of at most ``longest`` characters that every database can keep unchanged."""

    def __init__(self, *, longest: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.longest = longest

    def _deserialize(self, value: object, *_: object, **__: object) -> str:
        if not isinstance(value, str):
            raise ValidationError("must be a text")
        if len(value) > self.longest:
            raise ValidationError(f"is longer than {self.longest} characters")
        if re.search("[\0\ud800-\udfff]", value):
            raise ValidationError("holds NUL or half of a surrogate pair")
        return value


class StoreName(fields.String):
    """The primary keyword of one of ``stores``, in any case; loads in upper case."""

    stores: Collection[str] = ()

    def _deserialize(self, value: object, *_: object, **__: object) -> str:
        if not isinstance(value, str):
            raise ValidationError("must be a text")
        # Other scripts have letters that become ASCII in upper case: they name no store.
        if not value.isascii() or value.upper() not in self.stores:
            raise ValidationError(_UNKNOWN_STORE)
        return value.upper()


class StoreSchema(StrictSchema):
    """A request that may name one of the ``stores`` that are configured."""

    store = StoreName(
        load_default=None,
        metadata={"description": "primary keyword of a store, in any case", "example": "PIZZA"},
    )

    def __init__(self, stores: Collection[str]) -> None:
        super().__init__()
        field = self.fields["store"]
        if isinstance(field, StoreName):
            field.stores = stores


class Time(fields.DateTime):
    """A moment in RFC 3339 with an offset; loads aware and in UTC, dumps with Z."""

    def _deserialize(self, value: object, *_: object, **__: object) -> datetime:
        if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
            raise ValidationError("must be a time like 2026-11-22T20:00:00Z (RFC 3339)")
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValidationError("is a time that does not exist") from None

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


def field_errors(schema: Schema, error: ValidationError) -> Sequence[FieldError]:
    """What a load refused, each with its pointer; names that a caller made up are clipped."""
    messages = error.messages
    if not isinstance(messages, Mapping):
        raise TypeError("a schema's messages are kept by field")
    errors = []
    for name, problems in list(messages.items())[:_MOST_ERRORS]:
        field = schema.fields.get(name)
        code = str(_CODES.get(problems[0]) or getattr(field, "error_code", "invalid"))
        shown = mask_phone_numbers(name)[:_LONGEST_NAME]
        pointer = "/" + shown.replace("~", "~0").replace("/", "~1")
        errors.append(FieldError(pointer, code, f"{shown} {problems[0]}."))
    return errors
