"""What the keys of a webhook source mean, and the recipes under them.

Everything here reads one part of a source's table, reports faults to it and answers with a
stand-in of the right type (see ``gateway.webhooks.toml_table``).
"""

import base64
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

from gateway.timestamps import TimestampFormat
from gateway.webhooks.expressions import Expression
from gateway.webhooks.signatures import Encoding, Hash, Scheme, Signature, Timestamp
from gateway.webhooks.toml_table import HEADER_NAME, Table, shown

_RECIPES = Path(__file__).with_name("recipes.toml")
_HEADER = "header:"
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_PLACEHOLDERS = frozenset({"{body}", "{timestamp}", "{method}", "{url}", "{id}"})


class Answer(StrEnum):
    """What a delivery is answered with."""

    JSON = "json"
    TWIML = "twiml"


class BodyFormat(StrEnum):
    """How a delivery's body is written."""

    JSON = "json"
    FORM = "form"


class SecretFormat(StrEnum):
    """What the text of a secret stands for: its own bytes, or those that it encodes."""

    TEXT = "text"
    WHSEC = "whsec"


def read_recipes() -> Mapping[str, Mapping[str, object]]:
    """The tables of recipes.toml by name."""
    recipes = tomllib.loads(_RECIPES.read_text(encoding="utf-8"))
    return {name: dict(recipe) for name, recipe in recipes.items()}


def override(base: Mapping[str, object], own: Mapping[str, object]) -> dict[str, object]:
    """A recipe with the source's own keys in its place, tables key by key.

    A signature of another scheme shares nothing with the recipe's and takes its place as a whole.
    """
    merged = dict(base)
    for key, value in own.items():
        under = base.get(key)
        if isinstance(value, dict) and isinstance(under, dict):
            same = value.get("scheme", under.get("scheme")) == under.get("scheme")
            merged[key] = override(under, value) if same else value
        else:
            merged[key] = value
    return merged


def read_signature(source: Table) -> tuple[Signature, SecretFormat]:
    """How a source's sender signs, and how its secret is written.

    A scheme has only the keys that mean something in it: what is not checked must not look so.
    """
    table = source.table("signature")
    if table is None:
        return Signature(Scheme.HMAC, ""), SecretFormat.TEXT
    scheme = table.choice("scheme", Scheme, Scheme.HMAC)
    secret_format = SecretFormat.TEXT
    if scheme is Scheme.TWILIO:
        header = table.header("header", "X-Twilio-Signature")
        signature = Signature(scheme, header, Hash.SHA1, Encoding.BASE64)
    else:
        signature = Signature(
            scheme,
            table.header("header"),
            prefix=table.any_text("prefix") or "",
            separator=table.any_text("separator") or "",
        )
    if scheme is Scheme.HMAC:
        secret_format = table.choice("secret_format", SecretFormat, SecretFormat.TEXT)
        signature = _read_hmac(table, signature)
    table.refuse_unknown_keys()
    return signature, secret_format


def _read_hmac(table: Table, signature: Signature) -> Signature:
    times = table.table("timestamp", required=False)
    signature = replace(
        signature,
        hash=table.choice("hash", Hash, Hash.SHA256),
        encoding=table.choice("encoding", Encoding, Encoding.HEX),
        signed=table.text("signed", "{body}"),
        id_header=table.header("id_header", ""),
        timestamp=_read_timestamp(times) if times else None,
    )
    placeholders = signature.placeholders
    for unknown in sorted(placeholders - _PLACEHOLDERS):
        table.fault("signed", f"{shown(unknown)} is none of {' '.join(sorted(_PLACEHOLDERS))}")
    if "{body}" not in placeholders:
        table.fault("signed", "must hold {body}, or anybody could change it")
    if "{timestamp}" in placeholders and table.get("timestamp") is None:
        table.fault("signed", "holds {timestamp}, but there is no timestamp")
    if "{id}" in placeholders and table.get("id_header") is None:
        table.fault("signed", "holds {id}, but there is no id_header")
    return signature


def _read_timestamp(table: Table) -> Timestamp:
    timestamp = Timestamp(
        table.header("header"),
        table.choice("format", TimestampFormat, TimestampFormat.UNIX),
        table.seconds("tolerance", 300),
    )
    table.refuse_unknown_keys()
    return timestamp


def read_secrets(
    table: Table, environment: Mapping[str, str], secret_format: SecretFormat
) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    """The variables that ``secret_env`` names, and their keys; each of them has to be set."""
    value = table.get("secret_env")
    listed = value if isinstance(value, list) else [value]
    names = tuple(name for name in listed if isinstance(name, str) and name)
    if value is None:
        table.fault("secret_env", "is missing")
    elif not names or len(names) < len(listed):
        table.fault("secret_env", "must be the name of an environment variable, or a list of them")
    keys = [_read_secret(table, name, environment.get(name, ""), secret_format) for name in names]
    return names, tuple(keys)


def _read_secret(table: Table, name: str, secret: str, secret_format: SecretFormat) -> bytes:
    # what is not spelt like a variable may be the secret itself, put there by mistake
    variable = name if _VARIABLE.fullmatch(name) else "the environment variable that it names"
    if not secret.strip():
        table.fault("secret_env", f"{variable} is not set")
        return b""
    try:
        if secret_format is SecretFormat.TEXT:
            return secret.encode("utf-8", "surrogateescape")  # os.environ's way with other bytes
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not key:
        table.fault("secret_env", f"{variable} is not base64 after whsec_")
    return key


def read_store(table: Table, stores: Sequence[str]) -> str:
    text = table.text("store", stores[0] if stores else "")
    keyword = text.upper() if text.isascii() else text  # "ß".upper() is "SS", another store
    if stores and keyword not in stores:
        table.fault("store", f"must be one of {', '.join(stores)}")
    return keyword


def read_delivery_id(table: Table) -> tuple[Expression | None, str | None]:
    value = table.get("delivery_id")
    if not (isinstance(value, str) and value.startswith(_HEADER)):
        return table.expression("delivery_id"), None
    header = value.removeprefix(_HEADER).strip()
    if not HEADER_NAME.fullmatch(header):
        table.fault("delivery_id", "must name a header after header:")
    return None, header
