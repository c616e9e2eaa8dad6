"""The tables of a webhook source as marshmallow schemas: its keys, and what is wrong with a value.

A message never repeats a value, since a secret may have been written into the wrong place.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validates_schema

from gateway.bodies import BodyFormat
from gateway.timestamps import TimestampFormat
from gateway.webhooks.expressions import Expression, InvalidExpression
from gateway.webhooks.recipes import read_recipes
from gateway.webhooks.signatures import (
    HEADER_NAME,
    Encoding,
    Hash,
    Scheme,
    SecretFormat,
    Signature,
    Timestamp,
    placeholders_of,
)
from gateway.webhooks.source import Answer, WebhookSource

_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_HEADER = "header:"
_PLACEHOLDERS = frozenset({"{body}", "{timestamp}", "{method}", "{url}", "{id}"})
_MOST_SECONDS = 10**9

Table = Mapping[str, object]


def shown(key: str) -> str:
    """A key as TOML would write it, on one line whatever it holds."""
    return key if _SIMPLE_KEY.fullmatch(key) else json.dumps(key)


class _Key(fields.Field[Any]):
    """One key of a table. ``read`` gives its value, or raises ValidationError."""

    def __init__(self, read: Callable[[object], object], **options: Any) -> None:
        super().__init__(error_messages={"required": "is missing"}, **options)
        self._read = read

    def _deserialize(self, value: object, *_: object, **__: object) -> object:
        return self._read(value)


def _any_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValidationError("must be a string")
    return value


def _text(value: object) -> str:
    if value == "":
        raise ValidationError("must not be empty")
    return _any_text(value)


def _header(value: object) -> str:
    if not HEADER_NAME.fullmatch(_text(value)):
        raise ValidationError("is not the name of a header")
    return _text(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValidationError("must be true or false")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValidationError("must be a positive number of seconds")
    if not 0 < value < _MOST_SECONDS:  # neither nan nor too large for arithmetic
        raise ValidationError("must be a positive number of seconds")
    return float(value)


def _one_of(choices: type[StrEnum]) -> Callable[[object], StrEnum]:
    def read(value: object) -> StrEnum:
        if value not in list(choices):
            raise ValidationError(f"must be one of {', '.join(choices)}")
        return choices(str(value))

    return read


def _expression(value: object) -> Expression:
    try:
        return Expression.compile(_text(value))
    except InvalidExpression as error:
        raise ValidationError(str(error)) from None


def _message_id(value: object) -> Expression | str:
    """The name of a header, or an expression."""
    if not (isinstance(value, str) and value.startswith(_HEADER)):
        return _expression(value)
    header = value.removeprefix(_HEADER).strip()
    if not HEADER_NAME.fullmatch(header):
        raise ValidationError("must name a header after 'header:'")
    return header


def _names(value: object) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(name, str) and name for name in listed):
        raise ValidationError("must be the name of an environment variable, or a list of them")
    return tuple(listed)


def _recipe(value: object) -> str:
    if not isinstance(value, str) or value not in read_recipes():
        raise ValidationError(f"must be one of {', '.join(read_recipes())}")
    return value


def _keyword(value: object) -> str:
    text = _text(value)
    return text.upper() if text.isascii() else text  # "ß".upper() is "SS", another store


def _table(value: object) -> Table:
    if not isinstance(value, dict):
        raise ValidationError("must be a table")
    return value


class _Table(Schema):
    """A table of which every key has to be known: what is not checked must not look so."""

    class Meta:
        unknown = EXCLUDE  # refused below, in the order in which they were written

    @validates_schema(skip_on_field_errors=False, pass_original=True)
    def _refuse_unknown_keys(self, _: object, original: Table, **__: object) -> None:
        known = sorted(field.data_key or name for name, field in self.fields.items())
        what = f"unknown key; known here: {', '.join(known)}"
        faults = {key: [what] for key in original if key not in known}
        if faults:
            raise ValidationError(faults)


class _TimestampTable(_Table):
    header = _Key(_header, required=True)
    format = _Key(_one_of(TimestampFormat), load_default=TimestampFormat.UNIX)
    tolerance = _Key(_seconds, load_default=300.0)

    @post_load
    def _make(self, loaded: dict[str, Any], **_: object) -> Timestamp:
        return Timestamp(**loaded)


def _timestamp(value: object) -> Timestamp:
    timestamp: Timestamp = _TimestampTable().load(_table(value))
    return timestamp


class _TokenTable(_Table):
    scheme = _Key(_one_of(Scheme), load_default=Scheme.HMAC)
    header = _Key(_header, required=True)
    prefix = _Key(_any_text)
    separator = _Key(_any_text)

    @post_load
    def _make(self, loaded: dict[str, Any], **_: object) -> Signature:
        return Signature(**loaded)


class _TwilioTable(_Table):
    scheme = _Key(_one_of(Scheme))
    header = _Key(_header, load_default="X-Twilio-Signature")

    @post_load
    def _make(self, loaded: dict[str, Any], **_: object) -> Signature:
        return Signature(**loaded, hash=Hash.SHA1, encoding=Encoding.BASE64)


class _HmacTable(_TokenTable):
    hash = _Key(_one_of(Hash))
    encoding = _Key(_one_of(Encoding))
    signed = _Key(_text)
    secret_format = _Key(_one_of(SecretFormat))
    id_header = _Key(_header)
    timestamp = _Key(_timestamp)

    @validates_schema(skip_on_field_errors=False, pass_original=True)
    def _check_signed(self, loaded: dict[str, Any], original: Table, **_: object) -> None:
        placeholders = placeholders_of(loaded.get("signed", "{body}"))
        known = " ".join(sorted(_PLACEHOLDERS))
        faults = [
            f"{shown(unknown)} is unknown; known here: {known}"
            for unknown in sorted(placeholders - _PLACEHOLDERS)
        ]
        if "{body}" not in placeholders:
            faults.append("must contain {body}, or anybody could change the body")
        if "{timestamp}" in placeholders and "timestamp" not in original:
            faults.append("contains {timestamp}, but there is no timestamp key")
        if "{id}" in placeholders and "id_header" not in original:
            faults.append("contains {id}, but there is no id_header key")
        if faults:
            raise ValidationError({"signed": faults})


def _signature(value: object) -> Signature:
    """Each scheme has only the keys that mean something in it."""
    table = _table(value)
    match table.get("scheme"):
        case Scheme.TOKEN:
            schema: Schema = _TokenTable()
        case Scheme.TWILIO:
            schema = _TwilioTable()
        case _:
            schema = _HmacTable()
    signature: Signature = schema.load(table)
    return signature


class SourceTable(_Table):
    """One source, all of it. Loading gives a WebhookSource."""

    recipe = _Key(_recipe, load_default=None)
    secret_env = _Key(_names, required=True)
    store = _Key(_keyword, load_default=None)
    body = _Key(_one_of(BodyFormat), load_default=BodyFormat.JSON)
    events = _Key(_expression, load_default=None)
    takes_list = _Key(_flag, data_key="list", load_default=True)
    opt_out = _Key(_expression, required=True)
    phone_numbers = _Key(_expression, required=True)
    delivery_id = _Key(_message_id, load_default=None)
    requested_at = _Key(_expression, load_default=None)
    late = _Key(_seconds, load_default=7 * 24 * 3600.0)
    answer = _Key(_one_of(Answer), load_default=Answer.JSON)
    signature = _Key(_signature, required=True)

    def __init__(
        self,
        name: str,
        environment: Mapping[str, str],
        stores: Sequence[str],
        public_url: str | None,
    ) -> None:
        super().__init__()
        self._name, self._environment = name, environment
        self._stores, self._public_url = stores, public_url

    @validates_schema(skip_on_field_errors=False)
    def _check_secrets(self, loaded: dict[str, Any], **_: object) -> None:
        faults = []
        for name in loaded.get("secret_env", ()):
            # a name unlike a variable's may be the secret itself, put there by mistake
            variable = name if _VARIABLE.fullmatch(name) else "the environment variable it names"
            secret = self._environment.get(name, "")
            signature = _sound_signature(loaded)
            if not secret.strip():
                faults.append(f"{variable} is not set")
            elif signature and not signature.secret_format.key(secret):
                faults.append(f"{variable} is not base64 after whsec_")
            elif signature and not _fits_a_header(signature, secret):
                what = "has a line end in it, or a blank at its end, which no header can carry"
                faults.append(f"{variable} {what}")
        if faults:
            raise ValidationError(faults, "secret_env")

    @validates_schema(skip_on_field_errors=False)
    def _check_signature(self, loaded: dict[str, Any], **_: object) -> None:
        signature = _sound_signature(loaded)
        if signature and signature.signs_url and not self._public_url:
            raise ValidationError("covers the address, so PUBLIC_URL must be set", "signature")

    @validates_schema(skip_on_field_errors=False)
    def _check_body(self, loaded: dict[str, Any], **_: object) -> None:
        signature = _sound_signature(loaded)
        is_twilio = signature is not None and signature.scheme is Scheme.TWILIO
        if is_twilio and loaded.get("body") is BodyFormat.JSON:
            what = "must be form: Twilio signs the fields of a form"
            raise ValidationError(what, "body")

    @validates_schema(skip_on_field_errors=False)
    def _check_store(self, loaded: dict[str, Any], **_: object) -> None:
        store = loaded.get("store")
        if self._stores and store and store not in self._stores:
            raise ValidationError(f"must be one of {', '.join(self._stores)}", "store")

    @post_load
    def _make(self, loaded: dict[str, Any], **_: object) -> WebhookSource:
        message_id = loaded.pop("delivery_id")
        is_header = isinstance(message_id, str)
        secret_format = loaded["signature"].secret_format
        return WebhookSource(
            name=self._name,
            store=loaded.pop("store") or next(iter(self._stores), ""),
            delivery_id=None if is_header else message_id,
            delivery_id_header=message_id if is_header else None,
            secrets=tuple(
                secret_format.key(self._environment[name]) for name in loaded["secret_env"]
            ),
            warnings=tuple(
                f"{name} {odd}"
                for name in loaded["secret_env"]
                for odd in _what_is_odd(self._environment[name])
            ),
            **loaded,
        )


def _fits_a_header(signature: Signature, secret: str) -> bool:
    """A token is sent as it is; of an HMAC's secret nothing but its bytes matters."""
    if signature.scheme is not Scheme.TOKEN:
        return True
    text = signature.prefix + secret
    return text == text.strip() and not re.search(r"[\r\n\0]", text)


def _what_is_odd(secret: str) -> Iterator[str]:
    """What was probably copied along with a secret, although the secret could be meant so."""
    if secret != secret.rstrip("\r\n"):
        yield "ends with a line end"
    elif secret != secret.strip():
        yield "has blanks around it"
    bare = secret.strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'`":
        yield "has quotes around it"


def _sound_signature(loaded: Mapping[str, object]) -> Signature | None:
    """None if its own table has faults: what depends on it cannot be checked."""
    signature = loaded.get("signature")
    return signature if isinstance(signature, Signature) else None
