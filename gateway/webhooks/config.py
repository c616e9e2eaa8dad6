"""WEBHOOK_SOURCES, TOML, to checked sources: every fault in it named, not just the first."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence

from marshmallow import ValidationError

from gateway.errors import ConfigurationError
from gateway.webhooks.keys import Table, shown
from gateway.webhooks.recipes import read_recipes
from gateway.webhooks.source import WebhookSource
from gateway.webhooks.tables import SourceTable

# "webhook:NAME" has to fit the ledger's column for sources.
_SOURCE_NAME = re.compile(r"[A-Za-z0-9_-]{1,92}")
# Placeholder for an unknown recipe, so that only real faults are named beside that one.
_UNKNOWN_RECIPE: Table = {
    "opt_out": "@",
    "phone_numbers": "@",
    "signature": {"scheme": "hmac", "header": "-"},
}


def read_webhook_sources(
    text: str, *, secrets: Mapping[str, str], stores: Sequence[str], public_url: str | None
) -> Mapping[str, WebhookSource]:
    """The sources of a WEBHOOK_SOURCES text by name. ``secrets`` is the environment.

    ``stores`` are keywords in upper case, the default store first. Raises ConfigurationError with
    one line for each fault.
    """
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError([f"is not TOML: {' '.join(str(error).split())}"]) from None
    faults: list[str] = []
    sources: dict[str, WebhookSource] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            faults.append(f"{shown(name)}: is not a table; each source is a table, [{shown(name)}]")
            continue
        if not _SOURCE_NAME.fullmatch(name):
            faults.append(
                f"[{shown(name)}]: the name must be 1 to 92 ASCII letters, digits, - and _"
            )
        schema = SourceTable(name, secrets, stores, public_url)
        try:
            sources[name] = schema.load(_with_recipe(table))
        except ValidationError as error:
            faults += _faults(f"[{shown(name)}] ", error.messages)
    if faults:
        raise ConfigurationError(faults)
    return sources


def _with_recipe(table: Table) -> Table:
    if "recipe" not in table:
        return table
    name = table["recipe"]
    recipe = read_recipes().get(name) if isinstance(name, str) else None
    return _override(recipe.keys if recipe else _UNKNOWN_RECIPE, table)


def _override(base: Table, own: Table) -> Table:
    """A recipe with the source's own keys in its place, tables key by key.

    A signature of another scheme shares nothing with the recipe's and takes its place as a whole.
    """
    merged = dict(base)
    for key, value in own.items():
        under = base.get(key)
        if isinstance(value, dict) and isinstance(under, dict):
            same = value.get("scheme", under.get("scheme")) == under.get("scheme")
            merged[key] = _override(under, value) if same else value
        else:
            merged[key] = value
    return merged


def _faults(place: str, messages: object) -> Iterator[str]:
    """A line for each of marshmallow's messages, which are nested like the tables."""
    if isinstance(messages, dict):
        for key, below in messages.items():
            if key == "_schema":  # said of the table itself
                yield from _faults(place.removesuffix("."), below)
            else:
                dot = "." if isinstance(below, dict) else ""
                yield from _faults(f"{place}{shown(key)}{dot}", below)
    elif isinstance(messages, list):
        yield from (f"{place}: {message}" for message in messages)
