"""The tables of a webhook source as marshmallow schemas: their keys, and how these fit together."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, post_load, validates_schema

from gateway.bodies import BodyFormat
from gateway.timestamps import TimestampFormat
from gateway.webhooks import keys
from gateway.webhooks.keys import Key, Table, shown
from gateway.webhooks.signatures import (
    Encoding,
    Hash,
    Scheme,
    SecretFormat,
    Signature,
    Timestamp,
    placeholders_of,
)
from gateway.webhooks.source import Answer, WebhookSource

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_PLACEHOLDERS = frozenset({"{body}", "{timestamp}", "{method}", "{url}", "{id}"})


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
    header = Key(keys.header_name, required=True)
    format = Key(keys.one_of(TimestampFormat), load_default=TimestampFormat.UNIX)
    tolerance = Key(keys.seconds, load_default=300.0)

    @post_load
    def _make(self, loaded: dict[str, Any], **_: object) -> Timestamp:
        return Timestamp(**loaded)


def _timestamp(value: object) -> Timestamp:
    timestamp: Timestamp = _TimestampTable().load(keys.table(value))
    return timestamp


class _TokenTable(_Table):
    scheme = Key(keys.one_of(Scheme), load_default=Scheme.HMAC)
    header = Key(keys.header_name, required=True)
    prefix = Key(keys.any_text)
    separator = Key(keys.any_text)

    @post_load
    def _make(self, loaded: dict[str, Any], **_: object) -> Signature:
        return Signature(**loaded)


class _TwilioTable(_Table):
    scheme = Key(keys.one_of(Scheme))
    header = Key(keys.header_name, load_default="X-Twilio-Signature")

    @post_load
    def _make(self, loaded: dict[str, Any], **_: object) -> Signature:
        return Signature(**loaded, hash=Hash.SHA1, encoding=Encoding.BASE64)


class _HmacTable(_TokenTable):
    hash = Key(keys.one_of(Hash))
    encoding = Key(keys.one_of(Encoding))
    signed = Key(keys.text)
    secret_format = Key(keys.one_of(SecretFormat))
    id_header = Key(keys.header_name)
    timestamp = Key(_timestamp)

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
    table = keys.table(value)
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

    recipe = Key(keys.recipe_name, load_default=None)
    secret_env = Key(keys.variable_names, required=True)
    store = Key(keys.keyword, load_default=None)
    body = Key(keys.one_of(BodyFormat), load_default=BodyFormat.JSON)
    events = Key(keys.expression, load_default=None)
    takes_list = Key(keys.flag, data_key="list", load_default=True)
    opt_out = Key(keys.expression, required=True)
    phone_numbers = Key(keys.expression, required=True)
    delivery_id = Key(keys.message_id, load_default=None)
    requested_at = Key(keys.expression, load_default=None)
    late = Key(keys.seconds, load_default=7 * 24 * 3600.0)
    answer = Key(keys.one_of(Answer), load_default=Answer.JSON)
    signature = Key(_signature, required=True)

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
                what = "has a line end in it, or a blank at its beginning or end"
                faults.append(f"{variable} {what}, which no header can carry")
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
